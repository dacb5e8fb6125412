"""What TensorBoard shows beside the curves: the lines to beat, the config, the HParams tab, figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from genoseq.data.datamodule import GenomeData
from genoseq.evaluation.positions import window_metrics
from genoseq.report.plots import confusion_figure, position_figure
from genoseq.training.module import NextToken

GROUPS = ("data", "model", "optimizer", "scheduler", "trainer", "seed")
FINAL = ("val/bits_per_base", "test/bits_per_base", "test/accuracy")


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return a nested config as one level, ``{"data.seq_len": 256, …}``; lists as text, no constructors, no nulls."""
    if not isinstance(config, dict):
        return {prefix: config if isinstance(config, (int, float, str, bool)) else str(config)}
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key not in ("_target_", "_partial_") and value is not None:
            flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _boards(trainer: Trainer) -> list[TensorBoardLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def open_page(trainer: Trainer, config: dict[str, Any], text: str, told: Mapping[str, str] | None = None) -> None:
    """Write the config as text and register the run with the HParams tab, before the first curve.

    Parameters
    ----------
    told : mapping, optional
        A sweep's job: what its command says, by override key. The tab then shows this only: it has a column for each
        setting, and fifty that are the same in every run hide the few that differ.
    """
    settings = flatten({group: config[group] for group in GROUPS})
    settings = {name: value for name, value in settings.items() if not name.startswith("data.eval_")}
    if told:
        settings = {name: settings.get(name, value) for name, value in told.items()}
    for board in _boards(trainer):
        board.log_hyperparams(settings, {f"hp/{name}": math.nan for name in FINAL})
        indented = "\n".join("    " + line for line in text.splitlines())
        board.experiment.add_text("config", indented)


def draw_lines(
    trainer: Trainer, lines: dict[str, dict[str, float]], first: int, last: int, shared: Path | None = None
) -> None:
    """Draw constants as runs of their own, so that they lie on the same plots as the curves.

    Parameters
    ----------
    lines : dict
        From a line's name to its value for each tag.
    first, last : int
        Optimizer steps between which the lines are drawn.
    shared : Path, optional
        A sweep's folder: lines that its runs have in common are drawn there, once.
    """
    for board in _boards(trainer):
        for name, values in lines.items():
            folder = Path(board.log_dir) / name
            if shared is not None:
                stage, value = next((tag.partition("/")[0], v) for tag, v in values.items() if "bits" in tag)
                folder = shared / "lines" / f"{name}, {'test' if stage == 'test' else 'validation'} {value:.3f}"
                try:
                    folder.mkdir(parents=True)
                except FileExistsError:
                    continue  # another run of the sweep has drawn it
            with SummaryWriter(str(folder)) as writer:
                for tag, value in values.items():
                    for step in (first, last):
                        writer.add_scalar(tag, value, step)


def close_page(
    trainer: Trainer, module: NextToken, data: GenomeData, result: dict[str, Any], baseline: float | None
) -> None:
    """Fill the HParams tab with the final figures and add the figures by position and by base."""
    boards = _boards(trainer)
    if not boards:
        return
    seen = window_metrics(module, data)
    title = f"{data.genome.name}, validation part, windows of {len(seen.accuracy):,} tokens"
    for board in boards:
        board.log_metrics({f"hp/{name}": result[name] for name in FINAL if name in result}, step=trainer.global_step)
        writer = board.experiment
        writer.add_figure("accuracy by position", position_figure(seen.accuracy, baseline, title), trainer.global_step)
        writer.add_figure("confusion of bases", confusion_figure(seen.confusion, title), trainer.global_step)
        board.save()
