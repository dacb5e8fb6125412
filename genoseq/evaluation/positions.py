"""A closer look at separate windows: figures by the tokens read, and which base is taken for which."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from genoseq.data.batch import Batch
from genoseq.data.datamodule import GenomeData
from genoseq.data.sampler import Starts, WindowIndex, window_streams
from genoseq.training.module import NextToken


@dataclass(frozen=True)
class WindowMetrics:
    """Figures over separate windows, each read from the zero state.

    Attributes
    ----------
    scored : ndarray
        Known tokens by position in the window, (length,).
    accuracy : ndarray
        Share of right tokens by position, nan where nothing was scored, (length,).
    bits_per_base : ndarray
        Code length by position, bits, nan where nothing was scored, (length,).
    confusion : ndarray
        Counts of the last base of the true word (rows) and of the predicted word (columns), order A C T G, (4, 4).
    """

    scored: NDArray[np.int64]
    accuracy: NDArray[np.float64]
    bits_per_base: NDArray[np.float64]
    confusion: NDArray[np.int64]


def window_metrics(module: NextToken, data: GenomeData, stage: str = "val", limit: int = 256) -> WindowMetrics:
    """Score at most `limit` windows, evenly spread over a part, with the module's network.

    A window is as long as training carries the state (``carry_tokens``), where the part has stretches of that length.
    """
    v, part = data.vocabulary, data.parts.of(stage)
    length = max(data.seq_len, data.carry_tokens if data.chain > 1 else 0)
    if v.span(length) > int((part[:, 1] - part[:, 0]).max()):
        length = data.seq_len
    if data.parts.splits_windows:
        starts = window_streams(data.parts, stage, v.span(length), length, limit, data.seed).start
    else:
        windows = WindowIndex(part, v.span(length))
        starts = windows.start(np.unique(np.linspace(0, len(windows) - 1, limit).astype(np.int64)))
    return _figures(module, data, starts, length)


def position_rows(module: NextToken, data: GenomeData, stage: str, cover: int) -> list[dict[str, Any]]:
    """Return figures by position over windows of ``seq_len`` that lie all over a part.

    Parameters
    ----------
    cover : int
        Windows that predict each base: 1 tiles the part, 10 has the last tenth of the windows predict every base once
        (but for the edges of the part). No more than ``seq_len`` have an effect.

    Returns
    -------
    list of dict
        ``position`` (tokens read, from 1), ``n`` (known tokens), ``accuracy`` (fraction), ``bits_per_base``.
    """
    seen = _figures(module, data, covering_starts(data, stage, cover), data.seq_len)
    columns = zip(seen.scored.tolist(), seen.accuracy.tolist(), seen.bits_per_base.tolist(), strict=True)
    return [
        {"position": position, "n": n, "accuracy": accuracy, "bits_per_base": bits}
        for position, (n, accuracy, bits) in enumerate(columns, start=1)
    ]


def covering_starts(data: GenomeData, stage: str, cover: int) -> Starts:
    """Return the first bases of the windows of a part, a `cover`-th of a window's tokens apart.

    Where windows are split by a hash: of the part's own windows as many as its share of the genome would have.
    """
    hop, parts = max(1, data.seq_len // cover) * data.vocabulary.stride, data.parts
    step = 1 if parts.splits_windows else hop
    starts = np.concatenate([np.arange(a, b - data.span + 1, step, dtype=np.int64) for a, b in parts.of(stage)])
    if not parts.splits_windows:
        return starts
    own = starts[parts.accepts(stage, starts)]
    return own[:: max(1, round(hop * len(own) / (parts.share(stage) * len(starts))))]


@torch.no_grad()
def _figures(module: NextToken, data: GenomeData, starts: Starts, length: int) -> WindowMetrics:
    v = data.vocabulary
    right: NDArray[np.int64] = np.zeros(length, np.int64)
    known: NDArray[np.int64] = np.zeros(length, np.int64)
    nats: NDArray[np.float64] = np.zeros(length)
    confusion: NDArray[np.int64] = np.zeros((4, 4), np.int64)
    training = module.training
    module.eval()
    for at, logits, target in _chunks(module, data, starts, length):
        guess, scored = logits.argmax(-1), target >= 0
        right[at] += ((guess == target) & scored).sum(0).cpu().numpy()
        known[at] += scored.sum(0).cpu().numpy()
        cost = functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none", ignore_index=-1)
        nats[at] += cost.view_as(target).sum(0, dtype=torch.float64).cpu().numpy()
        pair = (target[scored] % 4) * 4 + guess[scored] % 4
        confusion += torch.bincount(pair, minlength=16).view(4, 4).cpu().numpy()
    module.train(training)
    with np.errstate(invalid="ignore"):
        return WindowMetrics(known, right / known, nats / known / math.log(2) / v.new_bases, confusion)


def _chunks(module: NextToken, data: GenomeData, starts: Starts, length: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Read windows `eval_rows` at a time, in chunks of `eval_chunk` tokens, the state carried from chunk to chunk.

    Yields
    ------
    slice
        Positions of the chunk in the window.
    Tensor
        Logits of the known tokens, float (B, chunk, num_classes).
    Tensor
        Words that came, int64 (B, chunk); -1 where unknown.
    """
    v = data.vocabulary
    for row in range(0, len(starts), data.eval_rows):
        state: Any = None
        for lo in range(0, length, data.eval_chunk):
            hi = min(lo + data.eval_chunk, length)
            first = torch.from_numpy(starts[row : row + data.eval_rows] + lo * v.stride)
            batch: Any = data.on_after_batch_transfer(Batch(first, hi - lo).to(module.device))
            logits, state = module(batch.tokens[:, :-1], state)
            target = batch.tokens[:, 1:]
            yield (
                slice(lo, hi),
                logits[..., v.first : v.first + v.num_classes].float(),
                torch.where(target == v.unknown, -1, target - v.first),
            )
