"""``genoseq.evaluate``: a checkpoint on its own test part and on other genomes."""

import csv
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from genoseq.app import build
from genoseq.app.checkpoint import load_checkpoint, restore_module
from genoseq.data.genome import read_genome

FILES = Path(__file__).parent / "data" / "files"
LETTERS = FILES / "hpylori_start.txt"
PLASMIDS = FILES / "klebsiella_plasmids.fa.gz"
SMALL = FILES / "klebsiella_pKPHS6.fa"
FIGURES = ("loss", "accuracy", "bits_per_base", "perplexity")
HERE = ("trainer.accelerator=cpu", "trainer.precision=32-true")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a genome of its own, which tests may take away."""
    folder = tmp_path_factory.mktemp("evaluate")
    shutil.copy(LETTERS, folder / "genome.txt")
    return folder


@pytest.fixture(scope="module")
def trained(run_verb: Callable[..., Any], tiny: tuple[str, ...], home: Path) -> Any:
    """A run on that genome, with dice loaded enough that a state matters."""
    ran = run_verb(
        "train", home / "run", *tiny, f"data.genome={home / 'genome.txt'}", "optimizer.lr=0.1", "scheduler=none"
    )
    assert ran.code == 0, ran.err
    return ran


@pytest.fixture
def evaluate(run_verb: Callable[..., Any], trained: Any, tmp_path: Path) -> Callable[..., Any]:
    """A function from overrides to an evaluation of that run's best weights."""

    def run(*overrides: object, run: Any = trained, code: int = 0) -> Any:
        ckpt = run.folder / "checkpoints" / "best.ckpt"
        ran = run_verb("evaluate", tmp_path / "evaluated", f"ckpt={ckpt}", *HERE, *overrides)
        assert ran.code == code, ran.err
        return ran

    return run


@pytest.fixture
def without_genome(home: Path) -> Any:
    """Take the genome away for one test."""
    genome, aside = home / "genome.txt", home / "aside.txt"
    genome.rename(aside)
    yield genome
    aside.replace(genome)


def records(ran: Any) -> list[dict[str, str]]:
    with (ran.folder / "records.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def sums_up(ran: Any) -> None:
    """Check that the records' figures sum to the totals."""
    rows, total = records(ran), ran.json("evaluation.json")
    tokens = [int(row["tokens"]) for row in rows]
    assert sum(tokens) == total["test/tokens"] > 0
    for name in ("loss", "accuracy", "bits_per_base"):
        mean = sum(n * float(row[name]) for n, row in zip(tokens, rows, strict=True)) / sum(tokens)
        assert mean == pytest.approx(total[f"test/{name}"], rel=1e-5), name
    for row in rows:
        assert math.exp(float(row["loss"])) == pytest.approx(float(row["perplexity"]), rel=1e-5)
    assert total["test/perplexity"] == pytest.approx(math.exp(total["test/loss"]), rel=1e-5)


def test_its_own_test_part(evaluate: Callable[..., Any], trained: Any) -> None:
    ran = evaluate("baseline=false")
    measured, result = ran.json("evaluation.json"), trained.json()
    for name in FIGURES:
        assert measured[f"test/{name}"] == pytest.approx(result[f"test/{name}"], rel=1e-6), name
    for key in ("leakage/positions", "leakage/shared_kmers", "genome/sha256", "split/leaks", "chance/bits_per_base"):
        assert measured[key] == result[key], key
    assert measured["test/part"] == "test part" and measured["test/mode"] == "frozen"
    assert measured["checkpoint"] == str(trained.folder / "checkpoints" / "best.ckpt")
    assert measured["checkpoint/genome"] == "genome" and measured["checkpoint/sha256"] == measured["genome/sha256"]
    assert f"{measured['test/bits_per_base']:.3f}" in ran.out and str(ran.folder) in ran.out
    sums_up(ran)


def test_count_models_beside_it(
    evaluate: Callable[..., Any], run_verb: Callable[..., Any], tiny: tuple[str, ...], home: Path, tmp_path: Path
) -> None:
    config = [*tiny, f"data.genome={home / 'genome.txt'}", "baseline=true"]
    run = run_verb("train", tmp_path / "run", *config)
    measured, result = evaluate(run=run).json("evaluation.json"), run.json()
    for name in ("baseline", "imm"):
        for figure in ("accuracy", "bits_per_base"):
            assert measured[f"{name}/{figure}"] == pytest.approx(result[f"{name}/{figure}"], rel=1e-9)
    assert measured["baseline/order"] == result["baseline/order"]


def test_another_genome_by_record(evaluate: Callable[..., Any]) -> None:
    ran = evaluate(f"data.genome={PLASMIDS}")
    sums_up(ran)
    rows, total = records(ran), ran.json("evaluation.json")
    assert [row["record"] for row in rows] == ["CP003226.1", "CP003227.1", "CP003228.1"]
    assert sum(int(row["bases"]) for row in rows) == total["genome/bases"] == 8412
    genome = read_genome([PLASMIDS])
    # every base but each record's first is scored
    assert [int(row["tokens"]) for row in rows] == [record.length - 1 for record in genome.records]
    assert total["test/part"] == "whole genome" and total["genome/name"] == "klebsiella_plasmids"
    assert total["checkpoint/genome"] == "genome" and total["leakage/positions"] == 0
    for name in ("baseline", "imm"):
        bits = [float(row[f"{name}/bits_per_base"]) for row in rows]
        assert min(bits) <= total[f"{name}/bits_per_base"] <= max(bits)
    assert "imm" in ran.out and "CP003227.1" in ran.out


def test_the_genome_it_knows_is_known(evaluate: Callable[..., Any], home: Path, tmp_path: Path) -> None:
    (same := tmp_path / "same.fa").write_text(">same\n" + LETTERS.read_text())
    seen = evaluate(f"data.genome={same}", "baseline=false").json("evaluation.json")
    # 74 % of it is the training part, letter for letter
    assert seen["leakage/shared_kmers"] > 0.7 and seen["test/part"] == "whole genome"


def test_records_of_a_few_bases(evaluate: Callable[..., Any], tmp_path: Path) -> None:
    text = (
        f">one\nA\n>eight\nACGTTGCA\n>unknown\n{'N' * 50}\n>two\nAC\n>last\n{SMALL.read_text().partition(chr(10))[2]}"
    )
    (path := tmp_path / "few.fa").write_text(text)
    ran = evaluate(f"data.genome={path}", "baseline=false")
    rows = {row["record"]: row for row in records(ran)}
    assert set(rows) == {"eight", "two", "last"}
    assert (int(rows["eight"]["tokens"]), int(rows["two"]["tokens"])) == (7, 1)
    assert all(math.isfinite(float(row["loss"])) for row in rows.values())
    assert "1 bases lie in pieces too short" in ran.out
    sums_up(ran)


def test_a_list_of_genomes(evaluate: Callable[..., Any]) -> None:
    ran = evaluate(f"data.genome=[{SMALL},{LETTERS}]", "baseline=false")
    sums_up(ran)
    assert [row["record"] for row in records(ran)] == ["CP003228.1", "hpylori_start"]


def one_pass(ckpt: Path, genome: Path, every: int | None = None) -> tuple[float, float]:
    """Return nats and accuracy a base of one record, read in one call (or in pieces from the zero state)."""
    about = load_checkpoint(str(ckpt))
    data = build.build_data(about["genoseq"]["config"]["data"] | {"genome": str(genome)})
    module = restore_module(about, data)
    tokens = data.genome.codes.long()[None]
    with torch.inference_mode():
        if every is None:
            logits = module.net(tokens[:, :-1])[0]
        else:
            logits = torch.cat([module.net(piece)[0] for piece in tokens[:, :-1].split(every, 1)], 1)
    words, target = logits[0, :, 1:], tokens[0, 1:] - 1
    return float(functional.cross_entropy(words, target)), float((words.argmax(-1) == target).float().mean())


def test_the_state_is_carried_along_a_record(evaluate: Callable[..., Any], trained: Any) -> None:
    measured = evaluate(f"data.genome={SMALL}", "data.eval_rows=1", "baseline=false").json("evaluation.json")
    ckpt = trained.folder / "checkpoints" / "best.ckpt"
    loss, accuracy = one_pass(ckpt, SMALL)
    assert measured["test/loss"] == pytest.approx(loss, rel=1e-5)
    assert measured["test/accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert one_pass(ckpt, SMALL, every=32)[0] != pytest.approx(loss, rel=1e-4)  # so the state shows


def test_a_run_that_does_not_carry_its_state(
    run_verb: Callable[..., Any], tiny: tuple[str, ...], trained: Any, evaluate: Callable[..., Any], tmp_path: Path
) -> None:
    genome = trained.folder.parent / "genome.txt"
    config = [*tiny, f"data.genome={genome}", "optimizer.lr=0.1", "scheduler=none", "data.carry_state=false"]
    run = run_verb("train", tmp_path / "run", *config)
    measured = evaluate(run=run, code=0).json("evaluation.json")
    assert measured["test/loss"] == pytest.approx(run.json()["test/loss"], rel=1e-6)
    # the same weights, measured in another way
    nets = [torch.load(r.folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"] for r in (run, trained)]
    assert all(torch.equal(nets[0][k], nets[1][k]) for k in nets[0] if k.startswith("net."))
    assert measured["test/loss"] != pytest.approx(trained.json()["test/loss"], rel=1e-4)


def test_k_mers(
    run_verb: Callable[..., Any], tiny: tuple[str, ...], evaluate: Callable[..., Any], tmp_path: Path
) -> None:
    run = run_verb("train", tmp_path / "run", *tiny, f"data.genome={LETTERS}", "data=kmer", "data.k=3", "data.stride=2")
    own = evaluate("baseline=false", run=run).json("evaluation.json")
    assert own["test/loss"] == pytest.approx(run.json()["test/loss"], rel=1e-6)
    shutil.rmtree(tmp_path / "evaluated")
    ran = evaluate(f"data.genome={PLASMIDS}", "baseline=false", run=run)
    sums_up(ran)
    result = ran.json("evaluation.json")
    assert (result["tokens/k"], result["tokens/stride"]) == (3, 2)
    assert result["test/bits_per_base"] == pytest.approx(result["test/loss"] / math.log(2) / 2, rel=1e-6)


def test_random_windows_are_not_called_honest(
    run_verb: Callable[..., Any], tiny: tuple[str, ...], evaluate: Callable[..., Any], tmp_path: Path
) -> None:
    run = run_verb("train", tmp_path / "run", *tiny, f"data.genome={LETTERS}", "data/split=random_windows")
    ran = evaluate("baseline=false", run=run)
    assert ran.json("evaluation.json")["split/leaks"] is True and "measure memory" in " ".join(ran.out.split())
    shutil.rmtree(tmp_path / "evaluated")
    other = evaluate(f"data.genome={PLASMIDS}", "baseline=false", run=run)
    assert other.json("evaluation.json")["split/leaks"] is False


def test_the_training_genome_is_gone(evaluate: Callable[..., Any], without_genome: Path) -> None:
    own = evaluate(code=2)
    assert str(without_genome) in own.err and "Traceback" not in own.err
    shutil.rmtree(own.folder)
    other = evaluate(f"data.genome={SMALL}")
    result = other.json("evaluation.json")
    assert "count models" in other.out and "left out" in other.out and str(without_genome) in other.out
    assert "baseline/accuracy" not in result and "leakage/positions" not in result
    sums_up(other)


def test_the_training_genome_has_changed(evaluate: Callable[..., Any], without_genome: Path) -> None:
    without_genome.write_text(LETTERS.read_text()[:-200])
    own = evaluate(code=2)
    assert "has changed" in own.err and str(without_genome) in own.err
    shutil.rmtree(own.folder)
    other = evaluate(f"data.genome={SMALL}")
    assert "has changed" in other.out and "baseline/accuracy" not in other.json("evaluation.json")


def test_the_split_s_file_is_gone(
    run_verb: Callable[..., Any], tiny: tuple[str, ...], evaluate: Callable[..., Any], tmp_path: Path
) -> None:
    (bed := tmp_path / "my.bed").write_text("hpylori_start\t0\t4000\ttrain\nhpylori_start\t5000\t6000\ttest\n")
    split = ("data/split=bed", f"data.split.file={bed}")
    run = run_verb("train", tmp_path / "run", *tiny, f"data.genome={LETTERS}", *split)
    bed.unlink()
    assert str(bed) in evaluate(run=run, code=2).err
    shutil.rmtree(tmp_path / "evaluated")
    other = evaluate(f"data.genome={SMALL}", run=run)
    assert "left out" in other.out and str(bed) in other.out
    sums_up(other)


def test_from_another_folder(evaluate: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a checkpoint knows its genome by a whole path
    assert evaluate("baseline=false").json("evaluation.json")["test/part"] == "test part"
