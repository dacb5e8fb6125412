"""The commands from outside: quick help, no torch before it is needed, where the configs come from."""

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

import genoseq
from genoseq.app import cli

FILES = Path(__file__).parents[1] / "data" / "files"
HEAVY = ("torch", "lightning", "pytorch_lightning", "matplotlib", "numpy", "tensorboard")


def python(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_importing_a_verb_imports_nothing_heavy(tmp_path: Path, verb: str) -> None:
    code = f"import sys, genoseq.{verb}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    ran = python("-c", code, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_help_imports_nothing_heavy_and_writes_nothing(tmp_path: Path, verb: str) -> None:
    ran = python("-X", "importtime", "-m", f"genoseq.{verb}", "--help", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    imported = {line.rsplit("|")[-1].strip() for line in ran.stderr.splitlines() if line.startswith("import time:")}
    assert "hydra" in imported and not imported & set(HEAVY)
    groups: tuple[str, ...] = ("ckpt: ???",)
    if verb == "train":
        groups = ("data: char, kmer", "optimizer: ", "experiment: context, ", "model1, model2, model3")
    for group in groups:
        assert group in ran.stdout
    assert not list(tmp_path.iterdir())


def test_a_user_s_mistake_from_outside(tmp_path: Path) -> None:
    ran = python("-m", "genoseq.train", "data.genome=nothing.fa", cwd=tmp_path)
    assert ran.returncode == 2
    (line,) = ran.stderr.strip().splitlines()
    assert line.startswith("genoseq: 'nothing.fa' is no file")
    assert {path.name for path in tmp_path.iterdir()} == {"outputs"}  # everything a run writes goes below it


@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_console_scripts_name_the_verbs(verb: str) -> None:
    (script,) = entry_points(group="console_scripts", name=f"genoseq-{verb}")
    assert script.load() is importlib.import_module(f"genoseq.{verb}").main


@pytest.mark.slow
def test_the_console_script_runs(tmp_path: Path) -> None:
    script = shutil.which("genoseq-train", path=str(Path(sys.executable).parent))
    assert script is not None
    ran = subprocess.run([script, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0 and "optimizer: " in ran.stdout, ran.stderr


def test_configs_of_the_package_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "checkout" / "genoseq"
    package.mkdir(parents=True)
    monkeypatch.setattr(genoseq, "__file__", str(package / "__init__.py"))
    with pytest.raises(SystemExit):
        cli.conf_dir()
    (package.parent / "conf").mkdir()
    assert cli.conf_dir() == package.parent / "conf"  # a checkout
    (package / "conf").mkdir()
    assert cli.conf_dir() == package / "conf"  # a wheel


def test_sweep_is_an_alias_of_hparams_search() -> None:
    given = ["sweep=again", "sweep=report", "sweep.dir=x", "hparams_search=optuna", "-m"]
    renamed = ["hparams_search=replicate", "hparams_search=report", "sweep.dir=x", "hparams_search=optuna", "-m"]
    assert cli.with_aliases(given) == renamed


def test_a_failing_job_of_any_launcher_leaves_its_reason_and_the_table_comes(
    tiny: tuple[str, ...], tmp_path: Path
) -> None:
    lines = [*tiny, f"data.genome={FILES / 'hpylori_start.txt'}", "hydra/launcher=basic", f"sweep.dir={tmp_path}"]
    ran = python("-m", "genoseq.train", "-m", *lines, "data.seq_len=0,16", cwd=tmp_path)
    assert ran.returncode == 1, ran.stderr
    assert "data.seq_len" in json.loads((tmp_path / "0" / "failed.json").read_text())["why"]
    assert (tmp_path / "1" / "result.json").is_file() and (tmp_path / "sweep.csv").is_file()
    assert "Traceback" not in ran.stderr and "failed" in ran.stdout


# ---- input of every kind, from the command to result.json -----------------------------------------------------------


@pytest.fixture
def train(run_verb: Callable[..., Any], tiny: tuple[str, ...], tmp_path: Path) -> Callable[..., Any]:
    """A function from overrides to a finished run."""

    def run(genome: object, *overrides: str) -> Any:
        ran = run_verb("train", tmp_path / "run", *tiny, f"data.genome={genome}", *overrides)
        assert ran.code == 0, ran.err
        result = ran.json()
        # hardly trained: about 2 bits for each base that a token covers
        again = result["tokens/k"] / result["tokens/new_bases"]
        assert 1.5 < result["test/bits_per_base"] / again < 2.6 and result["train/steps"] == 4
        return ran

    return run


LETTERS = FILES / "hpylori_start.txt"
PLASMIDS = FILES / "klebsiella_plasmids.fa.gz"


def test_the_checkpoint_of_the_last_step(train: Callable[..., Any]) -> None:
    import torch

    # a learning rate that hardly moves: validation does not get better
    ran = train(LETTERS, "trainer.val_every=1", "scheduler=none", "optimizer=sgd", "optimizer.lr=1e-12")
    best, last = (torch.load(ran.folder / "checkpoints" / f"{n}.ckpt", weights_only=True) for n in ("best", "last"))
    assert best["global_step"] < 4 and last["global_step"] == 4


def test_two_genomes_are_one(train: Callable[..., Any]) -> None:
    ran = train(f"[{LETTERS},{PLASMIDS}]")
    result = ran.json()
    assert result["genome/bases"] == 6000 + 8412 and "4 record(s)" in ran.out


def test_lower_case_and_the_same_in_upper_case(train: Callable[..., Any], tmp_path: Path) -> None:
    text = "".join(
        line for line in (FILES / "hpylori_softmasked.fa").read_text().splitlines() if not line.startswith(">")
    )
    assert text.upper() != text
    (upper := tmp_path / "upper.txt").write_text(text.upper())
    lower = train(FILES / "hpylori_softmasked.fa").json()
    shutil.rmtree(tmp_path / "run")
    same = train(upper).json()
    for key in ("test/loss", "test/accuracy", "genome/sha256", "genome/bases"):
        assert lower[key] == same[key], key


@pytest.mark.parametrize(
    ("k", "stride", "new_bases"), [(4, 4, 4), (6, 1, 1), (3, 2, 2), (2, 5, 2)], ids=["4 by 4", "6", "3 by 2", "2 by 5"]
)
def test_k_mers(train: Callable[..., Any], k: int, stride: int, new_bases: int) -> None:
    import math

    result = train(LETTERS, "data=kmer", f"data.k={k}", f"data.stride={stride}", "scheduler.pct_start=0.5").json()
    assert (result["tokens/k"], result["tokens/stride"], result["tokens/new_bases"]) == (k, stride, new_bases)
    bits = result["test/loss"] / math.log(2) / new_bases
    assert result["test/bits_per_base"] == pytest.approx(bits, rel=1e-6)
    assert result["test/perplexity"] == pytest.approx(math.exp(result["test/loss"]), rel=1e-6)


def parts(folder: Path) -> dict[str, list[tuple[str, int, int]]]:
    rows = [line.split("\t") for line in (folder / "split.bed").read_text().splitlines() if not line.startswith("#")]
    out: dict[str, list[tuple[str, int, int]]] = {"train": [], "val": [], "test": []}
    for record, start, end, stage, *_ in rows:
        out[stage].append((record, int(start), int(end)))
    return out


def test_a_plasmid_held_out(train: Callable[..., Any]) -> None:
    ran = train(PLASMIDS, "data/split=records", "data.split.test=[CP003227.1]")
    held = parts(ran.folder)
    assert [record for record, *_ in held["test"]] == ["CP003227.1"]
    assert "CP003227.1" not in {record for record, *_ in held["train"] + held["val"]}
    assert ran.json()["leakage/positions"] == 0


def test_a_bed_file(train: Callable[..., Any], tmp_path: Path) -> None:
    rows = [("hpylori_start", 1000, 5000, "train"), ("hpylori_start", 5000, 5600, "test")]
    (bed := tmp_path / "my.bed").write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    ran = train(LETTERS, "data/split=bed", f"data.split.file={bed}")
    held = parts(ran.folder)
    assert held["test"] == [("hpylori_start", 5000, 5600)]
    assert min(start for _, start, _ in held["train"]) == 1000 and all(end <= 5000 for *_, end in held["val"])
