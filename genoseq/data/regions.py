"""Regions of a genome: as users name them, out of files, and windows that tile it."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from genoseq.data.fasta import open_file
from genoseq.data.genes import read_features
from genoseq.data.genome import Genome
from genoseq.errors import UserError

log = logging.getLogger(__name__)


def parse_region(text: object, genome: Genome, setting: str = "region") -> tuple[int, int]:
    """Return the first base and the end, in ``Genome.codes``, of ``NAME:1000-1200`` (1-based, inclusive) or ``NAME``.

    Of a genome with one record, ``1000-1200`` is enough. An error names the user's `setting`.
    """
    names = {record.name: record for record in genome.records}
    if (whole := names.get(str(text))) is not None:
        return whole.start, whole.end
    found = re.fullmatch(r"(?:(.+):)?([\d,]+)-([\d,]+)", str(text))
    if found is None:
        raise UserError(f"{setting}={text} is neither NAME:FIRST-LAST, 1-based and inclusive, nor the name of a record")
    name = found[1] or (genome.records[0].name if len(names) == 1 else "")
    if name not in names:
        some = ", ".join(list(names)[:8]) + (", …" if len(names) > 8 else "")
        raise UserError(f"{setting}={text} names no record of genome '{genome.name}'; its records are {some}")
    record, first, last = names[name], *(int(number.replace(",", "") or 0) for number in found.groups()[1:])
    if not 1 <= first <= last <= record.length:
        raise UserError(f"{setting}={text} is not inside '{name}', which has {record.length:,} bases")
    return record.start + first - 1, record.start + last


@dataclass(frozen=True, slots=True)
class Region:
    """A stretch of a genome with a name."""

    name: str
    start: int  # in Genome.codes
    end: int
    strand: str  # + or -, or . where nobody said


def read_regions(path: Path, genome: Genome) -> list[Region]:
    """Return the regions of a BED or a GFF3 file, plain or compressed.

    Of GFF3 the features of type gene, or, where it has none, CDS, up to ``##FASTA``; names are Name, ID or locus_tag.
    One that crosses the origin of a circular record is left out, and said.

    Raises
    ------
    UserError
        If a line is neither, or lies outside the genome.
    """
    with open_file(path) as stream:
        is_gff = stream.peek(16).startswith(b"##gff-version")
    regions = _gff_regions(path, genome) if is_gff else _bed_regions(path, genome)
    if not regions:
        raise UserError(f"{path} has no {'gene or CDS' if is_gff else 'region'}")
    return regions


def _gff_regions(path: Path, genome: Genome) -> list[Region]:
    features = [feature for feature in read_features(path, genome) if feature.kind in ("gene", "CDS")]
    genes = [feature for feature in features if feature.kind == "gene"] or features
    inner = [feature for feature in genes if feature.end <= feature.record.end]
    if len(inner) < len(genes):
        log.warning("%s: left out, for they cross the origin: %d regions.", path, len(genes) - len(inner))
    return [
        Region(
            next((f.notes[key] for key in ("Name", "ID", "locus_tag") if f.notes.get(key)), "")
            or f"{f.record.name}:{f.start - f.record.start + 1}-{f.end - f.record.start}",
            *(f.start, f.end, f.strand if f.strand in ("+", "-") else "."),
        )
        for f in inner
    ]


def _bed_regions(path: Path, genome: Genome) -> list[Region]:
    records, regions = {record.name: record for record in genome.records}, []
    with open_file(path) as stream:
        for number, raw in enumerate(stream, 1):
            line, where = raw.decode(errors="replace").rstrip("\r\n"), f"{path}, line {number}"
            if not line.strip() or line.startswith("#") or line.split()[0] in ("track", "browser"):
                continue
            name, *fields = line.split("\t")
            if len(fields) < 2:
                raise UserError(f"{where}: expected record, start, end, between tabs")
            if name not in records:
                raise UserError(f"{where}: genome '{genome.name}' has no record '{name}'")
            record, first, last = records[name], *fields[:2]
            if not all(re.fullmatch("[0-9]{1,15}", field) for field in (first, last)):
                raise UserError(f"{where}: start and end must be whole numbers, got {first} and {last}")
            start, end = int(first), int(last)
            if not start < end <= record.length:
                raise UserError(f"{where}: {first}-{last} is not inside '{name}', which has {record.length:,} bases")
            label = (fields[2] if len(fields) > 2 else "") or f"{name}:{start + 1}-{end}"
            strand = fields[4] if len(fields) > 4 and fields[4] in ("+", "-") else "."
            regions.append(Region(label, record.start + start, record.start + end, strand))
    return regions


def windows(genome: Genome, size: int) -> list[Region]:
    """Return windows of `size` bases that tile each record; less than half a window joins the last."""
    out = []
    for record in genome.records:
        edges = list(range(record.start, record.end, size))
        if len(edges) > 1 and 2 * (record.end - edges[-1]) < size:
            edges.pop()
        for at, end in pairwise([*edges, record.end]):
            out.append(Region(f"{record.name}:{at - record.start + 1}-{end - record.start}", at, end, "."))
    return out
