"""The LightningModule: trains any network with ``forward(tokens, state) -> (logits, state)``."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from genoseq.data.bases import base_log_probs
from genoseq.data.hashing import Stream, hash64
from genoseq.data.tokenizer import Vocabulary
from genoseq.data.windows import Batch
from genoseq.errors import UserError, user_mistakes
from genoseq.training.callbacks import is_logging_step
from genoseq.training.metrics import TokenMetrics

log = logging.getLogger(__name__)


class Scores(NamedTuple):
    """What a model predicted of one batch: of each token and, base by base, of the `stride` bases that it adds."""

    nats: Tensor  # code length of each token, 0 where it is not scored, float32 (B, L)
    base_nats: Tensor  # code length of each new base given those before it, 0 where not scored, float32 (B, L, stride)
    log_probs: Tensor  # its distribution, natural logarithms in the order A, C, T, G, float32 (B, L, stride, 4)
    digits: Tensor  # the new bases, A=0 C=1 T=2 G=3, arbitrary where not scored, int64 (B, L, stride)
    scored: Tensor  # whether the token is known and counts, bool (B, L)
    state: Any  # of the network after the batch

    @property
    def correct(self) -> Tensor:
        """Whether a scored base is the most likely one, bool (B, L, stride)."""
        return (self.log_probs.argmax(-1) == self.digits) & self.scored[..., None]


class NextToken(LightningModule):
    """Next-token prediction: cross-entropy over the vocabulary, the unknown token neither predicted nor scored.

    Parameters
    ----------
    net : nn.Module
        ``forward(tokens (B, L) int64, state=None) -> (logits (B, L, V), state)``.
    vocabulary : Vocabulary
    optimizer : callable
        From parameters to an optimizer.
    scheduler : callable, optional
        From an optimizer to a scheduler that steps once an optimizer step.
    seed : int
        Of dropout.
    has_unknown : bool
        Whether the genome has unknown letters, so that a batch may lack any known target. Such a batch is skipped.
    blocks : int
        Blocks of the genome for which the test metrics are kept apart.
    compile : bool
        Compile the network in place.
    metadata : dict, optional
        Plain containers that go into every checkpoint under the key ``genoseq``.

    Attributes
    ----------
    reported : dict
        The latest metrics of each stage, ``{"val": {"val/loss": …}}``.
    """

    def __init__(
        self,
        net: nn.Module,
        vocabulary: Vocabulary,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
        scheduler: Callable[[Optimizer], LRScheduler | ReduceLROnPlateau] | None = None,
        seed: int = 0,
        has_unknown: bool = True,
        blocks: int = 1,
        compile: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.net, self.vocabulary, self.seed, self.has_unknown = net, vocabulary, seed, has_unknown
        self._optimizer, self._scheduler, self.metadata = optimizer, scheduler, metadata or {}
        self.train_metrics = TokenMetrics(vocabulary.stride)
        self.val_metrics = TokenMetrics(vocabulary.stride)
        self.test_metrics = TokenMetrics(vocabulary.stride, blocks)
        self.reported: dict[str, dict[str, float]] = {}
        self._state: dict[str, Any] = {}  # by stage: validation must not disturb the state carried in training
        if compile:
            net.compile()  # in place: the checkpoint's keys stay clean

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return logits (B, L, V) and the state after `tokens` (B, L)."""
        out: tuple[Tensor, Any] = self.net(tokens, state)
        return out

    def score(self, batch: Batch, state: Any = None) -> Scores:
        """Score the predictions of one batch of windows or chunks.

        Parameters
        ----------
        batch : Batch
            With tokens, (B, L + 1).
        state : optional
            State of the network before the batch; the zero state if left out.
        """
        assert batch.tokens is not None
        v = self.vocabulary
        logits, state = self(batch.tokens[:, :-1], state)
        target = batch.tokens[:, 1:]
        scored = target != v.unknown
        if batch.scored is not None:
            scored = scored & batch.scored
        logits = logits.float()
        # a k-mer's loss is its own cross-entropy, so its bases need no gradient
        log_probs, digits = base_log_probs(logits if v.k == 1 else logits.detach(), target, v)
        base_nats = _cost(log_probs, digits, scored[..., None])
        # only known tokens are predicted: the unknown token's logit takes no part in the softmax
        known = logits[..., v.first : v.first + v.num_classes]
        nats = base_nats.squeeze(-1) if v.k == 1 else _cost(known.log_softmax(-1), target - v.first, scored)
        return Scores(nats, base_nats, log_probs, digits, scored, state)

    def _step(self, batch: Batch, stage: str, group: Tensor | None = None) -> Scores:
        """Score one batch into the metrics of `stage`."""
        scores = self.score(batch, self._state.get(stage) if batch.continues else None)
        self._state[stage] = apply_to_collection(scores.state, Tensor, Tensor.detach)
        with torch.no_grad():
            self._metric(stage).update(scores.nats, scores.base_nats, scores.correct, scores.scored, group)
        return scores

    def on_fit_start(self) -> None:
        """Move the state of a checkpoint, which is read before the module has its device, to that device."""
        self._state["train"] = move_data_to_device(self._state.get("train"), self.device)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make dropout a function of (seed, rank, step)."""
        seed = int(hash64((self.seed, Stream.DROPOUT, self.global_rank), batch.step)) >> 1
        # not torch.manual_seed, which seeds devices of every kind and looks up its caller: a tenth of a small step
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":
            getattr(torch, self.device.type).manual_seed(seed)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """Return the mean code length (nats a token) of one batch; None, without an update, if nothing is scored."""
        scores = self._step(batch, "train")
        loss = scores.nats.sum() / scores.scored.sum().clamp(min=1)
        if self.has_unknown and self.trainer.world_size == 1 and not scores.scored.any():
            return None  # with several ranks a rank without targets adds a zero gradient, which the others wait for
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Log the means since the last time, every ``log_every_n_steps`` optimizer steps and after the last."""
        stepped = (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0
        if stepped and is_logging_step(self.trainer, self.trainer.global_step):
            self._report("train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score one chunk of the validation part."""
        self._step(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics, and step a scheduler that waits for a plateau."""
        self._report("val")
        schedule = self.lr_schedulers() if self.trainer.state.fn == "fit" else None
        if isinstance(schedule, ReduceLROnPlateau):
            # here, not by Lightning, which does so after the checkpoint is written: a resumed run would lack this step
            schedule.step(self.reported["val"]["val/bits_per_base"])

    def on_test_epoch_start(self) -> None:
        """Reset the sums of an earlier test."""
        self.test_metrics.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Score one chunk of the test part, by block of the genome."""
        self._step(batch, "test", batch.block)

    def on_test_epoch_end(self) -> None:
        """Report the test metrics; the sums by block stay."""
        self._report("test", reset=False)

    def _metric(self, stage: str) -> TokenMetrics:
        metric: TokenMetrics = getattr(self, f"{stage}_metrics")
        return metric

    def _report(self, stage: str, reset: bool = True) -> None:
        # written to the loggers here, not by self.log, so that a point stands at the optimizer steps it has seen
        metric = self._metric(stage)
        if stage == "train" and not metric.update_called:
            return  # logged already
        metrics = {f"{stage}/{name}": float(value) for name, value in metric.compute().items()}
        if reset:
            metric.reset()
        any_scored = not math.isnan(metrics[f"{stage}/accuracy"])
        if stage == "train" and not any_scored:
            return
        if any_scored and not math.isfinite(metrics[f"{stage}/loss"]):
            raise UserError(
                f"training has diverged: the {stage} loss is {metrics[f'{stage}/loss']} after {self.global_step:,} "
                "steps; lower optimizer.lr, or clip gradients with trainer.gradient_clip_val"
            )
        self.reported[stage] = metrics
        self.log_dict(metrics, logger=False)  # for callbacks: the best checkpoint, early stopping, the bar
        if self.trainer.is_global_zero and stage != "test":  # what is to be said of the test is known after the mixer
            for logger in self.trainer.loggers:
                logger.log_metrics(metrics, step=self.global_step)

    def configure_optimizers(self) -> Any:
        """Build the optimizer and its scheduler, both counted in optimizer steps."""
        assert self._optimizer is not None
        with user_mistakes("the optimizer or scheduler"):
            optimizer = self._optimizer(self.net.parameters())
            if self._scheduler is None:
                return optimizer
            scheduler = self._scheduler(optimizer)
        plan: dict[str, Any] = {"scheduler": scheduler, "interval": "step"}
        if isinstance(scheduler, ReduceLROnPlateau):
            # never by Lightning: on_validation_epoch_end steps it
            plan |= {"monitor": "val/bits_per_base", "interval": "epoch", "frequency": sys.maxsize}
        return {"optimizer": optimizer, "lr_scheduler": plan}

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip gradients, also those of a fused optimizer, which Lightning refuses wherever precision is mixed.

        It is right to only where gradients are scaled, as in float16: a fused optimizer undoes that itself.
        """
        plugin, value = self.trainer.precision_plugin, gradient_clip_val
        if not value or not isinstance(plugin, MixedPrecision):
            self.clip_gradients(optimizer, value, gradient_clip_algorithm)
            return
        if plugin.scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            raise UserError(
                f"trainer.precision={plugin.precision} cannot clip the gradients of a fused optimizer: add "
                "optimizer.fused=false, or trainer.precision=bf16-mixed"
            )
        Precision.clip_gradients(plugin, optimizer, value, GradClipAlgorithmType(gradient_clip_algorithm or "norm"))

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self._trainer else 1

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the metadata, and what each rank resumes from: its carried state and its sums of the training metrics."""
        own = {"state": self._state.get("train"), "train_metrics": self.train_metrics.metric_state}
        ranks = [own]
        if self._world_size > 1:
            gathered = self.all_gather(own)
            ranks = [apply_to_collection(gathered, Tensor, itemgetter(rank)) for rank in range(self._world_size)]
        checkpoint["genoseq"] = self.metadata | {"ranks": ranks}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore this rank's carried state and sums."""
        ranks = checkpoint["genoseq"]["ranks"]
        if len(ranks) == self._world_size:
            self._state["train"] = ranks[self.global_rank]["state"]
            if not self.train_metrics.load_sums(ranks[self.global_rank]["train_metrics"]):
                log.warning(
                    "The checkpoint is of an earlier genoseq: the running means of the training metrics start anew."
                )
        else:
            log.warning(
                "The checkpoint was written by %d process(es), this run has %d: carried states and the running means "
                "of the training metrics start anew.",
                len(ranks),
                self._world_size,
            )


def _cost(log_probs: Tensor, index: Tensor, scored: Tensor) -> Tensor:
    """Return the code length (nats) of class `index` (…) in `log_probs` (…, C), 0 where not scored."""
    index = torch.where(scored, index, -100)
    return functional.nll_loss(log_probs.flatten(0, -2), index.flatten(), reduction="none").view_as(index)


@contextmanager
def on_device(module: LightningModule, trainer: Trainer) -> Iterator[None]:
    """Score outside the trainer's loops, which leave the module on the CPU, on their device and in their precision."""
    module.to(trainer.strategy.root_device)
    with trainer.precision_plugin.forward_context():
        yield
