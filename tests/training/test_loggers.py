"""metrics.csv has a row a step and continues where a checkpoint was taken."""

import math
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from genoseq.training import loggers
from genoseq.training.loggers import MetricsTable, log_result


def lines(folder: Path) -> list[str]:
    return (folder / "metrics.csv").read_text().splitlines()


def test_a_row_a_step_and_a_column_a_metric(tmp_path: Path) -> None:
    table = MetricsTable(tmp_path / "run")
    table.save()
    assert not (tmp_path / "run").exists()  # nothing was logged
    table.log_metrics({"train/loss": 1.5}, step=10)
    table.log_metrics({"lr": torch.tensor(0.25)}, step=10)
    table.log_metrics({"train/loss": 0.123456789, "lr": math.nan}, step=20)
    table.save()
    assert lines(tmp_path / "run") == ["step,train/loss,lr", "10,1.5,0.25", "20,0.123456789,nan"]
    table.log_metrics({"val, x": math.inf})  # a saved row still takes metrics
    table.log_metrics({"train/loss": 1.0}, step=30)
    table.finalize("success")
    assert lines(tmp_path / "run") == [
        'step,train/loss,lr,"val, x"',
        "10,1.5,0.25,",
        "20,0.123456789,nan,inf",
        "30,1.0,,",
    ]
    assert table.log_dir == str(tmp_path / "run")


def test_a_long_run_saves_in_mid_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = MetricsTable(tmp_path)
    table.log_metrics({"a": 1.0}, step=1)
    assert not table.path.exists()
    monkeypatch.setattr(loggers, "SAVE_EVERY", 0.0)
    table.log_metrics({"a": 2.0}, step=2)
    assert lines(tmp_path) == ["step,a", "1,1.0", "2,2.0"]


def test_a_save_that_fails_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = MetricsTable(tmp_path)
    table.log_metrics({"a": 1.0}, step=1)
    table.save()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(OSError("the disk went away")))
        table.log_metrics({"b": 1.0}, step=2)
        with pytest.raises(OSError, match="went away"):
            table.save()
    assert lines(tmp_path) == ["step,a", "1,1.0"]
    table.save()
    assert lines(tmp_path) == ["step,a,b", "1,1.0,", "2,,1.0"]


def log_steps(table: MetricsTable, first: int, last: int) -> None:
    for step in range(first, last + 1):
        table.log_metrics({"a": step / 3}, step=step)
        if step % 4 == 0:
            table.log_metrics({"val": step / 7}, step=step)
    table.finalize("success")


@pytest.mark.parametrize("checkpoint", [3, 8])
def test_a_resumed_table_is_that_of_a_run_never_stopped(tmp_path: Path, checkpoint: int) -> None:
    log_steps(MetricsTable(tmp_path / "whole"), 1, 12)
    log_steps(MetricsTable(tmp_path / "stopped"), 1, 10)
    log_steps(MetricsTable(tmp_path / "stopped", resumed_step=checkpoint), checkpoint + 1, 12)
    assert lines(tmp_path / "stopped") == lines(tmp_path / "whole")


def test_a_fresh_run_replaces_an_earlier_table(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,z\n1,1.0\n")
    log_steps(MetricsTable(tmp_path), 1, 1)
    assert lines(tmp_path) == ["step,a", f"1,{1 / 3}"]


def test_a_missing_table_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log_steps(MetricsTable(tmp_path, resumed_step=2), 3, 3)
    assert "metrics.csv" in caplog.text
    assert lines(tmp_path) == ["step,a", "3,1.0"]


def test_the_other_ranks_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    log_steps(MetricsTable(tmp_path), 1, 4)
    assert list(tmp_path.iterdir()) == []


class Scored(Exception):
    """Raised instead of scoring."""


def test_tensorboard_s_figures_are_computed_on_the_trainer_s_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def window_metrics(module: LightningModule, data: object) -> None:
        assert module.device.type == "meta" and torch.is_autocast_enabled("cpu")
        raise Scored

    monkeypatch.setattr(loggers, "window_metrics", window_metrics)
    board = TensorBoardLogger(tmp_path)
    options = {"enable_checkpointing": False, "enable_progress_bar": False, "precision": "bf16-mixed"}
    trainer = Trainer(accelerator="cpu", logger=board, **options)
    trainer.strategy._root_device = torch.device("meta")
    with pytest.raises(Scored):
        log_result(trainer, LightningModule(), None, {}, None)
