"""A closer look at separate windows: accuracy by position, and which base is taken for which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from genoseq.data.batch import Batch
from genoseq.data.datamodule import GenomeData
from genoseq.data.sampler import WindowIndex, window_streams
from genoseq.training.module import NextToken


@dataclass(frozen=True)
class WindowFigures:
    """Figures over separate windows, each read from the zero state.

    Attributes
    ----------
    accuracy : ndarray
        Share of right tokens by position in the window, (length,).
    confusion : ndarray
        Counts of the last base of the true word (rows) and of the predicted word (columns), order A C T G, (4, 4).
    """

    accuracy: NDArray[np.float64]
    confusion: NDArray[np.int64]


@torch.no_grad()
def window_figures(module: NextToken, data: GenomeData, stage: str = "val", limit: int = 256) -> WindowFigures:
    """Score at most `limit` windows, evenly spread over a part, with the module's network.

    A window is as long as training carries the state (``carry_tokens``), where the part has stretches of that length.
    """
    v, part = data.vocabulary, data.parts.of(stage)
    length = max(data.seq_len, data.carry_tokens if data.chain > 1 else 0)
    if v.span(length) > int((part[:, 1] - part[:, 0]).max()):
        length = data.seq_len
    if data.parts.leaks:
        starts = window_streams(data.parts, stage, v.span(length), length, limit, data.seed).start
    else:
        windows = WindowIndex(part, v.span(length))
        starts = windows.start(np.unique(np.linspace(0, len(windows) - 1, limit).astype(np.int64)))
    right: NDArray[np.int64] = np.zeros(length, np.int64)
    known: NDArray[np.int64] = np.zeros(length, np.int64)
    confusion: NDArray[np.int64] = np.zeros((4, 4), np.int64)
    training = module.training
    module.eval()
    for at in range(0, len(starts), data.eval_rows):
        rows = torch.from_numpy(starts[at : at + data.eval_rows])
        batch: Any = data.on_after_batch_transfer(Batch(rows, length).to(module.device))
        logits, _ = module(batch.tokens[:, :-1])
        guess = logits[..., v.first : v.first + v.words].argmax(-1).cpu()
        target = batch.tokens[:, 1:].cpu()
        scored = target != v.unknown
        target = target - v.first
        right += ((guess == target) & scored).sum(0).numpy()
        known += scored.sum(0).numpy()
        pair = (target[scored] % 4) * 4 + guess[scored] % 4
        confusion += torch.bincount(pair, minlength=16).view(4, 4).numpy()
    module.train(training)
    return WindowFigures(right / np.maximum(known, 1), confusion)
