"""Callbacks: checkpoints, figures by step, a graceful stop."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.optim import Optimizer

from genoseq.data.windows import Batch

_TWICE = 1.0  # seconds; a launcher and a cluster's manager may both pass on one and the same signal


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there, so that a killed run leaves a whole file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save `checkpoint` to `path`."""
        beside = Path(f"{path}.part")
        super().save_checkpoint(checkpoint, beside, storage_options)
        beside.replace(path)


class Checkpoints(ModelCheckpoint):
    """``best.ckpt`` by validation bits per base, and ``last.ckpt``, after every validation and so after the last step.

    Parameters
    ----------
    dirpath : Path
    resumed : Path, optional
        The checkpoint that this run goes on from; the ``best.ckpt`` beside it is taken over into a new folder.
    """

    def __init__(self, dirpath: Path, resumed: Path | None = None) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="best",
            monitor="val/bits_per_base",
            mode="min",
            save_top_k=1,
            save_last=False,  # Lightning's is written only when the best is; on_validation_end writes ours
            save_on_train_epoch_end=False,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )
        self._resumed = resumed

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best score so far, together with its file."""
        assert self.dirpath is not None
        score = state_dict.get("best_model_score")
        if score is not None and self._resumed is not None:
            best = Path(self.dirpath) / "best.ckpt"
            source = self._resumed.parent / "best.ckpt"
            if source.exists() and not best.exists():
                best.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, best)
            if best.exists():
                here = {"best_model_path": str(best), "kth_best_model_path": str(best)}
                state_dict = state_dict | here | {"best_k_models": {str(best): score}, "dirpath": str(self.dirpath)}
        super().load_state_dict(state_dict)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Have the last step's weights validated, whatever the interval."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True  # Lightning validates once more before it stops

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the checkpoints, and before them what was reported so far: a resumed run takes it over."""
        if trainer.state.fn != "fit":
            return
        for logger in trainer.loggers:
            logger.save()
        super().on_validation_end(trainer, pl_module)
        assert self.dirpath is not None
        trainer.save_checkpoint(Path(self.dirpath) / "last.ckpt")


def every(trainer: Trainer) -> int:
    """Return the optimizer steps from one report of the training figures to the next."""
    steps: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it behind the type's back
    return steps


class StepMetrics(Callback):
    """Learning rate, gradient norm and tokens a second, whenever the training figures are reported."""

    def __init__(self) -> None:
        self._since: tuple[float, int] | None = None
        self._norm: float | None = None
        self._paused = 0.0
        self._total = (0, 0.0)

    @property
    def rate(self) -> float | None:
        """Training tokens a second over the whole run, validation left out."""
        tokens, seconds = self._total
        return tokens / seconds if seconds else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._since = (time.perf_counter(), 0)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock: tokens a second are those of training."""
        self._paused = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the clock go on."""
        if self._since is not None:
            self._since = (self._since[0] + time.perf_counter() - self._paused, self._since[1])

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Measure the gradient norm (before clipping) on steps that are reported."""
        if (trainer.global_step + 1) % every(trainer) == 0:
            grads = [p.grad for p in pl_module.parameters() if p.grad is not None]
            self._norm = float(torch.nn.utils.get_total_norm(grads)) if grads else None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count tokens; report on the module's beat."""
        assert self._since is not None
        self._since = (self._since[0], self._since[1] + len(batch) * batch.length * trainer.world_size)
        step = trainer.global_step
        if (batch_idx + 1) % trainer.accumulate_grad_batches or step % every(trainer):
            return
        if trainer.strategy.root_device.type == "cuda":
            torch.cuda.synchronize()
        seconds, tokens = time.perf_counter() - self._since[0], self._since[1]
        self._total = (self._total[0] + tokens, self._total[1] + seconds)
        figures = {
            "train/lr": trainer.optimizers[0].param_groups[0]["lr"],
            "train/tokens_per_second": tokens / seconds,
        }
        if self._norm is not None:
            figures["train/grad_norm"] = self._norm
        pl_module.log("tokens/s", figures["train/tokens_per_second"], logger=False, prog_bar=True)
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=step)
        self._since = (time.perf_counter(), 0)


class GracefulStop(Callback):
    """The first Ctrl-C (or SIGTERM) ends training after the step in hand and writes ``last.ckpt``; the second kills.

    Must be the last callback: what the others do at a step's end belongs into the checkpoint.

    Attributes
    ----------
    signal : int or None
        The signal that stopped the run.
    """

    def __init__(self, dirpath: Path) -> None:
        self.signal: int | None = None
        self._asked = 0.0
        self._last = Path(dirpath) / "last.ckpt"
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over (only the main thread may)."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._stop)

    def _stop(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if self.signal is not None:
            if now - self._asked < _TWICE:
                return
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal, self._asked = number, now

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """End after this step, on every rank at once."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches or trainer.global_step >= trainer.max_steps:
            return
        stop = self.signal is not None
        if trainer.world_size > 1:
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        if stop:
            self.signal = self.signal or signal.SIGINT
            pl_module.on_train_batch_end(outputs, batch, batch_idx)  # its report too comes before the checkpoint
            if (trainer.fit_loop.total_batch_idx + 1) % int(trainer.val_check_batch or 1):
                # an extra validation would make a resumed run differ from one never stopped; a due one takes place
                trainer.limit_val_batches = 0
            trainer.should_stop = True
            trainer.save_checkpoint(self._last)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back; after the last step there was nothing left to stop."""
        self._restore()
        if trainer.global_step >= trainer.max_steps:
            self.signal = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
