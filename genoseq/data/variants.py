"""Files of variants: a VCF, or a table; read line by line, and a VCF written as it was but for INFO."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from Bio import bgzf
from numpy.typing import NDArray

from genoseq.data.fasta import BASES, open_file
from genoseq.data.genome import Genome, Record
from genoseq.errors import UserError
from genoseq.files import atomic_path

log = logging.getLogger(__name__)

LONGEST = 50
"""Bases of an allele, at most, once what REF and ALT share is trimmed."""
LONGEST_LINE = 1 << 28
"""Bytes of a line, at most."""
STATUSES = (
    *("ok", "ref_mismatch", "symbolic", "spanning_deletion", "breakend", "no_alt", "unknown_base", "too_long"),
    "no_record",
)
"""Of an allele: ok has a score. no_alt: ALT is missing or equals REF; unknown_base: a letter other than A, C, G, T."""
_CODES = np.zeros(256, dtype=np.uint8)
_CODES[list((BASES + BASES.lower()).encode())] = [1, 2, 3, 4] * 2
_MINE = b"GENOSEQ_"
_LETTERS = re.compile(r"[A-Za-z]+\Z")


@dataclass(frozen=True, slots=True)
class Allele:
    """What replaces bases of the genome, once what REF and ALT share is trimmed."""

    start: int  # in Genome.codes
    ref: int  # bases replaced
    alt: NDArray[np.uint8]  # letter ids in their place


@dataclass(slots=True)
class Site:
    """One line of a file, and its alleles."""

    line: bytes  # as it stands, its end included
    record: str = ""
    pos: int = 0  # 1-based
    ref: str = ""
    alts: list[str] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)  # of each ALT
    alleles: list[Allele | None] = field(default_factory=list)  # None where the status is not ok

    @property
    def is_header(self) -> bool:
        """Whether it is a header, a comment or blank."""
        return not self.record


class VariantFile:
    """Reads sites from a VCF (plain, gz, bgz), or from a table with a header line ``record pos ref alt`` (tabs).

    Parameters
    ----------
    mismatch : {"error", "skip"}
        What to do where REF is not what the genome has.
    rename : dict
        From the file's names of records to the genome's.

    Attributes
    ----------
    counts : Counter
        Of the statuses so far.
    """

    def __init__(
        self, path: Path, genome: Genome, mismatch: str = "error", rename: Mapping[str, str] | None = None
    ) -> None:
        if mismatch not in ("error", "skip"):
            raise UserError(f"mismatch must be error or skip, got {mismatch}")
        self.path, self.mismatch, self.counts = path, mismatch, Counter[str]()
        self._codes, self._records = genome.codes.numpy(), {record.name: record for record in genome.records}
        self._rename, self._found, self._absent = rename or {}, dict[str, Record | None](), Counter[str]()
        self._lines = self._read()
        head = next(self._lines)
        if head.startswith(b"BCF"):
            raise UserError(f"{path} is a BCF file, which is not read: make it a VCF with bcftools view -Oz")
        self.is_vcf = head.startswith(b"##fileformat=VCF")
        if not self.is_vcf and head.lower().split()[:4] != [b"record", b"pos", b"ref", b"alt"]:
            raise UserError(
                f"{path} is no file of variants: a VCF begins with ##fileformat=VCF, a table with record, pos, ref and "
                "alt between tabs"
            )

    def _read(self) -> Iterator[bytes]:
        """Yield the first bytes, then each line; the file is opened once, for it may be a pipe."""
        with open_file(self.path) as stream:
            yield stream.peek(64)[:64]
            while line := stream.readline(LONGEST_LINE):
                yield line

    def __iter__(self) -> Iterator[Site]:
        """Yield every line as a site; once."""
        for number, line in enumerate(self._lines, 1):
            if line.startswith(b"#") or not line.strip() or (number == 1 and not self.is_vcf):
                yield Site(line)
                continue
            site = self._site(line, f"{self.path}, line {number}")
            self.counts.update(site.statuses)
            yield site
        if self._absent:
            some = [f"{name} {n:,}" for name, n in self._absent.most_common(3)] + ["…"] * (len(self._absent) > 3)
            log.warning(
                "%s: %d records are not in the genome, and their %s alleles have no score (%s); rename=FILE gives "
                "their names in the genome.",
                *(self.path, len(self._absent), f"{self._absent.total():,}", ", ".join(some)),
            )

    def _site(self, line: bytes, where: str) -> Site:
        fields = line.rstrip(b"\r\n").split(b"\t", 8)  # the rest may be in any encoding
        if self.is_vcf and len(fields) < 8:
            raise UserError(f"{where}: a line of a VCF has at least 8 fields between tabs, this one has {len(fields)}")
        if len(fields) < 4:
            raise UserError(f"{where}: expected record, pos, ref and alt between tabs")
        chosen = fields[:2] + fields[3:5] if self.is_vcf else fields[:4]
        name, pos, ref, alts = (text.decode(errors="surrogateescape") for text in chosen)
        if not re.fullmatch(r"[0-9]{1,15}", pos):
            raise UserError(f"{where}: the position must be a whole number, got {pos[:40]!r}")
        if not name or not _LETTERS.match(ref):
            raise UserError(f"{where}: REF must be letters, and the record needs a name; got {ref[:40]!r}")
        site = Site(line, name, int(pos), ref.upper(), alts.split(","))
        record = self._record(name)
        for alt in site.alts:
            status, allele = self._allele(record, site, alt, where) if record else ("no_record", None)
            site.statuses.append(status)
            site.alleles.append(allele)
        if record is None:
            self._absent[name] += len(site.alts)
        return site

    def _allele(self, record: Record, site: Site, alt: str, where: str) -> tuple[str, Allele | None]:
        if alt in ("", ".", site.ref):
            return "no_alt", None
        if alt == "*":
            return "spanning_deletion", None
        if alt.startswith("<") and alt.endswith(">"):
            return "symbolic", None
        if "[" in alt or "]" in alt or alt.startswith(".") or alt.endswith("."):
            return "breakend", None
        if not _LETTERS.match(alt):
            raise UserError(f"{where}: ALT {alt[:40]!r} is neither letters nor one of VCF's symbols")
        start = record.start + site.pos - 1
        have = self._codes[start : min(start + len(site.ref), record.end)] if site.pos else self._codes[:0]
        want = encode(site.ref[: len(have)])
        same = (have == want) | (have == 0) | (want == 0)  # where the genome has R, a VCF writes A, or R
        if len(have) < len(site.ref) or not same.all():
            if self.mismatch == "skip":
                return "ref_mismatch", None
            there = "".join(("N" + BASES)[code] for code in have[:20].tolist()) or "nothing"
            raise UserError(
                f"{where}: REF is {site.ref[:20]} where the genome has {there} ({site.record}:{site.pos}); give the "
                "genome that the variants were called on as data.genome, or mismatch=skip"
            )
        first, ref, new = trim(site.ref, alt.upper())
        if ref == new:
            return "no_alt", None
        if max(len(ref), len(new)) > LONGEST:
            return "too_long", None
        if not have[first : first + len(ref)].all() or not set(ref + new) <= set(BASES):
            return "unknown_base", None
        return "ok", Allele(start + first, len(ref), encode(new))

    def _record(self, name: str) -> Record | None:
        """Return the genome's record of a name, or the one whose name differs by version or by NCBI's old style."""
        if name not in self._found:
            wanted = self._rename.get(name, name)
            found = self._records.get(wanted)
            if found is None:
                close = [record for record in self._records.values() if _core(record.name) == _core(wanted)]
                if len(close) > 1:
                    names = " and ".join(record.name for record in close[:2])
                    raise UserError(f"{self.path}: record '{name}' may be {names}: say which with rename=FILE")
                found = close[0] if close else None
                if found is not None:
                    log.warning("%s: record '%s' is taken for the genome's '%s'.", self.path, name, found.name)
            self._found[name] = found
        return self._found[name]


def trim(ref: str, alt: str) -> tuple[int, str, str]:
    """Return two alleles without the suffix and the prefix that they share, and the length of that prefix."""
    first = 0
    while ref and alt and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    while ref and alt and ref[0] == alt[0]:
        ref, alt, first = ref[1:], alt[1:], first + 1
    return first, ref, alt


def encode(letters: str) -> NDArray[np.uint8]:
    """Return letter ids, A=1 C=2 T=3 G=4, 0 = any other letter."""
    return _CODES[np.frombuffer(letters.encode("ascii", "replace"), dtype=np.uint8)]


def _core(name: str) -> str:
    """Return a record's accession without its version, also out of ``gi|…|ref|NC_000913.3|``."""
    if "|" in name:
        parts = [part for part in name.split("|") if part]
        name = parts[parts.index("ref") + 1] if "ref" in parts[:-1] else parts[-1]
    return re.sub(r"\A([A-Z]+_?[A-Z]*\d{4,})\.\d+\Z", r"\1", name)  # scaffold.2 is no version of scaffold.1


def read_names(path: Path) -> dict[str, str]:
    """Return the two columns of a file of names, the variants' to the genome's."""
    names: dict[str, str] = {}
    with open_file(path) as stream:
        for number, line in enumerate(stream, 1):
            words = line.decode(errors="replace").split()
            if words and len(words) != 2:
                raise UserError(f"{path}, line {number}: expected two names, the variants' and the genome's")
            names |= {words[0]: words[1]} if words else {}
    return names


class VcfWriter:
    """Writes the lines of a VCF with fields of ours added to INFO; BGZF where the name ends in ``.gz`` or ``.bgz``.

    The file appears under its name once the block ends without an error.

    Parameters
    ----------
    fields : dict
        From the names of the fields, which begin with ``GENOSEQ_``, to their header's Number, Type and Description.
    overwrite : bool
        Leave out the fields of an earlier run, all that begin with ``GENOSEQ_``; without it they are refused.
    active : bool
        False writes nothing: for a table of variants.
    """

    def __init__(
        self, path: Path, fields: Mapping[str, tuple[str, str, str]], overwrite: bool = False, active: bool = True
    ) -> None:
        self.path, self._fields, self._overwrite, self._active = path, fields, overwrite, active
        self._stack = ExitStack()
        self._has_columns = False

    def __enter__(self) -> VcfWriter:
        with ExitStack() as stack:
            if self._active:
                part = stack.enter_context(atomic_path(self.path))
                writer: Any = bgzf.BgzfWriter
                compressed = self.path.suffix in (".gz", ".bgz")
                self._out: Any = writer(part, "wb") if compressed else part.open("wb")
                stack.callback(self._out.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def header(self, line: bytes) -> None:
        """Write a header line, a comment or a blank line; our own lines stand before that of the columns."""
        if not self._active:
            return
        if line.startswith(b"##INFO=<ID=" + _MINE):
            self._refuse(line.removeprefix(b"##INFO=<ID="))
            return
        if line.startswith(b"#CHROM") and not self._has_columns:
            self._has_columns = True
            end = b"\r\n" if line.endswith(b"\r\n") else b"\n"
            for name, (number, kind, text) in self._fields.items():
                header = f'##INFO=<ID={name},Number={number},Type={kind},Description="{text}">'
                self._out.write(header.encode() + end)
        self._out.write(line)

    def _refuse(self, item: bytes) -> None:
        if not self._overwrite:
            name = re.split(rb"[=,>]", item)[0].decode(errors="replace")
            raise UserError(f"the VCF has {name} of an earlier run already; add overwrite=true to replace it")

    def write(self, line: bytes, values: Mapping[str, str]) -> None:
        """Write a site's line, the values added to its INFO."""
        if not self._active:
            return
        if not self._has_columns:
            raise UserError("the VCF has no line of columns (#CHROM POS ID …) before its first site")
        fields = line.split(b"\t", 8)
        text = fields[7].rstrip(b"\r\n")
        end = fields[7][len(text) :]  # of a line without genotypes
        if _MINE in text:
            items = text.split(b";")
            for item in items:
                if item.startswith(_MINE):
                    self._refuse(item)
            text = b";".join(item for item in items if not item.startswith(_MINE))
        kept = [] if text in (b"", b".") else [text]
        added = [f"{name}={value}".encode() for name, value in values.items()]
        fields[7] = b";".join([*kept, *added] or [b"."]) + end
        self._out.write(b"\t".join(fields))
