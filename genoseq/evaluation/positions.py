"""Metrics by position in the window, and the confusion matrix of the bases."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.classification import MulticlassConfusionMatrix

from genoseq.data.datamodule import GenomeData
from genoseq.data.windows import Starts, Streams, WindowIndex, window_streams
from genoseq.evaluation.predict import score_streams

if TYPE_CHECKING:
    from genoseq.training.module import NextToken


@dataclass(frozen=True)
class WindowMetrics:
    """Metrics over separate windows, each read from the zero state; arrays by position in the window, (length,)."""

    scored: NDArray[np.float64]  # tokens
    accuracy: NDArray[np.float64]  # of the bases that they add, fraction, nan where nothing was scored
    bits_per_base: NDArray[np.float64]  # nan where nothing was scored
    confusion: MulticlassConfusionMatrix  # of those bases, in the order A, C, T, G; each row sums to 1


def window_metrics(module: NextToken, data: GenomeData, stage: str = "val", limit: int = 256) -> WindowMetrics:
    """Score at most `limit` windows, evenly spread over a part, with the module's network.

    A window is as long as training carries the state (``carry_tokens``), if the part has an interval of that length.
    """
    v, part = data.vocabulary, data.parts.of(stage)
    length = max(data.seq_len, data.carry_tokens if data.windows_per_segment > 1 else 0)
    if v.span(length) > int((part[:, 1] - part[:, 0]).max()):
        length = data.seq_len
    if data.parts.splits_windows:
        starts = window_streams(data.parts, stage, v.span(length), length, limit, data.seed).start
    else:
        windows = WindowIndex(part, v.span(length))
        starts = windows.start(np.unique(np.linspace(0, len(windows) - 1, limit).astype(np.int64)))
    return _by_position(module, data, starts, length)


def position_rows(module: NextToken, data: GenomeData, stage: str, cover: int) -> list[dict[str, Any]]:
    """Return metrics by position over windows of ``seq_len`` that lie all over a part.

    `cover` windows predict each base: 1 tiles the part; with 10, the last tenth of the windows predicts every base once
    (but for the edges of the part). At most ``seq_len`` have an effect. A row holds ``position`` (tokens read, from 1),
    ``n`` (scored tokens), and of the bases that these add ``accuracy`` (fraction) and ``bits_per_base``.
    """
    metrics = _by_position(module, data, covering_starts(data, stage, cover), data.seq_len)
    columns = zip(metrics.scored.tolist(), metrics.accuracy.tolist(), metrics.bits_per_base.tolist(), strict=True)
    return [
        {"position": i, "n": int(n), "accuracy": accuracy, "bits_per_base": bits}
        for i, (n, accuracy, bits) in enumerate(columns, start=1)
    ]


def covering_starts(data: GenomeData, stage: str, cover: int) -> Starts:
    """Return the first bases of the windows of a part, a `cover`-th of a window's tokens apart.

    Where windows are split by a hash: of the part's own windows as many as its share of the genome would have.
    """
    step, parts = max(1, data.seq_len // cover) * data.vocabulary.stride, data.parts
    apart = 1 if parts.splits_windows else step
    starts = np.concatenate([np.arange(a, b - data.span + 1, apart, dtype=np.int64) for a, b in parts.of(stage)])
    if not parts.splits_windows:
        return starts
    own = starts[parts.accepts(stage, starts)]
    return own[:: max(1, round(step * len(own) / (parts.share(stage) * len(starts))))]


@torch.no_grad()
def _by_position(module: NextToken, data: GenomeData, starts: Starts, length: int) -> WindowMetrics:
    stride, zero = data.vocabulary.stride, np.zeros(len(starts), np.int64)
    windows = Streams(starts, warmup=zero, scored=zero + length)
    # sums of scored tokens, correct bases and the bases' nats
    sums = torch.zeros(3, length, dtype=torch.float64)  # on the CPU: not every accelerator has 64-bit floats
    confusion = MulticlassConfusionMatrix(4, normalize="true", sync_on_compute=False)
    end = 0
    for batch, scores in score_streams(module, data, windows):
        scored = scores.scored
        at = end if batch.continues else 0
        end = at + batch.length
        values = torch.stack([scored, scores.correct.sum(-1), scores.base_nats.sum(-1)])
        sums[:, at:end] += values.cpu().sum(1, dtype=torch.float64)
        confusion.to(scored.device).update(
            scores.log_probs.argmax(-1)[scored].flatten(), scores.digits[scored].flatten()
        )
    n, correct, cost = sums.numpy()
    with np.errstate(invalid="ignore"):
        return WindowMetrics(n, correct / n / stride, cost / n / stride / math.log(2), confusion)
