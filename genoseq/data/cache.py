"""Tokens of large genomes in files that all processes of a machine map into memory, so that it holds them once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from filelock import FileLock
from torch import Tensor

from genoseq.data.fasta import Record, Sequences, read_file
from genoseq.errors import UserError
from genoseq.files import atomic_path, write_json

log = logging.getLogger(__name__)

LEAST = 16_000_000
"""Bases from which a genome is cached: a smaller one is read in a blink."""
LIMIT = 20_000_000_000
"""Bytes kept, if the environment's GENOSEQ_CACHE_LIMIT says nothing else: what was used longest ago goes first.

What is larger than that is not kept, but read again by each process.
"""

_FOLDER = "tokens"
_CHECKED, _PIECE = 64, 4096  # pieces of a file that its checksum is of, and the bytes of each


class Contents(NamedTuple):
    """What sequence files hold."""

    codes: Tensor  # uint8 (bases,): A=1 C=2 T=3 G=4, 0 = any other letter
    sha256: str  # of the bare letters, in upper case
    records: list[tuple[Path, Record]]  # those with a sequence, and their files
    others: list[int]  # counts of the letters outside ACGT, by byte
    lower: int  # lower-case letters
    empty: list[str]  # names of records without a sequence


def read_files(paths: Sequence[Path], cache: Path | None) -> Contents:
    """Read files, or map what an earlier process read of them; a file that was changed since is read again.

    Raises
    ------
    UserError
        If a file is given twice, or is not a whole nucleotide sequence file.
    """
    for i, path in enumerate(paths):
        if path.resolve() in map(Path.resolve, paths[:i]):
            raise UserError(f"{path} is given twice: name each genome file once.")
    files = all(path.is_file() for path in paths)
    if cache is None or not files or sum(path.stat().st_size for path in paths) * 5 <= LEAST:
        return _contents(_read(paths))
    _limit()  # refused before anything is read
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    entry = cache / _FOLDER / f"{hashlib.sha256(json.dumps(stats).encode()).hexdigest()}.json"
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / _FOLDER / ".lock"):  # of those that start at once, one reads
            if found := _load(entry, paths):
                return found
            return _spool(entry, paths)
    except OSError as error:
        log.warning("The genome is read anew each time: the cache %s cannot be used (%s).", entry.parent, error)
        return _contents(_read(paths))


def cached(cache: Path, name: str, length: int, dtype: torch.dtype, make: Callable[[], Tensor]) -> Tensor:
    """Return a tensor (length,) from the cache, made and written there if it is not: a large one of a known genome."""
    if length < LEAST:
        return make()
    try:
        path = cache / _FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / _FOLDER / ".lock"):
            if (found := _map(path, length, dtype)) is None:
                found = _write(path, make())
        return found
    except OSError as error:
        log.warning("Tokens are made anew each time: the cache %s cannot be used (%s).", cache / _FOLDER, error)
        return make()


def clear(cache: Path) -> tuple[int, int]:
    """Remove the cached tokens, not the genomes that were fetched; return how many files and bytes they were."""
    if not (cache / _FOLDER).is_dir():
        return 0, 0
    with FileLock(cache / _FOLDER / ".lock"):
        return _shrink(cache / _FOLDER, 0)


def size(cache: Path) -> int:
    """Return the bytes of the cached tokens."""
    return sum(path.stat().st_size for path in (cache / _FOLDER).glob("[!.]*"))


def _read(paths: Sequence[Path], file: BinaryIO | None = None) -> Sequences:
    into = Sequences(file)
    for path in paths:
        read_file(path, into)
    return into


def _contents(into: Sequences, codes: Tensor | None = None) -> Contents:
    if codes is None:
        codes = torch.frombuffer(into.codes, dtype=torch.uint8)  # shares the bytearray's memory
    return Contents(codes, into.sha.hexdigest(), into.records, into.others.tolist(), into.lower, into.empty)


def _spool(entry: Path, paths: Sequence[Path]) -> Contents:
    """Read files by way of one in the cache, so that they may hold more than the memory does."""
    part = entry.with_name(f".{os.getpid()}.part")
    try:
        with part.open("w+b") as file:
            into = _read(paths, file)
            file.write(_checksum(file, into.bases))
        keep = LEAST <= into.bases <= _limit()
        if keep:
            _shrink(entry.parent, _limit() - into.bases)
            part = part.replace(entry.with_name(f"{into.sha.hexdigest()}.codes"))
        if (codes := _map(part, into.bases, torch.uint8)) is None:
            raise OSError(f"{part} was changed by another program")
        contents = _contents(into, codes)
        if keep:
            records = [(paths.index(path), rec.name, rec.start, rec.length) for path, rec in contents.records]
            write_json(entry, contents._asdict() | {"codes": into.bases, "records": records})
        return contents
    finally:
        entry.with_name(f".{os.getpid()}.part").unlink(missing_ok=True)  # what is mapped stays


def _limit() -> int:
    text = os.environ.get("GENOSEQ_CACHE_LIMIT") or str(LIMIT)
    if not text.isdecimal():
        raise UserError(f"GENOSEQ_CACHE_LIMIT must be a number of bytes, such as {LIMIT}, got {text}")
    return int(text)


def _load(entry: Path, paths: Sequence[Path]) -> Contents | None:
    """Return what an entry describes; None if there is none, or if its file is not what was written."""
    try:
        described: dict[str, Any] = json.loads(entry.read_text(encoding="utf-8"))
        codes = _map(entry.with_name(f"{described['sha256']}.codes"), described["codes"], torch.uint8)
        records = [(paths[i], Record(*rest)) for i, *rest in described["records"]]
        found = None if codes is None else Contents(**described | {"codes": codes, "records": records})
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    os.utime(entry)
    return found


def _map(path: Path, length: int, dtype: torch.dtype) -> Tensor | None:
    """Map a file of the cache into memory; None if it is absent or damaged."""
    try:
        with path.open("rb") as file:
            check = _checksum(file, length * dtype.itemsize)
            if file.read() != check:
                return None
    except FileNotFoundError:
        return None
    os.utime(path)
    found: Tensor = torch.from_file(str(path), shared=False, size=length, dtype=dtype)
    return found


def _write(path: Path, values: Tensor) -> Tensor:
    """Write a file of the cache, a checksum at its end, and return it mapped into memory."""
    if values.nbytes > _limit():
        return values
    _shrink(path.parent, _limit() - values.nbytes)
    with atomic_path(path) as part, part.open("w+b") as file:
        values.numpy().tofile(file)
        file.write(_checksum(file, values.nbytes))
    found = _map(path, len(values), values.dtype)
    return values if found is None else found


def _checksum(file: BinaryIO, size: int) -> bytes:
    """Return a checksum of evenly spread pieces of a file of `size` bytes, and leave it at their end.

    That of all of them would take about as long as to read the genome again.
    """
    found = hashlib.sha256()
    for i in range(_CHECKED):
        file.seek(max(0, size - _PIECE) * i // (_CHECKED - 1))
        found.update(file.read(min(_PIECE, size)))
    file.seek(size)
    return found.digest()


def _shrink(folder: Path, most: int) -> tuple[int, int]:
    """Remove what was used longest ago until no more than `most` bytes are left; return the files and bytes removed.

    What processes that were killed left unfinished goes first: the lock is held.
    """
    for path in folder.glob(".*.part*"):
        if not path.name.startswith(f".{os.getpid()}."):
            path.unlink(missing_ok=True)
    files = sorted((path for path in folder.glob("[!.]*")), key=lambda path: path.stat().st_mtime)
    left, removed = sum(path.stat().st_size for path in files), 0
    before = left
    for path in files:
        if left <= most:
            break
        left -= path.stat().st_size
        path.unlink(missing_ok=True)
        removed += 1
    return removed, before - left
