"""The table has a line a step, grows by columns, and goes on where a checkpoint was taken."""

import logging
import math
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from genoseq.files import read_metrics
from genoseq.training.loggers import CsvLog


def _lines(folder: Path) -> list[str]:
    return (folder / "metrics.csv").read_text().splitlines()


def test_figures_of_one_step_share_a_line(tmp_path: Path) -> None:
    log = CsvLog(tmp_path)
    log.log_metrics({"train/loss": 1.5}, step=10)
    log.log_metrics({"train/lr": torch.tensor(0.25)}, step=10)
    log.log_metrics({"train/loss": 1.25, "train/lr": 0.125}, step=20)
    log.finalize("success")
    assert _lines(tmp_path) == ["step,train/loss,train/lr", "10,1.5,0.25", "20,1.25,0.125"]


def test_a_line_is_on_disk_when_the_next_begins(tmp_path: Path) -> None:
    log = CsvLog(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    log.log_metrics({"a": 1.0}, step=1)
    log.log_metrics({"a": 2.0}, step=2)
    assert _lines(tmp_path / "run") == ["step,a", "1,1.0"]
    log.save()
    assert _lines(tmp_path / "run") == ["step,a", "1,1.0", "2,2.0"]


def test_a_saved_line_still_takes_figures(tmp_path: Path) -> None:
    log = CsvLog(tmp_path)
    log.log_metrics({"a": 1.0, "b": 5.0}, step=1)
    log.log_metrics({"a": 2.0}, step=2)
    log.save()
    log.log_metrics({"b": 3.0}, step=2)
    log.save()
    log.log_metrics({"a": 0.123456789}, step=2)
    log.log_metrics({"a": 4.0}, step=3)
    log.save()
    assert _lines(tmp_path) == ["step,a,b", "1,1.0,5.0", "2,0.123456789,3.0", "3,4.0,"]


def test_a_new_column_leaves_old_lines_with_empty_cells(tmp_path: Path) -> None:
    log = CsvLog(tmp_path)
    for step in (1, 2):
        log.log_metrics({"a": float(step)}, step=step)
    log.log_metrics({"val, x": 9.0}, step=2)
    log.log_metrics({"c": 7.0}, step=3)
    log.log_metrics({"a": 4.0}, step=4)
    log.save()
    assert _lines(tmp_path) == ['step,a,"val, x",c', "1,1.0,,", "2,2.0,9.0,", "3,,,7.0", "4,4.0,,"]


def test_old_lines_are_not_written_again_for_a_plain_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = CsvLog(tmp_path)
    log.log_metrics({"a": 1.0}, step=1)
    log.save()
    file = (tmp_path / "metrics.csv").stat().st_ino
    for step in range(2, 50):
        log.log_metrics({"a": 1.0}, step=step)
    log.save()
    assert (tmp_path / "metrics.csv").stat().st_ino == file
    assert read_metrics(log.path)["step"] == [float(i) for i in range(1, 50)]


def test_a_rewrite_that_fails_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = CsvLog(tmp_path)
    log.log_metrics({"a": 1.0}, step=1)
    log.save()

    def fail(self: Path, target: Path) -> Path:
        raise OSError("the disk went away")

    monkeypatch.setattr(Path, "replace", fail)
    log.log_metrics({"b": 1.0}, step=2)
    with pytest.raises(OSError, match="went away"):
        log.save()
    assert _lines(tmp_path) == ["step,a", "1,1.0"]
    monkeypatch.undo()
    log.log_metrics({"b": 2.0}, step=2)
    log.save()
    assert _lines(tmp_path) == ["step,a,b", "1,1.0,", "2,,2.0"]


def test_nan_is_kept(tmp_path: Path) -> None:
    log = CsvLog(tmp_path)
    log.log_metrics({"a": math.nan, "b": math.inf}, step=1)
    log.save()
    assert _lines(tmp_path)[1] == "1,nan,inf"


def test_a_fresh_run_replaces_an_earlier_table(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,z\n1,1.0\n")
    log = CsvLog(tmp_path)
    log.log_metrics({"a": 1.0}, step=5)
    log.save()
    assert _lines(tmp_path) == ["step,a", "5,1.0"]


@pytest.mark.parametrize("same", [True, False])
def test_a_resumed_table_is_that_of_a_run_never_stopped(tmp_path: Path, same: bool) -> None:
    def steps(log: CsvLog, first: int, last: int) -> None:
        for step in range(first, last + 1):
            log.log_metrics({"a": step / 3}, step=step)
            if step % 4 == 0:
                log.log_metrics({"val": step / 7}, step=step)
        log.finalize("success")

    steps(CsvLog(tmp_path / "whole"), 1, 12)
    steps(CsvLog(tmp_path / "old"), 1, 10)  # stopped at 10, two steps after its checkpoint
    new = tmp_path / ("old" if same else "new")
    steps(CsvLog(new, resume_from=tmp_path / "old" / "metrics.csv", keep_until=8), 9, 12)
    assert _lines(new) == _lines(tmp_path / "whole")


def test_the_checkpoints_own_line_stays_open(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,a\n1,1.0\n2,2.0\n3,3.0\n")
    log = CsvLog(tmp_path, resume_from=tmp_path / "metrics.csv", keep_until=2)
    log.log_metrics({"val": 9.0}, step=2)
    log.save()
    assert _lines(tmp_path) == ["step,a,val", "1,1.0,", "2,2.0,9.0"]


def test_all_lines_are_kept_without_a_limit(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("step,a\n1,1.0\n2,2.0")
    log = CsvLog(tmp_path, resume_from=tmp_path / "old.csv")
    log.log_metrics({"a": 3.0}, step=3)
    log.save()
    assert _lines(tmp_path) == ["step,a", "1,1.0", "2,2.0", "3,3.0"]


def test_no_line_to_keep(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,a\n10,1.0\n")
    log = CsvLog(tmp_path, resume_from=tmp_path / "metrics.csv", keep_until=5)
    log.log_metrics({"b": 3.0}, step=6)
    log.save()
    assert _lines(tmp_path) == ["step,b", "6,3.0"]


def test_a_missing_table_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = CsvLog(tmp_path, resume_from=tmp_path / "gone.csv")
    with caplog.at_level(logging.WARNING):
        log.log_metrics({"a": 3.0}, step=3)
    assert "gone.csv" in caplog.text
    log.save()
    assert _lines(tmp_path) == ["step,a", "3,3.0"]


def test_the_other_ranks_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "metrics.csv").write_text("step,a\n1,1.0\n9,1.0\n")
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    log = CsvLog(tmp_path, resume_from=tmp_path / "metrics.csv", keep_until=1)
    log.log_metrics({"a": 1.0}, step=2)
    log.finalize("success")
    assert _lines(tmp_path) == ["step,a", "1,1.0", "9,1.0"]


def test_a_trainer_takes_it(tmp_path: Path) -> None:
    class Line(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
            loss = (self.weight * batch).square().mean()
            self.log("train/loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    log = CsvLog(tmp_path)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(max_steps=4, log_every_n_steps=2, logger=log, accelerator="cpu", **quiet)
    trainer.fit(Line(), DataLoader(torch.ones(8, 1), batch_size=2))
    columns = read_metrics(log.path)
    assert len(columns["step"]) == 2 and all(value is not None for value in columns["train/loss"])
    assert trainer.log_dir == str(tmp_path)
