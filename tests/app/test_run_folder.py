"""A run's folder: new, unfinished, finished, in use, or another run's."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from genoseq.app import resolvers
from genoseq.app.cli import conf_dir
from genoseq.app.run_folder import RunFolder, new_run_dir, shared_name
from genoseq.configs import flatten
from genoseq.errors import UserError

resolvers.register()
GENOME = Path(__file__).parents[1] / "data" / "files" / "hpylori_start.txt"


@pytest.fixture
def open_folder(tmp_path: Path) -> Iterator[Callable[..., RunFolder]]:
    """A function from overrides to the folder ``run`` of such a training run."""

    def make(*overrides: str, root: str = "train") -> RunFolder:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            extra = [f"hydra.runtime.output_dir={tmp_path / 'run'}", "hydra.job.name=train"]
            cfg = hydra.compose(root, [*extra, *overrides], return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        OmegaConf.set_struct(cfg, False)
        cfg.pop("hydra")
        return RunFolder(cfg)

    GlobalHydra.instance().clear()
    yield make
    HydraConfig.instance().cfg = None


def leave(run: RunFolder, *names: str) -> None:
    """Leave files as a run would."""
    for name in names:
        (run.path / name).parent.mkdir(exist_ok=True)
        (run.path / name).write_text(json.dumps({"val/bits_per_base": 1.9}))


def test_from_new_to_unfinished_to_finished(open_folder: Callable[..., RunFolder]) -> None:
    with open_folder("optimizer.lr=0.01") as run:
        assert not run.finished and run.checkpoint is None
        assert (run.path / ".hydra" / "config.yaml").is_file()
        leave(run, "checkpoints/last.ckpt")
    with open_folder("optimizer.lr=1e-2") as run:
        assert run.checkpoint == run.path / "checkpoints" / "last.ckpt"
        leave(run, "result.json")
    with open_folder("optimizer.lr=0.01", "ckpt=elsewhere.ckpt") as run:
        assert run.finished and run.read_result("val/bits_per_base") == {"val/bits_per_base": 1.9}


@pytest.mark.parametrize(
    "differs", ["logger=none", "tags=[a]", "paths.outputs=there", "sweep.dir=there", "data.cache_dir=there", "ckpt=x"]
)
def test_what_may_differ(open_folder: Callable[..., RunFolder], differs: str) -> None:
    with open_folder() as run:
        leave(run, "checkpoints/last.ckpt")
    with open_folder(differs) as run:
        assert run.checkpoint == run.path / "checkpoints" / "last.ckpt"


def test_other_settings_are_refused_by_name_and_change_nothing(open_folder: Callable[..., RunFolder]) -> None:
    with open_folder("seed=1", "+note=x") as run:
        leave(run, "checkpoints/last.ckpt")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"note=x \(now nothing\), seed=1 \(now 2\)"), open_folder("seed=2"):
        pass
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with open_folder("+note=x", "seed=1"):  # the refused one left no lock
        pass


def test_a_config_edited_since_is_refused(open_folder: Callable[..., RunFolder]) -> None:
    with open_folder() as run:
        file = run.path / ".hydra" / "config.yaml"
        file.write_text(file.read_text().replace("hidden_size: 256", "hidden_size: 128"))
    with pytest.raises(UserError, match=r"model.hidden_size=128 \(now 256\)"), open_folder():
        pass


@pytest.mark.parametrize("content", ["a: [", "a: ${nothing:1}", "- 1", "a: &x [1]\nb: *x"])
def test_a_config_that_cannot_be_read_is_refused(open_folder: Callable[..., RunFolder], content: str) -> None:
    with open_folder() as run:
        (run.path / ".hydra" / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=r"config\.yaml|other settings"), open_folder():
        pass


@pytest.mark.parametrize("name", ["result.json", "evaluation.json", "jobs.json", "checkpoints/best.ckpt", "split.bed"])
def test_a_folder_of_something_else_is_refused(open_folder: Callable[..., RunFolder], name: str) -> None:
    leave(run := open_folder(), ".keep", name)
    with pytest.raises(UserError, match=f"already holds a {name.split('/')[0]}"), run:
        pass


@pytest.mark.parametrize("content", ["{", "{}", "[1]"])
def test_a_result_that_is_not_one_is_refused(open_folder: Callable[..., RunFolder], content: str) -> None:
    with open_folder() as run:
        (run.path / "result.json").write_text(content)
    with pytest.raises(UserError, match="is not the result of a run"):
        run.read_result("val/bits_per_base")


def test_a_folder_in_use_is_refused(open_folder: Callable[..., RunFolder]) -> None:
    with open_folder() as run:
        code = f"import filelock; filelock.FileLock({str(run.path / '.lock')!r}).acquire(timeout=0)"
        assert "Timeout" in subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
        with pytest.raises(UserError, match="another process works in"), open_folder():
            pass


def test_a_failure_leaves_its_reason_until_the_next_start(open_folder: Callable[..., RunFolder]) -> None:
    with pytest.raises(UserError), open_folder() as run:
        raise UserError("training has diverged")
    assert json.loads((run.path / "failed.json").read_text()) == {"why": "training has diverged"}
    with pytest.raises(SystemExit), open_folder():
        assert not (run.path / "failed.json").exists()
        raise SystemExit(130)  # stopped, not failed
    assert not (run.path / "failed.json").exists()


def test_other_ranks_only_read(open_folder: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with open_folder() as run:
        assert not run.path.exists()


def test_two_commands_in_one_second_get_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda form: form.replace("%", ""))
    made = []
    for _ in range(3):
        new_run_dir.cache_clear()
        made.append(Path(new_run_dir(str(tmp_path), "train")))
    new_run_dir.cache_clear()
    assert [folder.name for folder in made] == ["H-M-S-train", "H-M-S-train-2", "H-M-S-train-3"]
    assert all(folder.is_dir() for folder in made)


def test_ranks_that_start_by_themselves_share_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shared_name() is None
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert shared_name() is None  # a batch script's own processes: no srun between
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    assert shared_name() == "slurm-7.0"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "my/run 1")  # inside SLURM, torchrun's name counts
    assert shared_name() == "torchrun-my_run_1"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(UserError, match="--rdzv-id"):
        shared_name()


def test_flatten() -> None:
    assert flatten({"a": {"b": 1, "c": [2]}, "d": {}}) == {"a.b": 1, "a.c": [2], "d": {}}


def test_the_same_command_again_reports_and_changes_nothing(
    run_verb: Callable[..., Any], tiny: tuple[str, ...], tmp_path: Path
) -> None:
    overrides = [*tiny, f"data.genome={GENOME}"]
    first = run_verb("train", tmp_path / "run", *overrides)
    before = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*") if path.name != ".lock"}
    again = run_verb("train", tmp_path / "run", *overrides, "tags=[later]")
    assert first.code == again.code == 0
    assert before == {path: path.stat().st_mtime_ns for path in first.folder.rglob("*") if path.name != ".lock"}
    assert first.out[first.out.index("accuracy (%)") :] == again.out[again.out.index("accuracy (%)") :]
    other = run_verb("train", tmp_path / "run", *overrides, "seed=1")
    assert other.code == 2 and "seed=0 (now 1)" in other.err


@pytest.mark.parametrize("content", [None, "not a checkpoint"])
def test_a_run_that_lacks_its_best_checkpoint_is_not_tested(
    run_verb: Callable[..., Any], tiny: tuple[str, ...], tmp_path: Path, content: str | None
) -> None:
    overrides = [*tiny, f"data.genome={GENOME}", "trainer.max_steps=2"]
    folder = run_verb("train", tmp_path / "run", *overrides).folder
    (folder / "result.json").unlink()
    (folder / "checkpoints" / "best.ckpt").unlink()
    if content:
        (folder / "checkpoints" / "best.ckpt").write_text(content)
    again = run_verb("train", folder, *overrides)
    assert again.code == 2 and "best.ckpt" in again.err and "Traceback" not in again.err


@pytest.mark.parametrize(
    "override",
    ["trainer.max_steps=abc", "trainer.val_every=0", "trainer.log_every_n_steps=0", "compile=abc"],
)
def test_values_that_cannot_be_are_refused(
    run_verb: Callable[..., Any], tiny: tuple[str, ...], tmp_path: Path, override: str
) -> None:
    refused = run_verb("train", tmp_path / "run", *tiny, f"data.genome={GENOME}", override)
    assert refused.code == 2 and f"{override.split('=')[0]} must be" in refused.err
    assert not (tmp_path / "run" / "metrics.csv").exists()
