"""From what the user writes to a genome."""

import gzip
import hashlib
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from genoseq.data import cache, sources
from genoseq.data.sources import NamedGenome, load_genome, named_genomes
from genoseq.errors import UserError

FILES = Path(__file__).parent / "files"
USERS_FOLDER = os.environ.get("GENOSEQ_GENOME_DIR")
LETTERS = "ACGTTGCAAC" * 100


@pytest.fixture(autouse=True)
def asked(tmp_path, monkeypatch):
    """The accessions that are asked for; keeps off the network, the user's cache and the user's genomes."""
    monkeypatch.setenv("GENOSEQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GENOSEQ_GENOME_DIR", raising=False)
    accessions = []

    def no_network(accession, cache):
        accessions.append(accession)
        raise UserError(f"{accession} could not be fetched: no network in tests.")

    monkeypatch.setattr(sources, "fetch_accession", no_network)
    return accessions


@pytest.fixture
def serve(asked, tmp_path, monkeypatch):
    """A function that lets accessions be fetched: 300 of its letters as AB000001.1, the others as AB000002.1."""

    def start(letters=LETTERS):
        def fetched(accession, cache):
            asked.append(accession)
            path = tmp_path / f"{accession}.fa"
            half = letters[:300] if accession == "AB000001.1" else letters[300:]
            path.write_text(f">{accession}\n{half}\n")
            return path

        asked.clear()
        monkeypatch.setattr(sources, "fetch_accession", fetched)

    return start


@pytest.fixture
def tiny(monkeypatch):
    """A named genome "tiny" of two accessions, known beside the real ones."""
    sha256 = hashlib.sha256(LETTERS.encode()).hexdigest()
    entry = NamedGenome("Nothing in particular", ["AB000001.1", "AB000002.1"], len(LETTERS), sha256)
    monkeypatch.setitem(named_genomes(), "tiny", entry)
    return entry


@pytest.fixture
def reads(monkeypatch):
    """Counts of how often each file is read."""
    counts, real = Counter(), cache.read_file
    monkeypatch.setattr(cache, "read_file", lambda path, into: (counts.update([path]), real(path, into)))
    return counts


def message(spec, **folders):
    with pytest.raises(UserError) as caught:
        load_genome(spec, **folders)
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".") and len(text) < 400
    return text


def test_bundled_is_read_once(reads):
    genome = load_genome("hpylori")
    assert genome.name == "hpylori" and len(genome) == 1_652_982 and not genome.unknown
    assert len(genome.records) == 1 and "NC_011333.1" in genome.records[0].name
    assert genome.letters(0, 12) == "TCAATTCAAGGG"
    assert list(reads.values()) == [1]


def test_named_genomes_are_whole():
    assert set(named_genomes()) == {"ecoli", "hpylori", "klebsiella"}
    for entry in named_genomes().values():
        assert len(entry.sha256) == 64 and entry.bases > 1e6
        assert entry.accessions and all("." in accession for accession in entry.accessions)  # with its version


@pytest.mark.skipif(not USERS_FOLDER, reason="GENOSEQ_GENOME_DIR names no folder with these genomes")
@pytest.mark.parametrize(("name", "bases", "records"), [("ecoli", 4_639_675, 1), ("klebsiella", 5_682_322, 7)])
def test_named_genomes_in_the_users_folder(name, bases, records):
    genome = load_genome(name, genome_dir=USERS_FOLDER)
    assert (genome.name, len(genome), len(genome.records)) == (name, bases, records)


def test_paths_lists_and_globs(tmp_path, monkeypatch):
    monkeypatch.chdir(FILES)
    assert load_genome("hpylori_start.txt").name == "hpylori_start"
    for pattern in ("*plasmids*", str(FILES / "**" / "*plasmids*")):
        assert [r.name for r in load_genome(pattern).records] == ["CP003226.1", "CP003227.1", "CP003228.1"]
    both = load_genome(["hpylori_start.txt", "klebsiella_pKPHS6.fa"])
    assert [r.name for r in both.records] == ["hpylori_start", "CP003228.1"]
    assert load_genome("hpylori_start.txt, klebsiella_pKPHS6.fa").sha256 == both.sha256
    with_comma = tmp_path / "a,b[1].fa"
    with_comma.write_text(">x\nAC\n")
    assert load_genome(str(with_comma)).letters() == "AC"
    assert len(load_genome(["hpylori", "hpylori_start.txt"])) == 1_652_982 + 6000


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("hpilori", "did you mean hpylori"),
        ("E_coli", "did you mean ecoli"),
        ("no/such.fa", "'no/such.fa' is no file, named genome or accession"),
        ("no/such.fa", "the named genomes are ecoli"),
        ("*.fasta", "No file matches '*.fasta'"),
        (".", "is a folder"),
        ("GCF_000005845.2", "is an assembly"),
        ("CP003228.1", "CP003228.1 could not be fetched"),
        ("", "No genome was given"),
        ([], "No genome was given"),
        ("ACGT" * 2000, "is no file"),  # letters instead of a file: too long for a file's name
        ("a\0b", "is no file"),
    ],
)
def test_mistakes(tmp_path, monkeypatch, spec, says):
    monkeypatch.chdir(tmp_path)
    assert says in message(spec)


def test_a_folder_that_is_missing(tmp_path, monkeypatch):
    assert "data.genome_dir=" in message("ecoli", genome_dir=str(tmp_path / "none"))
    monkeypatch.setenv("GENOSEQ_GENOME_DIR", str(tmp_path / "none"))
    assert "GENOSEQ_GENOME_DIR=" in message("ecoli")
    assert load_genome("hpylori").name == "hpylori"  # bundled: no folder is needed


def test_accessions(serve, asked, tmp_path):
    serve()
    genome = load_genome("AB000001.1,AB000002.1")
    assert genome.letters() == LETTERS and genome.name == "AB000001.1+AB000002.1"
    assert asked == ["AB000001.1", "AB000002.1"]
    folder = tmp_path / "mine"
    folder.mkdir()
    with gzip.open(folder / "AB000001.1.fna.gz", "wt") as file:
        file.write(">whatever\nGGG\n")
    assert load_genome(["AB000001"], genome_dir=str(folder)).letters() == "GGG"
    assert load_genome(["AB000002.1"], genome_dir=str(folder)).letters() == LETTERS[300:]
    assert asked[2:] == ["AB000002.1"]


@pytest.mark.parametrize("how", ["genome_dir", "environment", "cache_dir"])
def test_named_genome_is_known_by_its_checksum(tiny, reads, tmp_path, how, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a_protein.fa").write_text(">p\nMKVLEF\n" * 20)
    (folder / "b_broken.fa.gz").write_bytes(gzip.compress(LETTERS.encode() * 9)[:-9] + b"x" * 50)
    (folder / "c_other.fa").write_text(f">x\n{LETTERS[1:]}\n")
    unread = {
        folder / "c_too_large.fa": 1_100_000,
        folder / "notes.md": 1,
        folder / "other": 1,
        folder / ".hidden.fa": 1,
    }
    for path, line_ends in unread.items():
        path.write_text(LETTERS + "\n" * line_ends)
    with gzip.open(folder / "unrelated name.FNA.gz", "wt") as file:
        file.write(f">one\n{LETTERS[:500].lower()}\n>two\n{LETTERS[500:]}\n")
    folders = {how: str(folder)} if how != "environment" else {}
    if how == "environment":
        monkeypatch.setenv("GENOSEQ_GENOME_DIR", str(folder))
    genome = load_genome("tiny", **folders)
    assert genome.name == "tiny" and genome.letters() == LETTERS and "unrelated name" in genome.source
    assert [r.name for r in genome.records] == ["one", "two"]
    assert set(reads.values()) == {1} and not set(unread) & set(reads)
    (folder / "unrelated name.FNA.gz").write_text(f">x\n{LETTERS[::-1]}\n")
    assert "Nothing in particular" in message("tiny", **folders)


def test_named_genome_is_fetched_and_checked(tiny, serve, asked):
    text = message("tiny")
    assert "AB000001.1 could not be fetched" in text and "cache" in text
    serve()
    genome = load_genome("tiny")
    assert genome.letters() == LETTERS and genome.sha256 == tiny.sha256 and asked == tiny.accessions
    serve(LETTERS[:-1] + "A")
    for spec in ("tiny", ["tiny", str(FILES / "hpylori_start.txt")]):
        assert "is not the genome tiny" in message(spec)


def test_damaged_bundle_is_found_out(tmp_path, monkeypatch):
    shutil.copy(FILES / "klebsiella_pKPHS6.fa", tmp_path / "hpylori_G27.fa.gz")
    monkeypatch.setattr(sources, "_BUNDLED", tmp_path)
    assert "install genoseq again" in message("hpylori")
