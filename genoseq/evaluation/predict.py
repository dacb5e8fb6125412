"""A network's base distributions along a part of a genome, in order, in memory that does not grow with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from genoseq.data.datamodule import GenomeData
from genoseq.data.intervals import bases
from genoseq.data.split import Parts
from genoseq.data.windows import Batch, Streams
from genoseq.training.module import NextToken, Scores, on_device

STREAM = 1 << 14
"""Tokens a stream, about, where a part is long."""


class Predicted(NamedTuple):
    """Predicted bases, in the order of the genome."""

    at: NDArray[np.int64]  # position of each, (n,)
    log_probs: torch.Tensor  # natural logarithms of p(A), p(C), p(T), p(G), float32 (n, 4), on the CPU


def score_streams(module: NextToken, data: GenomeData, streams: Streams) -> Iterator[tuple[Batch, Scores]]:
    """Yield the batches of streams and their scores, as in a test: on the trainer's device and in its precision."""
    state: Any = None
    training, chunks = module.training, data.chunks(streams)
    module.eval()
    for index in range(len(chunks)):
        with on_device(module, module.trainer) if module._trainer else nullcontext():
            batch = data.on_after_batch_transfer(chunks[index].to(module.device))
            scores = module.score(batch, state if batch.continues else None)
        state = scores.state
        yield batch, scores
    module.train(training)


@torch.no_grad()
def predict(module: NextToken, data: GenomeData, parts: Parts, stage: str) -> Iterator[Predicted]:
    """Yield the distribution of every base that the network predicts in a part, a block of streams at a time."""
    v = data.vocabulary
    rows = max(data.eval_rows, bases(parts.of(stage)) // (STREAM * v.stride))
    streams = data.streams(parts, stage, rows)
    for first in range(0, len(streams.start), data.eval_rows):
        block = slice(first, first + data.eval_rows)
        some = Streams(streams.start[block], streams.warmup[block], streams.scored[block])
        at, log_probs = [], []
        for batch, scores in score_streams(module, data, some):
            # a token's new bases are its last
            offset = torch.arange(batch.length * v.stride, device=batch.starts.device) + v.k
            position = (batch.starts[:, None] + offset).view(*scores.scored.shape, v.stride)
            at.append(position[scores.scored].flatten().cpu())
            log_probs.append(scores.log_probs[scores.scored].flatten(0, 1).cpu())
        order = torch.cat(at).argsort()
        yield Predicted(torch.cat(at)[order].numpy(), torch.cat(log_probs)[order])
