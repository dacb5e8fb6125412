"""Reading genomes from files."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import random
import re
import threading
import tracemalloc
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from xopen import xopen

from genoseq.data import fasta
from genoseq.data.genome import BASES, UNKNOWN, Record, read_genome
from genoseq.errors import UserError

FILES = Path(__file__).parent / "files"


def zstd(data):
    buffer = io.BytesIO()
    with xopen(buffer, "wb", format="zst", threads=0) as stream:
        stream.write(data)
    return buffer.getvalue()


COMPRESS = {
    ".fa": lambda data: data,
    ".fa.gz": gzip.compress,
    ".bgz": lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:]),  # many members, as bgzip writes
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


def write(folder, data, name="x.fa"):
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def expect_error(path, *parts):
    with pytest.raises(UserError) as caught:
        read_genome([path])
    text = str(caught.value)
    assert all(part in text for part in (str(path), *parts)), text
    assert "\n" not in text and text.endswith(".")
    return text


def test_ids_letters_and_what_was_assumed(tmp_path, caplog):
    genome = read_genome([write(tmp_path, ">a b c\nACTG\nnRu\n>empty\n>b\nNNU\n")])
    assert genome.codes.tolist() == [1, 2, 3, 4, 0, 0, 3, 0, 0, 3]
    assert (UNKNOWN, BASES) == (0, "ACTG")
    assert genome.codes.dtype == torch.uint8 and len(genome) == 10
    assert genome.letters() == "ACTGNNTNNT" and genome.letters(1, 3) == "CT" and genome.letters(5) == "NTNNT"
    assert genome.records == (Record("a", 0, 7), Record("b", 7, 3))
    assert genome.unknown == {"N": 3, "R": 1}
    assert genome.sha256 == hashlib.sha256(b"ACTGNRUNNU").hexdigest()
    assert genome.name == "x"
    for said in ("read as unknown: 4 (N 3, R 1)", "read as T: 2.", "left out: 1 (empty)"):
        assert caplog.text.count(said) == 1


def test_real_files(caplog):
    many = read_genome([FILES / "klebsiella_plasmids.fa.gz"])
    lengths = [("CP003226.1", 3751), ("CP003227.1", 3353), ("CP003228.1", 1308)]
    assert [(r.name, r.length) for r in many.records] == lengths
    assert many.name == "klebsiella_plasmids"
    last = many.records[-1]
    assert last.end == len(many) == 8412
    one = read_genome([FILES / "klebsiella_pKPHS6.fa"])
    assert torch.equal(many.codes[last.start : last.end], one.codes)
    assert one.letters() == "".join((FILES / "klebsiella_pKPHS6.fa").read_text().splitlines()[1:])
    plain = read_genome([FILES / "hpylori_start.txt"])
    with caplog.at_level("INFO"):
        masked = read_genome([FILES / "hpylori_softmasked.fa"])
    assert plain.records == (Record("hpylori_start", 0, 6000),)
    assert masked.records[0].name == "G27_6000"
    assert plain.sha256 == masked.sha256 and torch.equal(plain.codes, masked.codes)
    assert "upper case: 1,200." in caplog.text


@pytest.mark.parametrize(
    ("text", "records"),
    [
        (b"\xef\xbb\xbf\r\n >a\rAC\rGT\r>b\rTT", {"a": "ACGT", "b": "TT"}),  # byte order mark, old line ends
        (">Müller's\nAC\n# IUPAC letters\nG T\n>\nA\n  >\nC", {"Müller's": "ACGT", "unnamed2": "A", "unnamed3": "C"}),
        (gzip.compress(b">a\nACGT\n", mtime=0), {"a": "ACGT"}),  # content tells, not the suffix
    ],
)
def test_unusual_files(tmp_path, text, records):
    genome = read_genome([write(tmp_path, text, "x.fa.bz2")])
    assert {r.name: genome.letters(r.start, r.end) for r in genome.records} == records


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
@pytest.mark.parametrize(("text", "found"), [(b">a\nACGT\n", "ACGT"), (b">a\nAC!GT\n", None), (b"ACGT", "ACGT")])
def test_a_pipe_is_read_once(tmp_path, text, found):
    os.mkfifo(path := tmp_path / "pipe")
    writer = threading.Thread(target=path.write_bytes, args=(gzip.compress(text),))
    writer.start()
    if found:
        assert read_genome([path]).letters() == found
    else:
        assert "line" not in expect_error(path, "record 'a'", "'!'")
    writer.join()


@given(
    sequences=st.lists(st.text(alphabet="ACGTacgtNnRYKU", min_size=1, max_size=200), min_size=1, max_size=6),
    width=st.integers(1, 90),
    end=st.sampled_from(["\n", "\r\n"]),
    final=st.booleans(),
    suffix=st.sampled_from(sorted(COMPRESS)),
    block=st.integers(1, 300),
)
@settings(max_examples=100)
def test_round_trip(tmp_path_factory, sequences, width, end, final, suffix, block):
    lines = []
    for i, sequence in enumerate(sequences):
        lines += [f">r{i} number > {i}", *(sequence[j : j + width] for j in range(0, len(sequence), width))]
    text = end.join(lines) + (end if final else "")
    path = write(tmp_path_factory.mktemp("trip"), COMPRESS[suffix](text.encode()), "trip" + suffix)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fasta, "_BLOCK", block)  # so that blocks end in headers, letters and line ends
        genome = read_genome([path])
    joined = "".join(sequences).upper()
    assert genome.letters() == re.sub("[^ACGT]", "N", joined.replace("U", "T"))
    assert genome.sha256 == hashlib.sha256(joined.encode()).hexdigest()
    starts = [sum(map(len, sequences[:i])) for i in range(len(sequences))]
    assert genome.records == tuple(Record(f"r{i}", starts[i], len(s)) for i, s in enumerate(sequences))
    assert sum(genome.unknown.values()) == int((genome.codes == UNKNOWN).sum())
    assert genome.name == "trip"


def test_many_files(tmp_path, caplog):
    (tmp_path / "sub").mkdir()
    a, b = write(tmp_path, ">chr\nAC\n", "a.fa"), write(tmp_path, ">chr\nGT\n>other\nA\n", "b.fa")
    clash = write(tmp_path / "sub", ">chr\nTT\n", "a.fa")
    genome = read_genome([a, b])
    assert [r.name for r in genome.records] == ["a:chr", "b:chr", "b:other"] and "FILE:RECORD" in caplog.text
    assert genome.letters() == "ACGTA" and genome.name == "a+b"
    assert genome.source == f"{a}, {b}"
    assert [r.name for r in read_genome([a, clash], name="mine").records] == [f"{a}:chr", f"{clash}:chr"]
    with pytest.raises(UserError, match="given twice"):
        read_genome([a, tmp_path / "sub" / ".." / "a.fa"])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (">a\nACGT\n>p1 some protein\nMKVL\nAC\n", ["line 4", "'p1'", "'L'", "protein"]),
        (">a\nACGT\n\nACT*\n", ["line 4", "'a'", "'*'", "protein"]),
        ("@read1\nACGT\n+\nIIII\n", ["line 1", "'@'"]),
        ("<html>\n", ["line 1", "'<'"]),
        (">a\nAC>GT\n", ["line 2", "'>'"]),
        ("ACGT\n>a\nACGT\n", ["line 2", "'>'"]),
        (">a\nAC\n>b\nA\n>a x\nGT\n", ["line 5", "'a'", "second record"]),
        ("", ["is empty"]),
        ("\n \r\n", ["is empty"]),
        (gzip.compress(b"", mtime=0), ["is empty"]),
        (b"\x1f\x8b" + b"nonsense" * 9, ["cannot be read"]),
        (">a\n>b\n\n", ["only headers", "'b'"]),
        (">a", ["only headers", "'a'"]),
        (b"ACGT\x00\x01", ["line 1", "0x00"]),
        (b"\x89PNG\r\n", ["0x89"]),
        (">a !\nAC\n# no!\n\nA\nAC!\n", ["line 6", "'a'", "'!'"]),
        (">a\r\n" + "ACGT\r\n" * 20 + "AC!T\r\n", ["line 22", "'!'"]),
        (">a\nAC\u00c9\n", ["line 2", "'a'", "'\u00c9'"]),
        (b">a\nAC\n>\xe9\nAC\n", ["line 3", "0xe9"]),
        (b"\xef\xbb\xbf\n>a\rAC\r>b\rA?\r", ["line 5", "'b'", "'?'"]),
    ],
)
def test_wrong_content(tmp_path, monkeypatch, text, parts):
    monkeypatch.setattr(fasta, "_BLOCK", 7)  # the line is right beyond the first block
    expect_error(write(tmp_path, text), *parts)


@pytest.mark.parametrize("suffix", [".fa.gz", ".bz2", ".xz", ".zst"])
def test_cut_short_or_damaged(tmp_path, suffix):
    letters = "".join(random.Random(1).choices("ACGT", k=20_000)).encode()
    whole = COMPRESS[suffix](b">a\n" + letters)
    middle = len(whole) // 2
    for short in (whole[:middle], whole[:-3]):
        expect_error(write(tmp_path, short, "short" + suffix), "cut short")
    damaged = whole[:middle] + bytes(byte ^ 0xFF for byte in whole[middle : middle + 40]) + whole[middle + 40 :]
    with pytest.raises(UserError, match="again"):
        read_genome([write(tmp_path, damaged, "damaged" + suffix)])


def test_missing_folder_and_permission(tmp_path, monkeypatch):
    expect_error(tmp_path / "no.fa", "does not exist")
    expect_error(tmp_path, "is a folder")
    path = write(tmp_path, ">a\nAC\n")

    def refuse(*_, **__):  # not chmod: the superuser may read all
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    expect_error(path, "may not be read")


def test_memory_stays_near_a_byte_a_base(tmp_path):
    lines = (b"ACGTTGCA" * 10 + b"\n") * 12_500  # a record of a million bases: the longest is what counts
    for name, records in (("big.txt", [lines] * 16), ("big.fa", [b">%d\n" % i + lines for i in range(16)])):
        path = write(tmp_path, b"".join(records), name)
        tracemalloc.start()
        try:
            genome = read_genome([path])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1.6 * len(genome), name
