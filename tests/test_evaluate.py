"""``genoseq.evaluate``: a checkpoint on its own test part and on other genomes."""

import csv
import math
import shutil
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from genoseq.app.checkpoint import load_checkpoint, restore_data, restore_module
from genoseq.data.genome import read_genome
from genoseq.training import mixing

FILES = Path(__file__).parent / "data" / "files"
LETTERS = FILES / "hpylori_start.txt"
PLASMIDS = FILES / "klebsiella_plasmids.fa.gz"
SMALL = FILES / "klebsiella_pKPHS6.fa"
METRICS = ("loss", "accuracy", "bits_per_base", "perplexity")
HERE = ("trainer.accelerator=cpu", "trainer.precision=32-true")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a genome of its own, which tests may take away."""
    folder = tmp_path_factory.mktemp("evaluate")
    shutil.copy(LETTERS, folder / "genome.txt")
    return folder


@pytest.fixture(scope="module")
def train(run_verb: Callable[..., Any], tiny: tuple[str, ...], home: Path) -> Callable[..., Any]:
    """A function from a name and overrides to a run on that genome, with a learning rate at which a state matters."""

    def run(name: str, *overrides: object) -> Any:
        config = (f"data.genome={home / 'genome.txt'}", "optimizer.lr=0.1", "scheduler=none")
        ran = run_verb("train", home / name, *tiny, *config, *overrides)
        assert ran.code == 0, ran.err
        return ran

    return run


@pytest.fixture(scope="module")
def trained(train: Callable[..., Any]) -> Any:
    return train("run", "baseline=true", "tags=[mine,first]")


@pytest.fixture
def evaluate(run_verb: Callable[..., Any], trained: Any, tmp_path: Path) -> Callable[..., Any]:
    """A function from overrides to an evaluation of that run's best weights."""
    number = count()

    def run(*overrides: object, run: Any = trained, code: int = 0) -> Any:
        ckpt = run.folder / "checkpoints" / "best.ckpt"
        ran = run_verb("evaluate", tmp_path / f"evaluated{next(number)}", f"ckpt={ckpt}", *HERE, *overrides)
        assert ran.code == code, ran.err
        return ran

    return run


def records(ran: Any) -> list[dict[str, str]]:
    with (ran.folder / "records.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def totals(ran: Any) -> dict[str, Any]:
    """Return an evaluation's result after checking that it is the mean of its records."""
    rows, total = records(ran), ran.json("evaluation.json")
    tokens = [int(row["tokens"]) for row in rows]
    assert sum(tokens) == total["test/tokens"] > 0
    for name in ("loss", "accuracy", "bits_per_base"):
        mean = sum(n * float(row[name]) for n, row in zip(tokens, rows, strict=True)) / sum(tokens)
        assert mean == pytest.approx(total[f"test/{name}"], rel=1e-5), name
    for row in rows:
        assert 2 ** float(row["bits_per_base"]) == pytest.approx(float(row["perplexity"]), rel=1e-5)
    assert total["test/perplexity"] == pytest.approx(2 ** total["test/bits_per_base"], rel=1e-5)
    return total  # type: ignore[no-any-return]


def test_its_own_test_part(
    evaluate: Callable[..., Any], trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a checkpoint has the whole path of its genome
    ran = evaluate()
    total, result = totals(ran), trained.json()
    for name in (f"test/{name}" for name in METRICS):
        assert total[name] == pytest.approx(result[name], rel=1e-6), name
    same = ("leakage/", "baseline/", "imm/", "chance/", "genome/", "split/leaks")
    ours, its = ({k: v for k, v in found.items() if k.startswith(same)} for found in (total, result))
    assert ours == its
    assert total["test/part"] == "test part" and total["test/mode"] == "frozen"
    assert total["checkpoint"] == str(trained.folder / "checkpoints" / "best.ckpt")
    assert total["checkpoint/genome"] == "genome" and total["checkpoint/sha256"] == total["genome/sha256"]
    assert f"{total['test/bits_per_base']:.3f}" in ran.out and str(ran.folder) in ran.out
    assert result["tags"] == "mine,first"


def test_a_sample_of_a_long_test_part(evaluate: Callable[..., Any], train: Callable[..., Any]) -> None:
    sampled = train("sampled", "data.val_bases=200", "data.eval_bases=400", "baseline=true")
    assert "scored: 200 bases of val and 400 bases of test, evenly spread" in sampled.out
    result = sampled.json()
    assert result["test/bases"] == 400
    for overrides in ((), ("data.eval_bases=null",), ("data.eval_bases=200",)):
        total = totals(evaluate(*overrides, run=sampled))
        same = [total[key] == pytest.approx(result[key]) for key in ("test/bits_per_base", "imm/bits_per_base")]
        assert all(same) if not overrides else not any(same)
        assert total["test/part"] == "test part" + ("" if "null" in str(overrides) else ", sampled")
    assert totals(evaluate(f"data.genome={SMALL}", run=sampled))["test/bases"] > 400


def test_another_genome_by_record(evaluate: Callable[..., Any]) -> None:
    ran = evaluate(f"data.genome={PLASMIDS}")
    rows, total = records(ran), totals(ran)
    assert [row["record"] for row in rows] == ["CP003226.1", "CP003227.1", "CP003228.1"]
    assert sum(int(row["bases"]) for row in rows) == total["genome/bases"] == 8412
    # every base but each record's first is scored
    assert [int(row["tokens"]) for row in rows] == [r.length - 1 for r in read_genome([PLASMIDS]).records]
    assert total["test/part"] == "whole genome" and total["genome/name"] == "klebsiella_plasmids"
    assert total["leakage/positions"] is None and "another sequence" in total["leakage/note"]
    assert total["leakage/note"] in " ".join(ran.out.split())
    for name in ("baseline", "imm"):
        bits = [float(row[f"{name}/bits_per_base"]) for row in rows]
        assert min(bits) <= total[f"{name}/bits_per_base"] <= max(bits)
    assert "interpolated Markov model" in ran.out and "CP003227.1" in ran.out


def test_leakage_of_the_training_genome_and_of_the_whole_of_an_excerpt(
    evaluate: Callable[..., Any], train: Callable[..., Any], trained: Any, tmp_path: Path
) -> None:
    (same := tmp_path / "same.fa").write_text(">same\n" + LETTERS.read_text())
    total = totals(evaluate(f"data.genome={same}", "baseline=false"))
    bed = [line.split("\t") for line in (trained.folder / "split.bed").read_text().splitlines()[1:]]
    train_bases = sum(int(stop) - int(start) for _, start, stop, part in bed if part == "train")
    assert total["leakage/positions"] == pytest.approx(train_bases / total["genome/bases"], rel=1e-9)
    assert total["leakage/shared_kmers"] > 0.7 and total["test/part"] == "whole genome"
    excerpt = train("excerpt", "data.bases=3000", "data/split=random_windows", "data.eval_windows=64")
    # windows at every base: nearly all of the excerpt is in some training window
    total = totals(evaluate(f"data.genome={same}", "baseline=false", run=excerpt))
    assert total["leakage/positions"] == pytest.approx(3000 / total["genome/bases"], rel=0.01)
    assert total["split/leaks"] is False
    own = evaluate("baseline=false", run=excerpt)
    assert own.json("evaluation.json")["split/leaks"] is True and "measure memory" in " ".join(own.out.split())


def test_records_of_a_few_bases_and_a_list_of_genomes(evaluate: Callable[..., Any], tmp_path: Path) -> None:
    letters = SMALL.read_text().partition("\n")[2]
    (path := tmp_path / "few.fa").write_text(
        f">one\nA\n>eight\nACGTTGCA\n>unknown\n{'N' * 50}\n>two\nAC\n>last\n{letters}"
    )
    ran = evaluate(f"data.genome=[{path},{LETTERS}]", "baseline=false")
    totals(ran)
    tokens = {row["record"]: int(row["tokens"]) for row in records(ran)}
    assert list(tokens) == ["eight", "two", "last", "hpylori_start"]
    assert (tokens["eight"], tokens["two"]) == (7, 1)
    assert "1 bases lie in pieces too short" in ran.out


def one_pass(ckpt: Path, genome: Path, every: int | None = None) -> tuple[float, float]:
    """Return nats and accuracy a base of one record, read in one call (or in pieces from the zero state)."""
    checkpoint = load_checkpoint(str(ckpt))
    data = restore_data(checkpoint["genoseq"], genome=str(genome))
    module = restore_module(checkpoint, data)
    tokens = data.genome.codes.long()[None]
    with torch.inference_mode():
        if every is None:
            logits = module.net(tokens[:, :-1])[0]
        else:
            logits = torch.cat([module.net(piece)[0] for piece in tokens[:, :-1].split(every, 1)], 1)
    known, target = logits[0, :, 1:], tokens[0, 1:] - 1
    return float(functional.cross_entropy(known, target)), float((known.argmax(-1) == target).float().mean())


def test_the_state_is_carried_along_a_record(evaluate: Callable[..., Any], trained: Any) -> None:
    total = evaluate(f"data.genome={SMALL}", "data.eval_rows=1", "baseline=false").json("evaluation.json")
    score = partial(one_pass, trained.folder / "checkpoints" / "best.ckpt", SMALL)
    loss, accuracy = score()
    assert total["test/loss"] == pytest.approx(loss, rel=1e-5)
    assert total["test/accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert score(every=32)[0] != pytest.approx(loss, rel=1e-4)  # so the state shows


def test_a_run_that_does_not_carry_its_state(
    train: Callable[..., Any], trained: Any, evaluate: Callable[..., Any]
) -> None:
    run = train("windows", "data.carry_state=false", "tags=mine")
    total = evaluate("baseline=false", run=run).json("evaluation.json")
    assert total["test/loss"] == pytest.approx(run.json()["test/loss"], rel=1e-6) and run.json()["tags"] == "mine"
    # the same weights, measured in another way
    nets = [torch.load(r.folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"] for r in (run, trained)]
    assert all(torch.equal(nets[0][k], nets[1][k]) for k in nets[0] if k.startswith("net."))
    assert total["test/loss"] != pytest.approx(trained.json()["test/loss"], rel=1e-4)


def test_k_mers(train: Callable[..., Any], evaluate: Callable[..., Any]) -> None:
    run = train("kmer", "data=kmer", "data.k=3", "data.stride=2")
    own = evaluate("baseline=false", run=run).json("evaluation.json")
    for name in (f"test/{name}" for name in METRICS):
        assert own[name] == pytest.approx(run.json()[name], rel=1e-6), name
    total = totals(evaluate(f"data.genome={PLASMIDS}", "baseline=false", run=run))
    assert (total["tokens/k"], total["tokens/stride"], run.json()["tags"]) == (3, 2, "")
    # of three bases, one is known: the tokens that disagree with it cost the loss, not the bits
    assert 2 * total["test/bits_per_base"] < total["test/loss"] / math.log(2) < 3.3 * total["test/bits_per_base"]


@pytest.mark.parametrize("change", ["gone", "changed"])
def test_the_training_genome_is_gone_or_changed(evaluate: Callable[..., Any], home: Path, change: str) -> None:
    genome = (home / "genome.txt").rename(home / "aside.txt").with_name("genome.txt")
    if change == "changed":
        genome.write_text(LETTERS.read_text()[:-200])
    try:
        own, other = evaluate(code=2), evaluate(f"data.genome={SMALL}")
    finally:
        (home / "aside.txt").replace(genome)
    result = totals(other)
    assert str(genome) in own.err and "Traceback" not in own.err
    assert "left out" in other.out and str(genome) in other.out
    assert ("has changed" in own.err) == ("has changed" in other.out) == (change == "changed")
    assert "baseline/accuracy" not in result and "leakage/positions" not in result


def test_the_file_of_the_split_is_gone(train: Callable[..., Any], evaluate: Callable[..., Any], tmp_path: Path) -> None:
    (bed := tmp_path / "my.bed").write_text("genome\t0\t4000\ttrain\ngenome\t5000\t6000\ttest\n")
    run = train("bed", "data/split=bed", f"data.split.file={bed}")
    bed.unlink()
    assert str(bed) in evaluate(run=run, code=2).err
    other = evaluate(f"data.genome={SMALL}", run=run)
    assert "left out" in other.out and str(bed) in other.out
    totals(other)


MODELS = ("test", "network", "adaptive")
TOKENS = {"char": (), "kmer": ("data=kmer", "data.k=4"), "kmer_disjoint": ("data=kmer_disjoint", "data.k=3")}


@pytest.mark.parametrize("tokens", TOKENS)
def test_a_mixer_is_evaluated_as_it_was_tested(
    train: Callable[..., Any], evaluate: Callable[..., Any], home: Path, monkeypatch: pytest.MonkeyPatch, tokens: str
) -> None:
    monkeypatch.setattr(mixing, "CONSTANT_BELOW", 0)
    mixer = ("mixer=experts", "mixer.orders=[1,2,3,11]", "mixer.steps=20")
    run = train(f"mixed_{tokens}", *TOKENS[tokens], *mixer)
    result = run.json()
    names = [f"{model}/{name}" for model in MODELS for name in ("bits_per_base", "accuracy", "perplexity")]
    assert len({result[f"{model}/bits_per_base"] for model in MODELS}) == 3 and "test/standard_error" not in result
    saved = torch.load(run.folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert saved["genoseq"]["mixer"]["mlp.0.weight"].shape == (16, 3 * 7)
    own = evaluate("baseline=false", run=run)
    for name in ("test/loss", *names):
        assert own.json("evaluation.json")[name] == pytest.approx(result[name], rel=1e-6), name
    total, rows = totals(other := evaluate(f"data.genome={PLASMIDS}", "baseline=false", run=run)), records(other)
    for model in ("network", "adaptive"):
        bits = [float(row[f"{model}/bits_per_base"]) for row in rows]
        assert min(bits) <= total[f"{model}/bits_per_base"] <= max(bits)
    alone = evaluate("baseline=false", "mixer=none", run=run).json("evaluation.json")
    assert alone["test/bits_per_base"] == pytest.approx(result["network/bits_per_base"], rel=1e-6)
    assert "network/bits_per_base" not in alone
    if tokens != "char":
        return
    (run.folder / "result.json").unlink()  # killed while it mixed
    again = train(f"mixed_{tokens}", *TOKENS[tokens], *mixer).json()
    assert {name: again[name] for name in names} == {name: result[name] for name in names}
    genome = (home / "genome.txt").rename(home / "aside.txt").with_name("genome.txt")
    try:
        refused = evaluate(f"data.genome={SMALL}", run=run, code=2)
        alone = evaluate(f"data.genome={SMALL}", "mixer=none", run=run)
    finally:
        (home / "aside.txt").replace(genome)
    assert refused.err.count("\n") == 1 and "mixer=none" in refused.err and str(genome) in refused.err
    totals(alone)


def test_a_split_of_windows_refuses_the_mixer(run_verb: Callable[..., Any], tiny: tuple[str, ...], home: Path) -> None:
    overrides = (*tiny, f"data.genome={home / 'genome.txt'}", "data/split=random_windows", "mixer=experts")
    ran = run_verb("train", home / "leaking", *overrides)
    assert ran.code == 2 and ran.err.count("\n") == 1 and "mixer=none" in ran.err
