"""From what the user writes to a genome."""

import gzip
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from genoseq import paths
from genoseq.data import sources
from genoseq.data.genome import read_genome
from genoseq.data.sources import load_genome, named_genome, named_genomes
from genoseq.errors import UserError
from genoseq.paths import conf_dir

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
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Make a named genome "tiny" of two accessions, known beside the real ones."""
    conf = tmp_path / "conf"
    shutil.copytree(conf_dir() / "genome", conf / "genome")
    content: dict[str, object] = {
        "name": "tiny",
        "organism": "Nothing in particular",
        "accessions": ["AB000001.1", "AB000002.1"],
        "bases": len(LETTERS),
        "sha256": hashlib.sha256(LETTERS.encode()).hexdigest(),
    }
    (conf / "genome" / "tiny.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(sources, "conf_dir", lambda: conf)
    return content


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


def test_bundled() -> None:
    genome = load_genome("hpylori")
    assert genome.name == "hpylori" and len(genome) == 1_652_982 and not genome.unknown
    assert len(genome.records) == 1 and "NC_011333.1" in genome.records[0].name
    assert genome.letters(0, 12) == "TCAATTCAAGGG"


def test_the_configs_are_whole() -> None:
    assert named_genomes() == ["ecoli", "hpylori", "klebsiella"]
    for name in named_genomes():
        entry = named_genome(name)
        assert entry.name == name and len(entry.sha256) == 64 and entry.bases > 1e6 and entry.accessions


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
    assert genome.sha256 == named_genome(name).sha256


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
    tiny: dict[str, object], tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
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


def test_checksums_are_remembered_and_may_be_lost(
    tiny: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache = tmp_path / "mine", tmp_path / "cache"
    folder.mkdir()
    file = folder / "x.fa"
    file.write_text(f">x\n{LETTERS}\n")
    read: list[Path] = []
    real = sources.sequence_sha256
    monkeypatch.setattr(sources, "sequence_sha256", lambda path: (read.append(path), real(path))[1])
    for _ in range(3):
        assert load_genome("tiny", genome_dir=str(folder)).letters() == LETTERS
    assert len(read) == 1
    for broken in ["{", "[]", json.dumps({str(file): 3}), json.dumps({str(file): [1, 2, 3]})]:
        (cache / "checksums.json").write_text(broken)
        load_genome("tiny", genome_dir=str(folder))
    assert len(read) == 5
    os.utime(file, ns=(1, 1))
    load_genome("tiny", genome_dir=str(folder))
    assert len(read) == 6
    (tmp_path / "flat").write_text("")
    load_genome("tiny", genome_dir=str(folder), cache_dir=str(tmp_path / "flat"))
    file.write_text(f">x\n{LETTERS[::-1]}\n")
    assert "Nothing in particular" in message("tiny", genome_dir=str(folder))


def test_named_genome_is_fetched_and_checked(tiny: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    text = message("tiny")
    assert "AB000001.1 could not be fetched" in text and "cache" in text
    asked = serve(monkeypatch)
    genome = load_genome("tiny")
    assert genome.letters() == LETTERS and genome.sha256 == tiny["sha256"] and asked == tiny["accessions"]
    serve(monkeypatch, LETTERS[:-1] + "A")
    assert "is not the genome tiny" in message("tiny")
    assert "is not the genome tiny" in message(["tiny", str(FILES / "hpylori_start.txt")])


def test_damaged_bundle_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(FILES / "klebsiella_pKPHS6.fa", tmp_path / "hpylori_G27.fa.gz")
    monkeypatch.setattr(sources, "_BUNDLED", tmp_path)
    assert "install genoseq again" in message("hpylori")


@pytest.mark.parametrize("content", ["", "name: tiny", "- a", "name: [", "{name: a, accessions: [A], bogus: 1}"])
def test_broken_config(tiny: dict[str, object], content: str) -> None:
    path = sources.conf_dir() / "genome" / "tiny.yaml"
    path.write_text(content)
    assert str(path) in message("tiny")


def test_conf_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "genoseq"
    package.mkdir()
    monkeypatch.setattr(paths, "_PACKAGE", package)
    with pytest.raises(UserError, match="install genoseq again"):
        conf_dir()
    (tmp_path / "conf").mkdir()
    assert conf_dir() == tmp_path / "conf"
    (package / "conf").mkdir()  # a wheel brings its own
    assert conf_dir() == package / "conf"


def test_same_genome_by_path_and_name() -> None:
    bundled = sources._BUNDLED / "hpylori_G27.fa.gz"
    assert read_genome([bundled]).sha256 == load_genome(str(bundled)).sha256 == named_genome("hpylori").sha256
