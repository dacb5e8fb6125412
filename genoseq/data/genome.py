"""A genome is one integer tensor."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from genoseq.data.cache import Contents, read_files
from genoseq.data.fasta import BASES, UNKNOWN, Record, file_stem
from genoseq.errors import UserError

__all__ = ["BASES", "UNKNOWN", "Genome", "Record", "read_genome"]

log = logging.getLogger(__name__)

_COMPLEMENT = torch.tensor([0, 3, 4, 1, 2], dtype=torch.uint8)
_LETTERS = b"N" + BASES.encode() + b"N" * 251


@dataclass(frozen=True, eq=False)
class Genome:
    """All records of a genome, end to end."""

    name: str
    codes: torch.Tensor  # uint8 (bases,): A=1 C=2 T=3 G=4, 0 = any other letter
    records: tuple[Record, ...]  # in the order of the files; one without a sequence is left out
    sha256: str  # of the bare letters as they stand in the files, in upper case, records joined in order
    unknown: dict[str, int]  # the letters that are 0 in codes, and how often each occurs
    files: tuple[Path, ...]

    def __len__(self) -> int:
        """Return the number of bases."""
        return self.codes.numel()

    @property
    def source(self) -> str:
        """The files, for messages."""
        return ", ".join(map(str, self.files))

    def letters(self, start: int = 0, stop: int | None = None) -> str:
        """Return ``codes[start:stop]`` as letters, N for an unknown one."""
        return self.codes[start:stop].cpu().numpy().tobytes().translate(_LETTERS).decode()

    def excerpt(self, bases: int) -> Genome:
        """Return the first `bases` bases as a genome named ``NAME[0:BASES]``, the last record cut short.

        Its SHA-256 is that of its own letters, an unknown one as N. Where there are no more bases, return all and warn.
        """
        if bases >= len(self):
            log.warning(
                "data.bases=%s: genome '%s' has %s bases, and all are read.", bases, self.name, f"{len(self):,}"
            )
            return self
        codes = self.codes[:bases].clone()  # a slice would keep the whole genome in memory
        unknown = int((codes == UNKNOWN).sum())
        return replace(
            self,
            name=f"{self.name}[0:{bases}]",
            codes=codes,
            records=tuple(replace(r, length=min(r.length, bases - r.start)) for r in self.records if r.start < bases),
            sha256=hashlib.sha256(self.letters(0, bases).encode()).hexdigest(),
            unknown={"N": unknown} if unknown else {},
        )

    def reverse_complement(self) -> Genome:
        """Return the other strand, its records in reverse: base i pairs with base ``len(self) - 1 - i``.

        It has no SHA-256, by which the cache would take it for this one.
        """
        codes = _COMPLEMENT[self.codes.flip(0).long()]
        records = tuple(replace(record, start=len(self) - record.end) for record in reversed(self.records))
        return replace(self, codes=codes, records=records, sha256="")


def read_genome(
    paths: Sequence[Path], name: str | None = None, sha256: str | None = None, cache: Path | None = None
) -> Genome:
    """Read FASTA or plain-letter files into one genome, in 1 to 1.2 bytes a base and 3 more while a record is read.

    A file that begins with ``>`` is FASTA; any other holds the letters of one record, blanks ignored. Compression
    (gzip, bgzip, bzip2, xz, zstd) is told by content, not by suffix. Case is ignored, U (an RNA genome) is read as T,
    and every other IUPAC letter (RYSWKMBDHVN) becomes ``UNKNOWN``; what was so read is logged once with its count.
    Where files share a record's name, all records are called FILE:RECORD. The genome's name is by default the stems of
    the files; `sha256` is what ``Genome.sha256`` must be. With a `cache`, a large genome is read once.
    """
    into = read_files(paths, cache)
    if sha256 not in (None, into.sha256):
        raise UserError(
            f"{', '.join(map(str, paths))} is not the genome {name}: its sequence has SHA-256 "
            f"{into.sha256[:12]}… where {sha256[:12]}… was expected, so install genoseq again if the file is its own, "
            "delete the file if it is in the cache, or give your own file as data.genome."
        )
    unknown = Counter({chr(i): int(n) for i, n in enumerate(into.others) if n})
    _log_assumptions(into, unknown, rna=unknown.pop("U", 0))
    stems = [file_stem(path) for path in paths]
    return Genome(
        name=name or ("+".join(stems) if len(stems) <= 3 else f"{stems[0]}+{len(stems) - 1}_files"),
        codes=into.codes,
        records=_unique_records(into),
        sha256=into.sha256,
        unknown=dict(unknown),
        files=tuple(paths),
    )


def _unique_records(into: Contents) -> tuple[Record, ...]:
    plain = [record.name for _, record in into.records]
    by_stem = [f"{file_stem(path)}:{record.name}" for path, record in into.records]
    by_path = [f"{path}:{record.name}" for path, record in into.records]
    names = next((names for names in (plain, by_stem) if len(set(names)) == len(names)), by_path)
    if names is not plain:
        log.warning("Some files share record names, so all records are called FILE:RECORD, as in %s.", names[0])
    return tuple(replace(record, name=name) for name, (_, record) in zip(names, into.records, strict=True))


def _log_assumptions(into: Contents, unknown: Counter[str], rna: int) -> None:
    if unknown:
        listed = ", ".join(f"{letter} {count:,}" for letter, count in unknown.most_common())
        log.warning("Letters other than A, C, G and T are read as unknown: %s (%s).", f"{unknown.total():,}", listed)
    if rna:
        log.warning("Letters U are read as T: %s.", f"{rna:,}")
    if into.lower:
        log.info("Lower-case (soft-masked) letters are read as upper case: %s.", f"{into.lower:,}")
    if into.empty:
        listed = ", ".join(into.empty[:3]) + (", …" if len(into.empty) > 3 else "")
        log.warning("Records without a sequence are left out: %d (%s).", len(into.empty), listed)
