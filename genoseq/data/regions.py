"""Regions of a genome: as users name them, out of files, and windows that tile it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

from genoseq.data.fasta import open_file
from genoseq.data.genome import Genome
from genoseq.errors import UserError


def parse_region(text: object, genome: Genome) -> tuple[int, int]:
    """Return the first base and the end, in ``Genome.codes``, of ``NAME:1000-1200`` (1-based, inclusive) or ``NAME``.

    Of a genome with one record, ``1000-1200`` is enough.
    """
    names = {record.name: record for record in genome.records}
    if (whole := names.get(str(text))) is not None:
        return whole.start, whole.end
    found = re.fullmatch(r"(?:(.+):)?([\d,]+)-([\d,]+)", str(text))
    if found is None:
        raise UserError(f"region={text} is neither NAME:FIRST-LAST, 1-based and inclusive, nor the name of a record")
    name = found[1] or (genome.records[0].name if len(names) == 1 else "")
    if name not in names:
        some = ", ".join(list(names)[:8]) + (", …" if len(names) > 8 else "")
        raise UserError(f"region={text} names no record of genome '{genome.name}'; its records are {some}")
    record, first, last = names[name], *(int(number.replace(",", "") or 0) for number in found.groups()[1:])
    if not 1 <= first <= last <= record.length:
        raise UserError(f"region={text} is not inside '{name}', which has {record.length:,} bases")
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

    Raises
    ------
    UserError
        If a line is neither, or lies outside the genome.
    """
    records = {record.name: record for record in genome.records}
    found: dict[str, list[Region]] = {}
    with open_file(path) as stream:
        is_gff = stream.peek(16).startswith(b"##gff-version")
        for number, raw in enumerate(stream, 1):
            line, where = raw.decode(errors="replace").rstrip("\r\n"), f"{path}, line {number}"
            if line.startswith("##FASTA"):
                break
            if not line.strip() or line.startswith("#") or line.split()[0] in ("track", "browser"):
                continue
            fields = line.split("\t")
            if len(fields) < (9 if is_gff else 3):
                raise UserError(
                    f"{where}: expected {'9 fields of GFF3' if is_gff else 'record, start, end'}, between tabs"
                )
            first, last = (fields[3], fields[4]) if is_gff else (fields[1], fields[2])
            name = unquote(fields[0]) if is_gff else fields[0]
            if name not in records:
                raise UserError(f"{where}: genome '{genome.name}' has no record '{name}'")
            record = records[name]
            if not (first.isdecimal() and last.isdecimal()):
                raise UserError(f"{where}: start and end must be whole numbers, got {first} and {last}")
            start, end = int(first) - is_gff, int(last)
            if not 0 <= start < end <= record.length:
                raise UserError(f"{where}: {first}-{last} is not inside '{name}', which has {record.length:,} bases")
            if is_gff:
                notes = dict(note.split("=", 1) for note in fields[8].split(";") if "=" in note)
                label = next((unquote(notes[key]) for key in ("Name", "ID", "locus_tag") if key in notes), "")
                kind, strand = fields[2], fields[6]
            else:
                label, kind, strand = (
                    (fields[3] if len(fields) > 3 else ""),
                    "bed",
                    fields[5] if len(fields) > 5 else ".",
                )
            label = label or f"{name}:{start + 1}-{end}"
            found.setdefault(kind, []).append(
                Region(label, record.start + start, record.start + end, strand if strand in ("+", "-") else ".")
            )
    kinds = ("gene", "CDS") if is_gff else ("bed",)
    regions = next((found[kind] for kind in kinds if kind in found), None)
    if not regions:
        raise UserError(f"{path} has no {'gene or CDS' if is_gff else 'region'}")
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
