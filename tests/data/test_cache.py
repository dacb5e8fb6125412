"""Tokens of large genomes are read once, mapped by every process, checked, and bounded."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from genoseq.data import cache
from genoseq.data.cache import clear, size
from genoseq.data.datamodule import GenomeData
from genoseq.data.genome import Genome, read_genome
from genoseq.data.split import ContiguousSplit
from genoseq.data.tokenizer import KmerTokenizer
from genoseq.errors import UserError

FILES = Path(__file__).parent / "files"


@pytest.fixture(autouse=True)
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every genome is a large one; the files that are read."""
    monkeypatch.setattr(cache, "LEAST", 1)
    had: list[Path] = []
    read_file = cache.read_file

    def spy(path: Path, into: cache.Sequences) -> None:
        had.append(path)
        read_file(path, into)

    monkeypatch.setattr(cache, "read_file", spy)
    return had


def same(one: Genome, other: Genome) -> bool:
    assert torch.equal(one.codes, other.codes)
    fields = ("name", "records", "sha256", "unknown", "files")
    return all(getattr(one, field) == getattr(other, field) for field in fields)


def test_a_genome_is_read_once_and_again_when_its_file_changes(
    tmp_path: Path, reads: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    (path := tmp_path / "a.fa").write_text(">one\nACGTNNRacgt\n>none\n>two\nGGGUCC\n")
    paths = [path, FILES / "klebsiella_plasmids.fa.gz"]
    plain = read_genome(paths)
    said, reads[:] = caplog.messages[:], []
    with ThreadPoolExecutor(4) as pool:  # of those that start at once, one reads
        found = list(pool.map(lambda _: read_genome(paths, cache=tmp_path), range(4)))
    assert all(same(plain, genome) for genome in found) and reads == paths
    caplog.clear()
    assert same(plain, read_genome(paths, cache=tmp_path)) and caplog.messages == said and reads == paths
    path.write_text(">one\nACGT\n")
    assert len(read_genome([path], cache=tmp_path)) == 4 and reads == [*paths, path]
    assert clear(tmp_path)[0] == 4 and size(tmp_path) == 0
    assert same(read_genome([path]), read_genome([path], cache=tmp_path))


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"\x03" + data[1:]])
def test_a_damaged_file_is_found_out(tmp_path: Path, reads: list[Path], damage: Callable[[bytes], bytes]) -> None:
    plain = read_genome([FILES / "klebsiella_pKPHS6.fa"])
    read_genome(plain.files, cache=tmp_path)
    [file] = tmp_path.glob("tokens/*.codes")
    file.write_bytes(damage(file.read_bytes()))
    assert same(plain, read_genome([FILES / "klebsiella_pKPHS6.fa"], cache=tmp_path)) and len(reads) == 3
    [entry] = tmp_path.glob("tokens/*.json")
    entry.write_text("{}")
    assert same(plain, read_genome([FILES / "klebsiella_pKPHS6.fa"], cache=tmp_path)) and len(reads) == 4


def test_what_was_used_longest_ago_goes_first_and_a_cache_that_cannot_be_used_stops_nothing(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GENOSEQ_CACHE_LIMIT", "9000")
    for name in ("klebsiella_pKPHS6.fa", "klebsiella_plasmids.fa.gz"):
        read_genome([FILES / name], cache=tmp_path)
    assert [file.stat().st_size for file in tmp_path.glob("tokens/*.codes")] == [8412 + 32]
    monkeypatch.setenv("GENOSEQ_CACHE_LIMIT", "1000")
    before = size(tmp_path)
    assert len(read_genome([FILES / "klebsiella_pKPHS6.fa"], cache=tmp_path)) == 1308 and size(tmp_path) == before
    (tmp_path / "tokens" / ".1.part").touch()  # of a process that was killed
    clear(tmp_path)
    assert [path.name for path in (tmp_path / "tokens").iterdir()] == [".lock"]
    monkeypatch.setenv("GENOSEQ_CACHE_LIMIT", "20GB")
    with pytest.raises(UserError, match="GENOSEQ_CACHE_LIMIT must be a number of bytes"):
        read_genome([FILES / "klebsiella_pKPHS6.fa"], cache=tmp_path)
    monkeypatch.delenv("GENOSEQ_CACHE_LIMIT")
    (tmp_path / "taken" / "tokens").mkdir(parents=True)
    (tmp_path / "taken" / "tokens" / ".lock").mkdir()
    assert len(read_genome([FILES / "klebsiella_pKPHS6.fa"], cache=tmp_path / "taken")) == 1308
    assert "read anew each time" in caplog.text


def test_kmers_are_cached_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []
    encode = KmerTokenizer.encode
    monkeypatch.setattr(KmerTokenizer, "encode", lambda self, codes: encoded.append(1) or encode(self, codes))
    got = []
    for k, folder in ((4, "a"), (4, "a"), (3, "a"), (4, "b")):
        genome = str(FILES / "klebsiella_plasmids.fa.gz")
        data = GenomeData(genome, KmerTokenizer, ContiguousSplit(), 16, k=k, cache_dir=str(tmp_path / folder))
        data.setup("fit")
        assert data._gather is not None
        got.append(data._gather.tokens)
    assert len(encoded) == 3 and torch.equal(got[0], got[1]) and torch.equal(got[0], got[3])
    other = data.genome.reverse_complement()
    data.test_on(other, data.parts.test)
    assert data._gather is not None and torch.equal(data._gather.tokens, data.tokenizer.encode(other.codes))
