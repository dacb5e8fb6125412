"""Read FASTA (with dnaio) and plain-letter files into one byte per base, and the longest record once more as text."""

import hashlib
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from dnaio import FastaReader
from xopen import xopen

from genoseq.errors import UserError

UNKNOWN = 0
BASES = "ACTG"  # ids 1 to 4

_SUFFIX = re.compile(r"(?<=.)(\.(fa|fasta|fna|ffn|fas|txt|seq))?(\.(gz|bgz|bgzf|bz2|xz|zst))?\Z", re.IGNORECASE)
_BLOCK = 1 << 20  # letters
_MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}
_BOM = b"\xef\xbb\xbf"
_NUCLEOTIDES = "ACGTURYSWKMBDHVN"
_NO_NUCLEOTIDE = re.compile(rf"[^{_NUCLEOTIDES}{_NUCLEOTIDES.lower()} \t\r\n\v\f]")
_PROTEIN_ONLY = "EFILPQZXJO*"
_UPPER_CASE = bytes(range(ord("A"), ord("Z") + 1))
# find() gives -1 for any other letter, which makes it UNKNOWN.
_CODES = bytes(BASES.find("T" if letter == "U" else letter) + 1 for letter in map(chr, range(256)))


@dataclass(frozen=True, slots=True)
class Record:
    """One sequence of a genome: a chromosome, a plasmid, a contig."""

    name: str  # first word of the header, or the file's stem for plain letters
    start: int  # of its bases in the genome's
    length: int

    @property
    def end(self) -> int:
        """Offset of the first base after the record."""
        return self.start + self.length


class Sequences:
    """The sequences of the files read so far, end to end.

    Their codes, one id a base, go to `file`, if there is one, else to ``codes`` in memory.
    """

    def __init__(self, file: BinaryIO | None = None) -> None:
        self.codes, self.file = bytearray(), file
        self.bases = 0
        self.sha = hashlib.sha256()  # of the upper-case letters
        self.others = np.zeros(256, dtype=np.int64)  # counts of the letters outside ACGT, by byte
        self.lower = 0  # lower-case letters
        self.records: list[tuple[Path, Record]] = []  # those with a sequence, and their files
        self.empty: list[str] = []  # names of those without one

    def append(self, letters: str) -> str | None:
        """Append nucleotide letters, blanks left out; return the first other letter, if there is one."""
        if letters.isascii() and not (bare := letters.encode()).translate(None, b"ACGT"):  # all of most genomes
            self.sha.update(bare)
            self._put(bare.translate(_CODES))
            return None
        if wrong := _NO_NUCLEOTIDE.search(letters):
            return wrong.group()
        bare = letters.encode().translate(None, b" \t\r\n\v\f")
        upper = bare.upper()
        self.lower += len(bare.translate(None, _UPPER_CASE))
        if others := upper.translate(None, b"ACGT"):
            self.others += np.bincount(np.frombuffer(others, dtype=np.uint8), minlength=256)
        self.sha.update(upper)
        self._put(upper.translate(_CODES))
        return None

    def _put(self, codes: bytes) -> None:
        self.bases += len(codes)
        if self.file is None:
            self.codes += codes
        else:
            self.file.write(codes)


def read_file(path: Path, into: Sequences) -> None:
    """Append one file to ``into``; raise ``UserError`` if it is not a whole nucleotide sequence file."""
    before = into.bases
    names: set[str] = set()
    name = ""
    with open_file(path) as stream:
        while (head := stream.peek()) and head[:1].isspace():
            stream.read(len(head) - len(head.lstrip()))
        if not head:
            raise UserError(f"{path} is empty: give a file with a nucleotide sequence.")
        is_fasta = head.startswith(b">")
        records = _fasta(stream) if is_fasta else _plain(stream, file_stem(path))
        for number, (header, pieces) in enumerate(records, int(is_fasta)):
            start = into.bases
            name = (header.split() or [f"unnamed{number}"])[0] if is_fasta else header
            if name in names:
                place = _place(path, number)
                raise UserError(f"{place}: a second record is called {name!r}, so rename one of the two.")
            names.add(name)
            for piece in pieces:
                if wrong := into.append(piece):
                    raise _wrong_letter(path, number, name, wrong)
            if length := into.bases - start:
                into.records.append((path, Record(name, start, length)))
            else:
                into.empty.append(name)
    if into.bases == before:
        raise UserError(f"{path} has no sequence, only headers (the last is {name!r}): give a file with nucleotides.")


def file_stem(path: Path) -> str:
    """Return the file's name without the suffixes of compression and sequence formats."""
    return _SUFFIX.sub("", path.name)


def sequence_files(folder: Path) -> list[Path]:
    """Return the folder's files with the suffix of a sequence format, by name; none where there is no folder."""
    named = (path for path in folder.glob("[!.]*") if (suffix := _SUFFIX.search(path.name)) and suffix[1])
    return sorted(path for path in named if path.is_file())


class _Record(NamedTuple):  # dnaio's own refuses headers outside ASCII
    name: str
    sequence: str
    qualities: str | None


def _fasta(stream: io.BufferedReader) -> Iterator[tuple[str, Iterable[str]]]:
    for record in FastaReader(stream, sequence_class=_Record):
        letters = record.sequence
        yield record.name, (letters[at : at + _BLOCK] for at in range(0, len(letters), _BLOCK))


def _plain(stream: io.BufferedReader, name: str) -> Iterator[tuple[str, Iterable[str]]]:
    text = io.TextIOWrapper(stream, "utf-8", "surrogateescape")
    yield name, iter(lambda: text.read(_BLOCK), "")


@contextmanager
def open_file(path: Path) -> Iterator[io.BufferedReader]:
    """Open a file, decompressed and after a byte order mark; turn what goes wrong in the block into one sentence."""
    try:
        with path.open("rb") as raw:
            head = raw.peek(8)  # content decides: files get renamed, and a pipe cannot be opened twice
            form = next((form for magic, form in _MAGIC.items() if head.startswith(magic)), None)
            content: Any = xopen(raw, "rb", threads=0, format=form) if form else raw
            with io.BufferedReader(content) as stream:
                if stream.peek(3).startswith(_BOM):
                    stream.read(3)
                yield stream
    except (UserError, MemoryError):
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} does not exist: check the path.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: give the files in it, for example '{path}/*.fa'.") from None
    except PermissionError:
        raise UserError(f"{path} may not be read by this user: change its permissions or give another file.") from None
    except EOFError as error:
        raise UserError(f"{path} is cut short (its compressed data ends early): copy or download it again.") from error
    except UnicodeDecodeError as error:  # what surrogateescape makes of the byte
        raise _wrong_letter(path, 0, "", chr(0xDC00 + error.object[error.start])) from None
    except Exception as error:  # every decompressor has an error class of its own, and so has dnaio
        raise UserError(f"{path} cannot be read ({error}): copy or download it again.") from error


def _wrong_letter(path: Path, record: int, name: str, letter: str) -> UserError:
    place = _place(path, record, letter)
    if not letter.isprintable():
        code = letter.encode("utf-8", "surrogateescape").hex()
        forms = "a FASTA file or plain letters, bare or compressed (.gz .bgz .bz2 .xz .zst)"
        return UserError(f"{place}: byte 0x{code} is not text, so give {forms}.")
    kind = "a protein sequence" if letter.upper() in _PROTEIN_ONLY else "something else than a sequence"
    return UserError(
        f"{place}, record {name!r}: {letter!r} is not a nucleotide letter ({_NUCLEOTIDES}), "
        f"and the file looks like {kind}, so give a nucleotide FASTA file."
    )


def _place(path: Path, record: int, letter: str = "") -> str:
    """Name the file, and the line of a record's header or of its first such letter; record 0 is any text."""
    if path.is_file():  # a pipe can be read once only
        seen = 0
        with open_file(path) as stream:
            for number, line in enumerate(io.TextIOWrapper(stream, "utf-8", "surrogateescape"), 1):
                mark = line.lstrip()[:1] if record else ""
                seen += mark == ">"
                if seen == record and (letter in line and mark not in ("#", ">") if letter else mark == ">"):
                    return f"{path}, line {number}"
    return str(path)
