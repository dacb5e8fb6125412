"""What the console shows while a run trains."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.console import Console

LONG_RUN = 30 * 60  # seconds
_TIMED_STEPS, _TIMED_SECONDS = 3, 2.0  # at least so much is timed before a run's length is estimated


class Progress(RichProgressBar):
    """Show steps, bits per base, tokens a second and the time left: a bar on a terminal, else a line a validation.

    After a few steps, a run that will take more than half an hour is announced, with the settings that shrink it.
    """

    def __init__(self) -> None:
        super().__init__(refresh_rate=1, leave=True)
        if not Console().is_terminal:
            self.disable()
        self._first: tuple[float, int] | None = None  # when the timed steps began, and after which step
        self._last = (0.0, 0)  # the same of the steps since the last line
        self._estimated = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self._last = (time.perf_counter(), trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance the bar; estimate the time that the run will take, once."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.is_global_zero and not self._estimated:
            self._estimate(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print a line where there is no bar."""
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn != "fit" or not trainer.is_global_zero or self.is_enabled:
            return
        now, step = time.perf_counter(), trainer.global_step
        pace = (now - self._last[0]) / max(1, step - self._last[1])
        self._last = (now, step)
        metrics = "  ".join(f"{name} {value}" for name, value in self.get_metrics(trainer, pl_module).items())
        left = timedelta(seconds=round(pace * (trainer.max_steps - step)))
        print(f"step {step:,}/{trainer.max_steps:,}  {metrics}  left {left}", flush=True)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Return the latest bits per base and tokens a second, as text."""
        latest = trainer.callback_metrics
        shown = {
            stage: f"{float(latest[f'{stage}/bits_per_base']):.3f} bits/base"
            for stage in ("train", "val")
            if f"{stage}/bits_per_base" in latest
        }
        if "train/tokens_per_second" in latest:
            shown["tokens/s"] = f"{float(latest['train/tokens_per_second']):,.0f}"
        return dict(shown)

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training"  # there are no epochs to count

    def _estimate(self, trainer: Trainer) -> None:
        now, step = time.perf_counter(), trainer.global_step
        if self._first is None:
            if step > self._last[1]:
                self._first = (now, step)  # the first step isn't timed: it also pays for allocation
            return
        if step - self._first[1] < _TIMED_STEPS or now - self._first[0] < _TIMED_SECONDS:
            return
        self._estimated = True
        if trainer.strategy.root_device.type != "cpu":
            torch.accelerator.synchronize()  # the host may be many steps ahead
        pace = (time.perf_counter() - self._first[0]) / (step - self._first[1])
        left = trainer.max_steps - step
        if pace * left > LONG_RUN:
            print(
                f"This run will take about {timedelta(seconds=round(pace * left))} ({left:,} more steps on this "
                "machine). To shrink it: trainer.max_steps=  model.hidden_size=  data.batch_size=  data.seq_len= ; "
                "Ctrl-C saves and stops.",
                flush=True,
            )
