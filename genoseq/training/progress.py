"""What the console shows while a run trains: a bar in steps, bits per base, tokens a second, time left."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.console import Console

from genoseq.data.datamodule import GenomeData
from genoseq.data.windows import Batch

LONG = 30 * 60  # seconds; beyond it a user wants to know before the run, not after


def progress() -> Callback:
    """Return a bar for a terminal, a line at each validation for a log file."""
    return StepBar(refresh_rate=1, leave=True) if Console().is_terminal else StepLines()


def latest_metrics(trainer: Trainer) -> dict[str, str]:
    """Return what is known of bits per base and speed, as text."""
    seen = trainer.callback_metrics
    names = {"train": "train/bits_per_base", "val": "val/bits_per_base"}
    shown = {stage: f"{float(seen[name]):.3f} bits/base" for stage, name in names.items() if name in seen}
    if "tokens/s" in seen:
        shown["tokens/s"] = f"{float(seen['tokens/s']):,.0f}"
    return shown


class StepLines(Callback):
    """One line at each validation: steps, bits per base, tokens a second, time left."""

    def __init__(self) -> None:
        self._begin = (0.0, 0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._begin = (time.perf_counter(), trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line."""
        if trainer.state.fn == "fit" and trainer.is_global_zero:
            step, last = trainer.global_step, trainer.max_steps
            now = time.perf_counter()
            pace = (now - self._begin[0]) / max(1, step - self._begin[1])  # since the last line: a start may be slow
            self._begin = (now, step)
            figures = "  ".join(f"{name} {value}" for name, value in latest_metrics(trainer).items())
            print(
                f"step {step:,}/{last:,}  {figures}  left {timedelta(seconds=round(pace * (last - step)))}", flush=True
            )


class StepBar(RichProgressBar):
    """Lightning's rich bar, in optimizer steps, with bits per base and tokens a second."""

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training"

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the figures beside the bar."""
        return dict(latest_metrics(trainer))


class TimeEstimate(Callback):
    """Before training: time a small part of one step, scale it, and say so if the run will take long.

    Parameters
    ----------
    rows : int
        Windows of the trial batch.
    """

    def __init__(self, rows: int = 8) -> None:
        self.rows = rows

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the estimate, if it is long."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        left = trainer.max_steps - trainer.global_step
        if not isinstance(data, GenomeData) or left <= 0 or trainer.world_size > 1:
            return
        seconds = self.measure(trainer, pl_module, data) * left * trainer.accumulate_grad_batches
        if seconds > LONG:
            print(
                f"This run will take about {timedelta(seconds=round(seconds))} on this machine "
                f"({left:,} steps of {data.batch_size} windows of {data.seq_len} tokens). To shrink it: "
                "trainer.max_steps=  model.hidden_size=  data.batch_size=  data.seq_len= ; Ctrl-C keeps what is done.",
                flush=True,
            )

    def measure(self, trainer: Trainer, pl_module: LightningModule, data: GenomeData) -> float:
        """Return the estimated seconds of one batch, from forward and backward passes on a few of its windows."""
        on_cpu = pl_module.device.type == "cpu"
        rows = min(self.rows, data.batch_size) if on_cpu else data.batch_size  # a GPU hardly notices a few rows
        loader = data.train_dataloader()
        batch: Batch = next(iter(loader))
        small = Batch(batch.starts[:rows], batch.length, None if batch.flip is None else batch.flip[:rows])
        small = data.on_after_batch_transfer(small.to(pl_module.device))
        assert small.tokens is not None
        passes: list[float] = []
        while len(passes) < 5 and sum(passes) < 10:  # the first also pays for allocation; any may be disturbed
            begin = time.perf_counter()
            with trainer.precision_plugin.forward_context():
                logits, _state = pl_module(small.tokens[:, :-1])
                logits.float().logsumexp(-1).mean().backward()
            if not on_cpu:
                torch.cuda.synchronize()
            passes.append(time.perf_counter() - begin)
        pl_module.zero_grad(set_to_none=True)
        return min(passes) * data.batch_size / rows
