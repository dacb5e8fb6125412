"""The commands from outside: quick help, no torch before it is needed, where the configs come from."""

import importlib
import json
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

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
