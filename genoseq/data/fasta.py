"""Reads FASTA and plain-letter files block by block, so that a genome never costs much more than a byte a base."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn

import numpy as np
from xopen import xopen

from genoseq.errors import UserError

UNKNOWN = 0
BASES = "ACTG"  # ids 1 to 4
COMPRESSION_SUFFIXES = (".gz", ".bgz", ".bgzf", ".bz2", ".xz", ".zst")
SEQUENCE_SUFFIXES = (".fa", ".fasta", ".fna", ".ffn", ".fas", ".txt", ".seq")

_BLOCK = 1 << 20  # bytes
_MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}
_BOM = b"\xef\xbb\xbf"
_BLANKS = b" \t\r\n\v\f"
_NUCLEOTIDES = b"ACGTURYSWKMBDHVN"
_PROTEIN_ONLY = b"EFILPQZXJO*"
_UPPER_CASE = bytes(range(ord("A"), ord("Z") + 1))
_LINE_END = re.compile(rb"[\r\n]")
# find() gives -1 for any other letter, which makes it UNKNOWN.
_CODES = bytes(BASES.find("T" if letter == "U" else letter) + 1 for letter in map(chr, range(256)))


class Found(NamedTuple):
    """A record with a sequence: its file, its header, and where its bases lie in ``Gathered.codes``."""

    path: Path
    name: str
    description: str
    start: int
    length: int


class Gathered:
    """What the files read so far hold.

    Attributes
    ----------
    codes : bytearray
        One id a base.
    sha : hashlib hash
        SHA-256 of the upper-case letters.
    others : numpy.ndarray
        Shape (256,), counts of the letters outside ACGT, by byte.
    lower : int
        Count of lower-case letters.
    records : list of Found
        Records with a sequence.
    empty : list of str
        Names of the records without one.
    """

    def __init__(self) -> None:
        self.codes = bytearray()
        self.sha = hashlib.sha256()
        self.others = np.zeros(256, dtype=np.int64)
        self.lower = 0
        self.records: list[Found] = []
        self.empty: list[str] = []


def gather(path: Path, into: Gathered) -> None:
    """Append one file to ``into``; raise ``UserError`` if it is not a whole nucleotide sequence file."""
    _FileReader(path, into).read()


def sequence_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bare upper-case letters; raises ``UserError`` as ``gather`` does."""
    gather(path, into := Gathered())
    return into.sha.hexdigest()


def file_stem(path: Path) -> str:
    """Return the file's name without the suffixes of compression and sequence formats."""
    name = path.name
    for suffixes in (COMPRESSION_SUFFIXES, SEQUENCE_SUFFIXES):
        suffix = next((suffix for suffix in suffixes if name.lower().endswith(suffix)), "")
        name = name[: len(name) - len(suffix)] or name
    return name


class _FileReader:
    """Reads one file and knows the line and the record that it is at, for messages."""

    def __init__(self, path: Path, into: Gathered) -> None:
        self.path = path
        self.into = into
        self.line = 1  # of the current block's first byte
        self.header: bytearray | None = None  # what is read of a header, while inside one
        self.name = self.description = file_stem(path)
        self.start = len(into.codes)
        self.names: set[str] = set()
        self.unnamed = 0

    def read(self) -> None:
        offset = len(self.into.codes)
        is_fasta: bool | None = None
        last = b"\n"
        for block in _blocks(self.path):
            at = 0
            if is_fasta is None:
                body = block.removeprefix(_BOM).lstrip(_BLANKS)
                at = len(block) - len(body)
                if body:
                    is_fasta = body.startswith(b">")
                    if is_fasta:
                        self.header = bytearray()
                        at += 1
            if is_fasta:
                self._scan(block, at, last)
            else:
                self._add(block, at, len(block))
            self.line += block.count(b"\n")
            last = block[-1:]
        if is_fasta is None:
            raise UserError(f"{self.path} is empty: give a file with a nucleotide sequence.")
        if self.header is not None:
            self._open_record(self.line)
        self._close_record()
        if len(self.into.codes) == offset:
            raise UserError(
                f"{self.path} has no sequence, only headers (the last is {self.name!r}): give a file with nucleotides."
            )

    def _scan(self, block: bytes, at: int, last: bytes) -> None:
        """Read a FASTA block from ``at`` on; ``last`` is the byte before the block."""
        while at < len(block):
            if self.header is not None:
                found = _LINE_END.search(block, at)
                stop = found.start() if found else len(block)
                self.header += block[at:stop]
                if found:
                    self._open_record(self.line + block.count(b"\n", 0, stop))
                at = stop
                continue
            stop = block.find(b">", at)
            if stop < 0:
                self._add(block, at, len(block))
                return
            self._add(block, at, stop)
            if (block[stop - 1 : stop] or last) not in (b"\n", b"\r"):
                self._refuse(block, stop)
            self._close_record()
            self.header = bytearray()
            at = stop + 1

    def _open_record(self, line: int) -> None:
        assert self.header is not None
        self.description = self.header.decode("utf-8", "replace").strip()
        self.header = None
        self.start = len(self.into.codes)
        if not self.description:
            self.unnamed += 1
            self.description = f"unnamed{self.unnamed}"
        self.name = self.description.split()[0]
        if self.name in self.names:
            raise UserError(
                f"{self.path}, line {line}: a second record is called {self.name!r}, so rename one of the two."
            )
        self.names.add(self.name)

    def _close_record(self) -> None:
        length = len(self.into.codes) - self.start
        if length:
            self.into.records.append(Found(self.path, self.name, self.description, self.start, length))
        else:
            self.into.empty.append(self.name)

    def _add(self, block: bytes, start: int, stop: int) -> None:
        letters = block[start:stop].translate(None, _BLANKS)
        upper = letters.upper()
        if upper.translate(None, _NUCLEOTIDES):
            self._refuse(block, start)
        self.into.lower += len(letters.translate(None, _UPPER_CASE))
        if others := upper.translate(None, b"ACGT"):
            self.into.others += np.bincount(np.frombuffer(others, dtype=np.uint8), minlength=256)
        self.into.sha.update(upper)
        self.into.codes += upper.translate(_CODES)

    def _refuse(self, block: bytes, start: int) -> NoReturn:
        """Name the first byte of ``block[start:]`` that is no nucleotide."""
        allowed = _NUCLEOTIDES + _NUCLEOTIDES.lower() + _BLANKS
        at = next(i for i in range(start, len(block)) if block[i] not in allowed)
        line = self.line + block.count(b"\n", 0, at)
        byte = block[at : at + 1]
        if not 32 < byte[0] < 127:
            raise UserError(
                f"{self.path}, line {line}: byte 0x{byte.hex()} is not text, so give a FASTA file or plain letters, "
                "bare or compressed (.gz .bgz .bz2 .xz .zst)."
            )
        kind = "a protein sequence" if byte.upper() in _PROTEIN_ONLY else "something else than a sequence"
        raise UserError(
            f"{self.path}, line {line}, record {self.name!r}: {byte.decode()!r} is not a nucleotide letter "
            f"({_NUCLEOTIDES.decode()}), and the file looks like {kind}, so give a nucleotide FASTA file."
        )


def _blocks(path: Path) -> Iterator[bytes]:
    """Yield the file's bytes, decompressed, and turn what can go wrong into one sentence."""
    try:
        with path.open("rb") as raw:
            head = raw.peek(8)  # content decides: files get renamed, and a pipe cannot be opened twice
            form = next((form for magic, form in _MAGIC.items() if head.startswith(magic)), None)
            stream: BinaryIO = xopen(raw, "rb", threads=0, format=form) if form else raw
            with stream:
                while block := stream.read(_BLOCK):
                    yield block
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} does not exist: check the path of the genome.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: give the files in it, for example '{path}/*.fa'.") from None
    except PermissionError:
        raise UserError(f"{path} may not be read by this user: change its permissions or give another file.") from None
    except EOFError as error:
        raise UserError(f"{path} is cut short (its compressed data ends early): copy or download it again.") from error
    except Exception as error:  # every decompressor has an error class of its own
        raise UserError(f"{path} cannot be read ({error}): copy or download it again.") from error
