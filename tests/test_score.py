"""``genoseq.score`` and ``genoseq.load``: variants, regions and edits scored by a checkpoint."""

import csv
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

import genoseq
from genoseq.app.model import Models
from genoseq.data.genes import Effects, reading_frames
from genoseq.data.variants import encode
from genoseq.errors import UserError

LETTERS = Path(__file__).parent / "data" / "files" / "hpylori_start.txt"


@pytest.fixture(scope="module")
def trained(run_verb: Callable[..., Any], tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Any:
    mixed = ("mixer=experts", "mixer.orders=[2,11,12]", "mixer.steps=20", "optimizer.lr=0.1", "scheduler=none")
    ran = run_verb("train", tmp_path_factory.mktemp("score") / "run", *tiny, *mixed, f"data.genome={LETTERS}")
    assert ran.code == 0, ran.err
    return ran


@pytest.fixture
def score(run_verb: Callable[..., Any], trained: Any, tmp_path: Path) -> Callable[..., Any]:
    """A function from overrides to a run of genoseq.score."""

    def run(*overrides: object, code: int = 0, folder: str = "scores") -> Any:
        ckpt = trained.folder / "checkpoints" / "best.ckpt"
        ran = run_verb("score", tmp_path / folder, f"ckpt={ckpt}", "mixer=none", "background=2", *overrides)
        assert ran.code == code, ran.err
        return ran

    return run


def rows(ran: Any) -> list[dict[str, str]]:
    with (ran.folder / "scores.tsv").open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_a_vcf_is_scored(score, trained, tmp_path):
    model = genoseq.load(trained.folder / "checkpoints" / "best.ckpt", mixer=False)
    genome = model.training_data.genome
    name, text = genome.records[0].name, genome.letters()
    first, last = (int(x) for x in model.training_data.parts.test[0])
    snv = (last - 500, text[last - 501], "ACGT".replace(text[last - 501], "")[0])
    variants = [
        snv,
        (last - 800, text[last - 801 : last - 797], text[last - 801]),
        (first + 100, text[first + 99], text[first + 99] + "ACG"),
        (10, text[9], "ACGT".replace(text[9], "")[1]),
        (len(text), text[-1], "ACGT".replace(text[-1], "")[2]),
    ]
    lines = "".join(f"{name}\t{pos}\t.\t{ref}\t{alt},<DEL>\t.\t.\tDP=1\n" for pos, ref, alt in variants)
    file = tmp_path / "calls.vcf.gz"
    file.write_bytes(
        gzip.compress(f"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n{lines}".encode())
    )
    ran = score(f"variants={file}", "downstream=40")
    table = rows(ran)
    assert [row["status"] for row in table] == ["ok", "symbolic"] * 5 and not table[1]["llr"]
    assert [row["part"] for row in table[::2]] == ["test", "test", "test", "train", "test"]
    got = np.array([float(row["llr"]) for row in table[::2]])
    assert np.allclose(got, model.score(text, variants, downstream=40), atol=1e-3) and np.abs(got).min() > 1e-3
    frames = Effects(genome, reading_frames(genome))
    told = [frames(pos - 1, 1, encode(alt)) for pos, _, alt in (variants[0], variants[3])]
    assert [(table[i]["gene"], table[i]["effect"]) for i in (0, 6)] == told and not table[1]["effect"]
    assert bool(table[0]["percentile"]) and not table[2]["percentile"]
    out = gzip.decompress((ran.folder / "calls.scored.vcf.gz").read_bytes()).decode()
    assert out.count(";GENOSEQ_PART=test;GENOSEQ_LLR=") == 4 and "and the next 40 bases" in out
    assert ran.json("score.json")["alleles/symbolic"] == 5 and "5 symbolic" in ran.out
    assert "already" in score(f"variants={file}", "downstream=40").out  # it is done, and nothing is written over
    assert f";GENOSEQ_EFFECT={table[2]['effect']},.\n" in out
    again = score(f"variants={ran.folder / 'calls.scored.vcf.gz'}", code=2, folder="again")
    assert "overwrite=true" in again.err and not (again.folder / "scores.tsv").exists()
    # with the mixer, whose experts know the training part
    mixed = genoseq.load(trained.folder / "checkpoints" / "best.ckpt").score(text, variants)
    assert np.isfinite(mixed).all() and not np.allclose(mixed, model.score(text, variants), atol=0.05)


def test_a_region_and_its_runs_are_scored(score, trained):
    ran = score("variants=saturation", "region=100-219", "downstream=8")
    table = rows(ran)
    assert len(table) == 360 and {row["part"] for row in table} == {"train"} and table[0]["pos"] == "100"
    assert imread(ran.folder / "saturation.png").shape[1] > 1000
    edits = rows(score("variants=frameshifts", folder="edits"))
    gains = [float(row["llr"]) for row in edits]
    assert gains == sorted(gains, reverse=True) and {row["part"] for row in edits} == {"test"}
    model = genoseq.load(trained.folder / "checkpoints" / "best.ckpt", mixer=False)
    text = model.training_data.genome.letters()
    chosen = [(int(row["pos"]), row["ref"], row["alt"]) for row in edits[:3]]
    assert np.allclose(model.score(text, chosen), gains[:3], atol=1e-3)
    assert all(len(set(ref)) == 1 and abs(len(ref) - len(alt)) == 1 for _, ref, alt in chosen)


def test_several_checkpoints_score_what_they_have_not_seen(trained, run_verb, tiny, tmp_path):
    folders = [trained.folder]
    ran = run_verb(
        "train", tmp_path / "b", *tiny, f"data.genome={LETTERS}", "data/split=blocks", "data.split.block_size=500"
    )
    assert ran.code == 0, ran.err
    folders.append(ran.folder)
    paths = [str(folder / "checkpoints" / "best.ckpt") for folder in folders]
    models = Models(paths, mixer=False)
    tests = [model.training_data.parts.test for model in models.models]
    inner = np.concatenate([[first + 50, last - 50] for test in tests for first, last in test])
    owners = models.owners(inner)
    assert set(owners) == {0, 1}
    for owner, at in zip(owners, inner, strict=True):
        assert any(first <= at < last for first, last in tests[owner]) and models.parts(np.array([at]))[0] == "test"
    other = Models(paths, str(LETTERS.with_name("klebsiella_pKPHS6.fa")), mixer=False)
    assert set(other.owners(np.arange(5))) == {-1} and set(other.parts(np.arange(5))) == {"other_genome"}
    from genoseq.evaluation.edits import saturation

    changes = saturation(other.genome, 200, 204, 10)
    each = [
        Models(path, str(LETTERS.with_name("klebsiella_pKPHS6.fa")), mixer=False).score(changes)[0] for path in paths
    ]
    assert np.allclose(other.score(changes)[0], np.mean(each, axis=0), atol=1e-5)


def test_log_probs_are_those_of_evaluation(trained):
    model = genoseq.load(trained.folder / "checkpoints" / "best.ckpt", mixer=False)
    data = model.training_data
    first, last = data.parts.test[0].tolist()
    text = data.genome.letters(first, last)
    log_probs = model.log_probs(text)
    index = np.array(["ACGT".index(letter) for letter in text])
    cost = -log_probs[np.arange(len(text)), index] / np.log(2)
    assert np.allclose(np.exp(log_probs).sum(1), 1, atol=1e-5)
    assert cost[1:].mean() == pytest.approx(trained.json()["network/bits_per_base"], abs=1e-4)


def test_mistakes_are_one_sentence(score, trained, tmp_path):
    cases = (
        (["variants=saturation"], "region=NAME"),
        (["variants=saturation", "region=1-99999999"], "is not inside"),
        (["variants=saturation", "region=nobody:1-9"], "names no record"),
        (["variants=nowhere.vcf"], "does not exist"),
        (["variants=frameshifts", "downstream=-1"], "downstream must be"),
        (["variants=frameshifts", "genes=nowhere.gff3"], "nowhere.gff3 does not exist"),
        (["variants=frameshifts", "ckpt=nowhere"], "there is no checkpoint"),
    )
    for number, (overrides, words) in enumerate(cases):
        ran = score(*overrides, code=2, folder=str(number))
        assert words in ran.err and ran.err.count("\n") == 1, ran.err
        assert not list(ran.folder.glob("*scores*"))
    with pytest.raises(UserError, match="does not have G at 1"):
        genoseq.load(trained.folder / "checkpoints" / "best.ckpt", mixer=False).score("ACGT", [(1, "G", "A")])
