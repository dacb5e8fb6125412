"""Loggers: ``metrics.csv``, and what TensorBoard shows beside the curves."""

from __future__ import annotations

import logging
import math
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard import SummaryWriter

from genoseq.configs import flatten
from genoseq.data.datamodule import GenomeData
from genoseq.evaluation.positions import window_metrics
from genoseq.files import read_metrics, write_csv
from genoseq.report.plots import confusion_figure, position_figure
from genoseq.training.module import NextToken, on_device

log = logging.getLogger(__name__)

SAVE_EVERY = 10.0  # seconds at least from one save of metrics.csv in mid-training to the next
HPARAMS = ("data.", "model.", "optimizer.", "scheduler.", "trainer.", "seed", "tags")
HPARAM_METRICS = ("val/bits_per_base", "test/bits_per_base", "test/accuracy")


class MetricsTable(Logger):
    """Write ``metrics.csv``: one row for each optimizer step at which something was logged, one column per metric.

    The table is kept in memory and written as a whole when it is saved: at each validation, at the end, and in between
    every ten seconds at most.

    Parameters
    ----------
    folder : Path or str
    resumed_step : int, optional
        Resume: keep the rows of the table that is in `folder` up to this step. An earlier table is replaced otherwise.
    """

    def __init__(self, folder: Path | str, resumed_step: int | None = None) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self._rows: dict[int, dict[str, float]] = {}
        self._saved = time.monotonic()
        if resumed_step is None:
            return
        if not self.path.is_file():
            log.warning("There is no %s: the curves begin where this run resumes.", self.path)
            return
        table = read_metrics(self.path)
        for i, step in enumerate(table.pop("step", [])):
            if step is not None and step <= resumed_step:
                self._rows[int(step)] = {k: value for k, values in table.items() if (value := values[i]) is not None}

    @property
    def name(self) -> str:
        """Empty: the folder is the run's own."""
        return ""

    @property
    def version(self) -> str:
        """Empty: the folder is the run's own."""
        return ""

    @property
    def log_dir(self) -> str:
        """The folder."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run folder has the config."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add metrics (numbers or scalar tensors) to the row of an optimizer step, the last one if left out."""
        step = next(reversed(self._rows), 0) if step is None else int(step)
        self._rows.setdefault(step, {}).update({name: float(value) for name, value in metrics.items()})
        if time.monotonic() - self._saved > SAVE_EVERY:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write the table."""
        if self._rows:
            write_csv(self.path, [{"step": step, **row} for step, row in self._rows.items()])
        self._saved = time.monotonic()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the table."""
        self.save()


def _tensorboards(trainer: Trainer) -> list[TensorBoardLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def log_config(trainer: Trainer, config: dict[str, Any], text: str, overrides: Mapping[str, str] | None = None) -> None:
    """Give every logger the settings, and TensorBoard the whole config as text, before the first curve.

    Parameters
    ----------
    config : dict
        As composed, as plain containers.
    text : str
        The config as YAML.
    overrides : mapping, optional
        Overrides of a sweep's job, by key. The HParams tab then shows only these: it has a column a setting, and fifty
        that are the same in every run hide the few that differ.
    """
    settings = {
        key: value if isinstance(value, (int, float, str)) else str(value)
        for key, value in flatten(config).items()
        if key.startswith(HPARAMS)
        and not key.startswith(("data.eval_", "data.val_"))
        and not key.endswith("_")
        and value is not None
    }
    for logger in trainer.loggers:
        if not isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(settings)
            continue
        shown = {key: settings.get(key, value) for key, value in overrides.items()} if overrides else settings
        logger.log_hyperparams(shown, {f"hp/{name}": math.nan for name in HPARAM_METRICS})
        logger.experiment.add_text("config", "\n".join("    " + line for line in text.splitlines()))


def log_baselines(
    trainer: Trainer, baselines: dict[str, dict[str, float]], first: int, last: int, sweep_dir: Path | None = None
) -> None:
    """Draw the baselines in TensorBoard as constant runs, so that they lie on the same plots as the curves.

    Parameters
    ----------
    baselines : dict
        By name, its value for each tag.
    first, last : int
        Optimizer steps from and to which they are drawn.
    sweep_dir : Path, optional
        A sweep's folder: baselines that its runs share are drawn there, once.
    """
    for board in _tensorboards(trainer):
        for name, values in baselines.items():
            folder = Path(board.log_dir) / name
            if sweep_dir is not None:
                stage, value = next((tag.partition("/")[0], v) for tag, v in values.items() if "bits" in tag)
                folder = sweep_dir / "baselines" / f"{name}, {'test' if stage == 'test' else 'validation'} {value:.3f}"
                try:
                    folder.mkdir(parents=True)
                except FileExistsError:
                    continue  # another run of the sweep has drawn it
            with SummaryWriter(str(folder)) as writer:
                for tag, value in values.items():
                    for step in (first, last):
                        writer.add_scalar(tag, value, step)


def log_result(
    trainer: Trainer, module: NextToken, data: GenomeData, result: dict[str, Any], baseline: float | None
) -> None:
    """Add to TensorBoard the HParams tab's final metrics, and the figures by position and by base.

    Parameters
    ----------
    result : dict
        As in ``result.json``.
    baseline : float or None
        Accuracy (fraction) of the baseline on the validation part.
    """
    boards = _tensorboards(trainer)
    if not boards:
        return
    with on_device(module, trainer):
        metrics = window_metrics(module, data)
    title = f"{data.genome.name}, validation part, windows of {len(metrics.accuracy):,} tokens"
    step = trainer.global_step
    for board in boards:
        board.log_metrics({f"hp/{name}": result[name] for name in HPARAM_METRICS if name in result}, step=step)
        writer = board.experiment
        writer.add_figure("accuracy by position", position_figure(metrics.accuracy, baseline, title), step)
        writer.add_figure("confusion of bases", confusion_figure(metrics.confusion, title), step)
        board.save()
