"""Callbacks: checkpoints, metrics of the optimizer steps, a graceful stop."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EMAWeightAveraging, ModelCheckpoint
from torch.optim import Optimizer

from genoseq.data.windows import Batch

log = logging.getLogger(__name__)

_SAME_SIGNAL = 1.0  # seconds; a launcher and a cluster's manager may both pass on one and the same signal


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its final path and move it there, so that a killed run leaves no partial file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save `checkpoint` to `path`."""
        part = Path(f"{path}.part")
        super().save_checkpoint(checkpoint, part, storage_options)
        part.replace(path)


def _checkpoints(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir) / "checkpoints"


class Checkpoints(ModelCheckpoint):
    """Write ``best.ckpt`` (validation bits per base) and ``last.ckpt`` after every validation, so after the last step.

    Both go to ``checkpoints/`` in the run's folder, where a resumed run expects the ``best.ckpt`` of the run so far.
    """

    def __init__(self) -> None:
        super().__init__(
            filename="best",
            monitor="val/bits_per_base",
            mode="min",
            save_top_k=1,
            save_last=False,  # Lightning writes it only when the best changes; on_validation_end writes ours
            save_on_train_epoch_end=False,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set the folder."""
        self.dirpath = str(_checkpoints(trainer))
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score so far, whose checkpoint is in this folder."""
        best = str(Path(str(self.dirpath)) / "best.ckpt")
        score = state_dict.get("best_model_score")
        if score is None:
            return
        if not Path(best).exists():
            log.warning("There is no %s: the best checkpoint is chosen among the ones from here on.", best)
            return
        paths = {"best_model_path": best, "kth_best_model_path": best, "best_k_models": {best: score}}
        super().load_state_dict(state_dict | paths | {"dirpath": self.dirpath})

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Validate after the last step, whatever the interval."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True  # Lightning validates once more before it stops

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the checkpoints, and before them the logs, from which a resumed run continues."""
        if trainer.state.fn != "fit":
            return
        for logger in trainer.loggers:
            logger.save()
        super().on_validation_end(trainer, pl_module)
        trainer.save_checkpoint(_checkpoints(trainer) / "last.ckpt")


def is_logging_step(trainer: Trainer, step: int) -> bool:
    """Whether the training metrics are logged after optimizer step `step`: at each interval, and after the last."""
    interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it in a helper
    return step % interval == 0 or step == trainer.max_steps


class StepMetrics(Callback):
    """Log learning rate, gradient norm and tokens a second together with the training metrics."""

    def __init__(self) -> None:
        self._begin = self._pause = 0.0  # time.perf_counter()
        self._tokens = 0
        self._norm: float | None = None
        self._total_tokens, self._total_seconds = 0, 0.0

    @property
    def tokens_per_second(self) -> float | None:
        """Training tokens a second over the whole run, without validation."""
        return self._total_tokens / self._total_seconds if self._total_seconds else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._begin, self._tokens = time.perf_counter(), 0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._pause = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock again."""
        self._begin += time.perf_counter() - self._pause

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Measure the gradient norm before clipping."""
        if is_logging_step(trainer, trainer.global_step + 1):
            grads = [p.grad for p in pl_module.parameters() if p.grad is not None]
            self._norm = float(torch.nn.utils.get_total_norm(grads)) if grads else None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count the batch's tokens; log at the steps at which the module logs."""
        self._tokens += len(batch) * batch.length * trainer.world_size
        if (batch_idx + 1) % trainer.accumulate_grad_batches or not is_logging_step(trainer, trainer.global_step):
            return
        if trainer.strategy.root_device.type != "cpu":
            torch.accelerator.synchronize()
        seconds = time.perf_counter() - self._begin
        self._total_tokens += self._tokens
        self._total_seconds += seconds
        metrics = {
            "train/lr": trainer.optimizers[0].param_groups[0]["lr"],
            "train/tokens_per_second": self._tokens / seconds,
        }
        if self._norm is not None:
            metrics["train/grad_norm"] = self._norm
        pl_module.log_dict(metrics, logger=False)  # for other callbacks
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)
        self._begin, self._tokens = time.perf_counter(), 0


class EMA(EMAWeightAveraging):
    """Lightning's exponential moving average of the weights; a test after training measures the average too."""

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Resume the average and the weights under training; for a test, the average is loaded already."""
        if trainer.state.fn == "fit":
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


class GracefulStop(Checkpoint):
    """Save ``last.ckpt`` and end training after the current step at the first SIGINT or SIGTERM; the second kills.

    A signal that the process ignores (SIGINT in a shell's background) stays ignored. As a `Checkpoint` it is called
    after all other kinds of callbacks, wherever it is listed: what they do at a step's end belongs in the checkpoint.

    Attributes
    ----------
    signal : int or None
        The signal that stopped the run.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._received = 0.0  # time.monotonic()
        self._handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the handlers; only the main thread may."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if self.signal is not None:
            if now - self._received < _SAME_SIGNAL:
                return
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal, self._received = number, now

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Save and stop, on every rank at once."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches or trainer.global_step >= trainer.max_steps:
            return
        stop = self.signal is not None
        if trainer.world_size > 1:
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if stop:
            self.signal = self.signal or signal.SIGINT
            pl_module.on_train_batch_end(outputs, batch, batch_idx)  # its metrics come before the checkpoint
            if (trainer.fit_loop.total_batch_idx + 1) % int(trainer.val_check_batch or 1):
                # an extra validation would make a resumed run differ from one never stopped; a due one takes place
                trainer.limit_val_batches = 0
            trainer.should_stop = True
            trainer.save_checkpoint(_checkpoints(trainer) / "last.ckpt")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the handlers; a signal during the last step stopped nothing."""
        self._restore()
        if trainer.global_step >= trainer.max_steps:
            self.signal = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the handlers."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
