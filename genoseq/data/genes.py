"""Genes: coding sequences of a GFF3 file, or open reading frames; and what an allele does to what they code for."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
from Bio.Data.CodonTable import unambiguous_dna_by_id
from numpy.typing import NDArray

from genoseq.data.fasta import BASES, open_file
from genoseq.data.genome import Genome, Record
from genoseq.errors import UserError

SHORTEST = 300
"""Bases of an open reading frame, its stop included, at least."""
STARTS = ("ATG", "GTG", "TTG")
"""Start codons of bacteria that are common."""
TABLE = unambiguous_dna_by_id[11]
"""NCBI's genetic code of bacteria, archaea and plastids."""
AMINO_ACID = {**TABLE.forward_table, **dict.fromkeys(TABLE.stop_codons, "*")}
"""Of each codon; ``*`` is a stop."""
_BIN = 4096  # bases that share a list of genes
_COMPLEMENT = np.array([0, 3, 4, 1, 2], dtype=np.uint8)

Codes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Gene:
    """A coding sequence."""

    name: str
    strand: str  # + or -
    parts: tuple[tuple[int, int], ...]  # in Genome.codes, half-open, in the order of translation
    skip: int = 0  # bases before the first whole codon

    def __len__(self) -> int:
        """Return the number of bases."""
        return sum(end - start for start, end in self.parts)

    @property
    def span(self) -> tuple[int, int]:
        """Lowest start and highest end of its parts."""
        return min(start for start, _ in self.parts), max(end for _, end in self.parts)


class Feature(NamedTuple):
    """A line of a GFF3 file."""

    where: str  # the file and the line, for messages
    record: Record
    kind: str
    start: int  # in Genome.codes
    end: int  # beyond the record's end where it crosses the origin of a circular one
    strand: str
    phase: int
    notes: dict[str, str]


def read_features(path: Path, genome: Genome) -> Iterator[Feature]:
    """Yield the features of a GFF3 file, plain or compressed, up to ``##FASTA``.

    Raises
    ------
    UserError
        If a line is no feature, or lies outside the genome.
    """
    records, circular = {record.name: record for record in genome.records}, set()
    with open_file(path) as stream:
        for number, raw in enumerate(stream, 1):
            line, where = raw.decode(errors="replace").rstrip("\r\n"), f"{path}, line {number}"
            if line.startswith(("##FASTA", ">")):
                return
            if not line.strip() or line.startswith("#"):
                continue
            fields = line.split("\t")
            if len(fields) != 9:
                raise UserError(f"{where}: a line of GFF3 has 9 fields between tabs, this one has {len(fields)}")
            name, kind, strand, phase = (unquote(fields[i]) for i in (0, 2, 6, 7))
            if name not in records:
                raise UserError(f"{where}: genome '{genome.name}' has no record '{name}'")
            record = records[name]
            if not all(re.fullmatch("[0-9]{1,15}", field) for field in fields[3:5]):
                raise UserError(f"{where}: start and end must be whole numbers, got {fields[3]} and {fields[4]}")
            if strand not in ("+", "-", ".", "?") or phase not in ("0", "1", "2", "."):
                raise UserError(
                    f"{where}: strand must be one of + - . ?, and phase of 0 1 2 ., got {strand} and {phase}"
                )
            pairs = (note.partition("=") for note in fields[8].split(";") if "=" in note)
            notes = {unquote(key.strip()): unquote(value) for key, _, value in pairs}
            circular |= {name} if notes.get("Is_circular") == "true" else set()
            first, last = int(fields[3]), int(fields[4])
            limit = record.length * (2 if name in circular else 1)
            if not (1 <= first <= last <= limit and first <= record.length):
                raise UserError(f"{where}: {first}-{last} is not inside '{name}', which has {record.length:,} bases")
            start, end = record.start + first - 1, record.start + last
            yield Feature(where, record, kind, start, end, strand, int(phase) if phase != "." else 0, notes)


def read_genes(path: Path, genome: Genome) -> list[Gene]:
    """Return the coding sequences (CDS) of a GFF3 file; lines with one ID, or else one Parent, are parts of one.

    Of those marked ``pseudo=true`` there is none.
    """
    groups: dict[str, list[Feature]] = defaultdict(list)
    for feature in read_features(path, genome):
        if feature.kind == "CDS" and feature.notes.get("pseudo") != "true":
            if feature.strand not in ("+", "-"):
                raise UserError(f"{feature.where}: a CDS must be on strand + or -")
            groups[feature.notes.get("ID") or feature.notes.get("Parent") or feature.where].append(feature)
    if not groups:
        raise UserError(f"{path} has no CDS")
    return [_gene(parts) for parts in groups.values()]


def _gene(features: Sequence[Feature]) -> Gene:
    """Return a gene of the lines of its parts, in any order."""
    first = features[0]
    if any((part.record, part.strand) != (first.record, first.strand) for part in features):
        raise UserError(f"{first.where}: another part of this CDS is on another record or strand")
    record = first.record
    pieces = sorted((part.start, part.end, part.phase) for part in features)
    if pieces[0][0] == record.start and pieces[-1][1] == record.end and len(pieces) > 1:  # both sides of an origin
        half = record.start + record.length // 2
        pieces = [piece for piece in pieces if piece[0] >= half] + [piece for piece in pieces if piece[0] < half]
    pieces = pieces if first.strand == "+" else pieces[::-1]
    parts = []
    for start, end, _ in pieces:
        cut = [(start, min(end, record.end)), (record.start, record.start + max(end - record.end, 0))]
        cut = [(a, b) for a, b in cut if b > a]
        parts += cut if first.strand == "+" else cut[::-1]
    names = (first.notes[key] for key in ("gene", "Name", "locus_tag", "ID", "Parent") if first.notes.get(key))
    return Gene(
        next(names, f"{record.name}:{first.start - record.start + 1}"), first.strand, tuple(parts), pieces[0][2]
    )


def open_frames(codes: Codes, shortest: int = SHORTEST, starts: Sequence[str] = STARTS) -> NDArray[np.int64]:
    """Return start and end of the open reading frames of one strand, from the first start to a stop, int64 (n, 2).

    Parameters
    ----------
    codes : ndarray of uint8
        Letter ids; a frame has no unknown letter.
    shortest : int
        Bases at least, the stop included.
    """
    ids = np.zeros((3, 125), dtype=bool)  # start, stop, unknown
    for row, codons in enumerate((starts, TABLE.stop_codons)):
        ids[row, [25 * a + 5 * b + c for a, b, c in ([BASES.index(x) + 1 for x in codon] for codon in codons)]] = True
    ids[2] = [0 in (i // 25, i // 5 % 5, i % 5) for i in range(125)]
    words = 25 * codes[:-2] + 5 * codes[1:-1] + codes[2:]
    found = []
    for frame in range(3 if len(words) else 0):
        codons = words[frame::3]
        begins, ends = np.flatnonzero(ids[0, codons]), np.flatnonzero(ids[1, codons] | ids[2, codons])
        if not len(begins) or not len(ends):
            continue
        index = np.searchsorted(begins, np.concatenate([[-1], ends[:-1]]), side="right")
        start = begins[np.minimum(index, len(begins) - 1)]
        long = (index < len(begins)) & (start < ends) & ids[1, codons[ends]] & (3 * (ends + 1 - start) >= shortest)
        found.append(frame + 3 * np.stack([start, ends + 1], axis=1)[long])
    return np.concatenate(found) if found else np.empty((0, 2), dtype=np.int64)


def reading_frames(genome: Genome, shortest: int = SHORTEST, starts: Sequence[str] = STARTS) -> list[Gene]:
    """Return the open reading frames of both strands as genes, by place.

    One that a longer one covers by more than half is left out. None crosses the origin of a circular record.
    """
    found, n = [], len(genome)
    for strand, text in (("+", genome), ("-", genome.reverse_complement())):
        codes = text.codes.numpy()
        for record in text.records:
            frames = record.start + open_frames(codes[record.start : record.end], shortest, starts)
            frames = frames if strand == "+" else n - frames[:, ::-1]
            found += [(a, b, strand) for a, b in frames.tolist()]
    taken, kept = np.zeros(n, dtype=bool), []
    for start, end, strand in sorted(found, key=lambda frame: frame[0] - frame[1]):
        if 2 * taken[start:end].sum() <= end - start:
            taken[start:end] = True
            kept.append((start, end, strand))
    ends = iter(genome.records)
    record = next(ends)
    genes = []
    for start, end, strand in sorted(kept):
        while start >= record.end:
            record = next(ends)
        genes.append(Gene(f"{record.name}:{start - record.start + 1}-{end - record.start}", strand, ((start, end),)))
    return genes


def find_genes(genome: Genome) -> list[Gene]:
    """Return the genes that pyrodigal finds, trained on the genome itself (Hyatt et al., BMC Bioinformatics 2010)."""
    try:
        import pyrodigal
    except ImportError:
        raise UserError("genes=pyrodigal needs pyrodigal: pip install 'genoseq[genes]'") from None
    texts = [genome.letters(record.start, record.end).encode() for record in genome.records]
    whole = sum(map(len, texts)) >= 20_000  # what its training needs
    finder = pyrodigal.GeneFinder(meta=not whole)
    if whole:
        finder.train(*texts)
    genes = []
    for record, text in zip(genome.records, texts, strict=True):
        for number, found in enumerate(finder.find_genes(text), 1):
            part = (record.start + found.begin - 1, record.start + found.end)
            genes.append(Gene(f"{record.name}_{number}", "+" if found.strand > 0 else "-", (part,)))
    return genes


def genes_of(given: object, genome: Genome) -> list[Gene]:
    """Return what ``genes=`` names: a GFF3 file, ``frames``, ``pyrodigal``, or none."""
    if given in (None, "none"):
        return []
    if given in ("frames", "pyrodigal"):
        return reading_frames(genome) if given == "frames" else find_genes(genome)
    return read_genes(Path(str(given)).expanduser(), genome)


class Effects:
    """What alleles do to coding sequences, in the words of the Sequence Ontology; translated by `TABLE`.

    synonymous_variant, missense_variant, stop_gained, stop_lost, start_lost, frameshift_variant, inframe_insertion,
    inframe_deletion; coding_sequence_variant where none of them is certain (an edge of a coding sequence, an unknown
    letter); noncoding elsewhere. Of several genes the one that is hit hardest counts.
    """

    WORST_FIRST = (
        *("stop_gained", "frameshift_variant", "stop_lost", "start_lost", "inframe_insertion", "inframe_deletion"),
        *("missense_variant", "synonymous_variant", "coding_sequence_variant"),
    )

    def __init__(self, genome: Genome, genes: Sequence[Gene]) -> None:
        self._codes, self._bins = genome.codes.numpy(), defaultdict[int, list[Gene]](list)
        for gene in genes:
            for number in {n for start, end in gene.parts for n in range(start // _BIN, (end - 1) // _BIN + 1)}:
                self._bins[number].append(gene)
        self._coding = lru_cache(256)(self._read)

    def __call__(self, start: int, ref: int, alt: Codes) -> tuple[str, str]:
        """Return the gene's name ("" = none) and the effect of an allele that is trimmed of what it shares with REF.

        Both are "" where no genes were given.
        """
        if not self._bins:
            return "", ""
        bins = range(max(start - 1, 0) // _BIN, max(start + ref - 1, start) // _BIN + 1)
        near = {gene for number in bins for gene in self._bins.get(number, ())}
        hits = [(self._effect(gene, start, ref, alt), gene) for gene in near]
        known = [(self.WORST_FIRST.index(effect), gene.name) for effect, gene in hits if effect]
        if not known:
            return "", "noncoding"
        rank, name = min(known)
        return name, self.WORST_FIRST[rank]

    def _read(self, gene: Gene) -> Codes:
        parts = [self._codes[start:end] for start, end in gene.parts]
        return np.concatenate(parts if gene.strand == "+" else [_COMPLEMENT[part[::-1]] for part in parts])

    def _effect(self, gene: Gene, start: int, ref: int, alt: Codes) -> str | None:
        before = 0
        for low, high in gene.parts:
            if start < high and start + ref > low:
                break
            before += high - low
        else:
            return None
        if start < low or start + ref > high:
            return "coding_sequence_variant"
        coding, forward = self._coding(gene), gene.strand == "+"
        at = before + (start - low if forward else high - start - ref)
        new = alt if forward else _COMPLEMENT[alt[::-1]]
        if (len(new) - ref) % 3:
            return "frameshift_variant"
        first = at - (at - gene.skip) % 3
        last = at + ref + -(at + ref - first) % 3  # the end of the last codon that is hit
        if first < gene.skip or last > len(coding):
            return "coding_sequence_variant"
        old_codons = coding[first:last]
        new_codons = np.concatenate([coding[first:at], new, coding[at + ref : last]])
        if not (old_codons.all() and new_codons.all()):
            return "coding_sequence_variant"
        old, now = _translate(old_codons), _translate(new_codons)
        stop = now.find("*")
        if stop >= 0 and ("*" not in old or (len(old) == len(now) and stop < old.index("*"))):
            return "stop_gained"
        if "*" in old and "*" not in now:
            return "stop_lost"
        begins = first == 0 and gene.skip == 0 and _letters(coding[:3]) in STARTS
        if begins and _letters(new_codons[:3]) not in STARTS:
            return "start_lost"
        if len(new) != ref:
            return "inframe_insertion" if len(new) > ref else "inframe_deletion"
        # a start codon is read as methionine, whichever it is
        return "synonymous_variant" if old[begins:] == now[begins:] else "missense_variant"


def _letters(codes: Codes) -> str:
    return "".join(BASES[code - 1] for code in codes.tolist())


def _translate(codes: Codes) -> str:
    letters = _letters(codes)
    return "".join(AMINO_ACID[letters[i : i + 3]] for i in range(0, len(letters), 3))
