"""From what the user writes to a genome."""

import gzip
import hashlib
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from genoseq.data import genome as genome_module
from genoseq.data import sources
from genoseq.data.genome import read_genome
from genoseq.data.sources import NamedGenome, load_genome, named_genomes
from genoseq.errors import UserError

FILES = Path(__file__).parent / "files"
USERS_FOLDER = os.environ.get("GENOSEQ_GENOME_DIR")
LETTERS = "ACGTTGCAAC" * 100


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tests off the network, the user's cache and the user's genomes."""
    monkeypatch.setenv("GENOSEQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GENOSEQ_GENOME_DIR", raising=False)

    def no_network(accession: str, cache: Path) -> Path:
        raise UserError(f"{accession} could not be fetched: no network in tests.")

    monkeypatch.setattr(sources, "fetch_accession", no_network)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> NamedGenome:
    """Make a named genome "tiny" of two accessions, known beside the real ones."""
    sha256 = hashlib.sha256(LETTERS.encode()).hexdigest()
    entry = NamedGenome("Nothing in particular", ["AB000001.1", "AB000002.1"], len(LETTERS), sha256)
    monkeypatch.setitem(named_genomes(), "tiny", entry)
    return entry


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[Path]:
    """Count how often each file is read."""
    counts: Counter[Path] = Counter()
    real = genome_module.read_file
    monkeypatch.setattr(genome_module, "read_file", lambda path, into: (counts.update([path]), real(path, into)))
    return counts


def message(spec: str | list[str], **folders: str) -> str:
    with pytest.raises(UserError) as caught:
        load_genome(spec, **folders)
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    return text


def serve(monkeypatch: pytest.MonkeyPatch, letters: str = LETTERS) -> list[str]:
    """Let accessions be fetched: the first half of the letters as AB000001.1, the rest as AB000002.1."""
    asked: list[str] = []
    halves = {"AB000001.1": letters[:300], "AB000002.1": letters[300:]}

    def fetched(accession: str, cache: Path) -> Path:
        asked.append(accession)
        cache.mkdir(exist_ok=True)
        path = cache / f"{accession}.fa"
        path.write_text(f">{accession}\n{halves[accession]}\n")
        return path

    monkeypatch.setattr(sources, "fetch_accession", fetched)
    return asked


def test_bundled_is_read_once(reads: Counter[Path]) -> None:
    genome = load_genome("hpylori")
    assert genome.name == "hpylori" and len(genome) == 1_652_982 and not genome.unknown
    assert len(genome.records) == 1 and "NC_011333.1" in genome.records[0].name
    assert genome.letters(0, 12) == "TCAATTCAAGGG"
    assert list(reads.values()) == [1]


def test_named_genomes_are_whole() -> None:
    assert set(named_genomes()) == {"ecoli", "hpylori", "klebsiella"}
    for entry in named_genomes().values():
        assert len(entry.sha256) == 64 and entry.bases > 1e6
        assert entry.accessions and all("." in accession for accession in entry.accessions)  # with its version


@pytest.mark.skipif(not USERS_FOLDER, reason="GENOSEQ_GENOME_DIR names no folder with these genomes")
@pytest.mark.parametrize(("name", "bases", "records"), [("ecoli", 4_639_675, 1), ("klebsiella", 5_682_322, 7)])
def test_named_genomes_in_the_users_folder(name: str, bases: int, records: int) -> None:
    try:
        genome = load_genome(name, genome_dir=USERS_FOLDER)
    except UserError as error:
        if "no network in tests" not in str(error):
            raise
        pytest.skip(f"{name} is not in GENOSEQ_GENOME_DIR")
    assert (genome.name, len(genome), len(genome.records)) == (name, bases, records)
    assert genome.sha256 == named_genomes()[name].sha256


def test_paths_lists_and_globs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FILES)
    assert load_genome("hpylori_start.txt").name == "hpylori_start"
    expected = ["CP003226.1", "CP003227.1", "CP003228.1"]
    assert [r.name for r in load_genome("*plasmids*").records] == expected
    assert [r.name for r in load_genome(str(FILES / "**" / "*plasmids*")).records] == expected
    both = load_genome(["hpylori_start.txt", "klebsiella_pKPHS6.fa"])
    assert [r.name for r in both.records] == ["hpylori_start", "CP003228.1"]
    assert load_genome("hpylori_start.txt, klebsiella_pKPHS6.fa").sha256 == both.sha256
    with_comma = tmp_path / "a,b[1].fa"
    with_comma.write_text(">x\nAC\n")
    assert load_genome(str(with_comma)).letters() == "AC"
    assert len(load_genome(["hpylori", "hpylori_start.txt"])) == 1_652_982 + 6000


def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "did you mean hpylori" in message("hpilori")
    assert "did you mean ecoli" in message("E_coli")
    assert "'no/such.fa'" in message("no/such.fa") and "named genomes are ecoli" in message("no/such.fa")
    assert "No file matches '*.fasta'" in message("*.fasta")
    assert "is a folder" in message(str(tmp_path))
    assert "assembly" in message("GCF_000005845.2") and "NC_000913.3" in message("GCF_000005845.2")
    assert "No genome was given" in message("") and "No genome was given" in message([])
    assert len(message("ACGT" * 2000)) < 400  # letters instead of a file: too long for a file's name
    assert "no file" in message("a\0b")
    assert "data.genome_dir=" in message("ecoli", genome_dir=str(tmp_path / "none"))
    monkeypatch.setenv("GENOSEQ_GENOME_DIR", str(tmp_path / "none"))
    assert "GENOSEQ_GENOME_DIR=" in message("ecoli")
    assert load_genome("hpylori").name == "hpylori"  # bundled: no folder is needed


def test_accessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "CP003228.1 could not be fetched" in message("CP003228.1")
    asked = serve(monkeypatch)
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


@pytest.mark.parametrize("how", ["argument", "environment", "cache"])
def test_named_genome_is_known_by_its_checksum(
    tiny: NamedGenome, reads: Counter[Path], tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a_protein.fa").write_text(">p\nMKVLEF\n" * 20)
    (folder / "b_broken.fa.gz").write_bytes(gzip.compress(LETTERS.encode() * 9)[:-9] + b"x" * 50)
    (folder / "c_other.fa").write_text(f">x\n{LETTERS[1:]}\n")
    (folder / "c_too_large.fa").write_text(LETTERS + "\n" * 1_100_000)
    (folder / "notes.md").write_text(LETTERS)
    with gzip.open(folder / "unrelated name.fna.gz", "wt") as file:
        file.write(f">one\n{LETTERS[:500].lower()}\n>two\n{LETTERS[500:]}\n")
    arguments = {"argument": {"genome_dir": str(folder)}, "environment": {}, "cache": {"cache_dir": str(folder)}}[how]
    if how == "environment":
        monkeypatch.setenv("GENOSEQ_GENOME_DIR", str(folder))
    genome = load_genome("tiny", **arguments)
    assert genome.name == "tiny" and genome.letters() == LETTERS and "unrelated name" in genome.source
    assert [r.name for r in genome.records] == ["one", "two"]
    assert set(reads.values()) == {1}
    (folder / "unrelated name.fna.gz").write_text(f">x\n{LETTERS[::-1]}\n")
    assert "Nothing in particular" in message("tiny", **arguments)


def test_named_genome_is_fetched_and_checked(tiny: NamedGenome, monkeypatch: pytest.MonkeyPatch) -> None:
    text = message("tiny")
    assert "AB000001.1 could not be fetched" in text and "cache" in text
    asked = serve(monkeypatch)
    genome = load_genome("tiny")
    assert genome.letters() == LETTERS and genome.sha256 == tiny.sha256 and asked == tiny.accessions
    serve(monkeypatch, LETTERS[:-1] + "A")
    assert "is not the genome tiny" in message("tiny")
    assert "is not the genome tiny" in message(["tiny", str(FILES / "hpylori_start.txt")])


def test_damaged_bundle_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(FILES / "klebsiella_pKPHS6.fa", tmp_path / "hpylori_G27.fa.gz")
    monkeypatch.setattr(sources, "_BUNDLED", tmp_path)
    assert "install genoseq again" in message("hpylori")


def test_same_genome_by_path_and_name() -> None:
    bundled = sources._BUNDLED / "hpylori_G27.fa.gz"
    assert read_genome([bundled]).sha256 == load_genome("hpylori").sha256
