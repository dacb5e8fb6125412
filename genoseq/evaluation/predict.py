"""A network's base distributions along a part of a genome, in order, in memory that does not grow with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from genoseq.data.datamodule import GenomeData
from genoseq.data.intervals import bases
from genoseq.data.split import Parts
from genoseq.data.windows import Streams

if TYPE_CHECKING:
    from genoseq.training.module import NextToken

STREAM = 1 << 14
"""Tokens a stream, about, where a part is long."""


class Predicted(NamedTuple):
    """Predicted bases, in the order of the genome."""

    at: NDArray[np.int64]  # position of each, (n,)
    log_probs: torch.Tensor  # natural logarithms of p(A), p(C), p(T), p(G), float32 (n, 4), on the CPU


@torch.no_grad()
def predict(module: NextToken, data: GenomeData, parts: Parts, stage: str) -> Iterator[Predicted]:
    """Yield the distribution of every base that the network predicts in a part, a block of streams at a time."""
    v = data.vocabulary
    rows = max(data.eval_rows, bases(parts.of(stage)) // (STREAM * v.stride))
    streams = data.streams(parts, stage, rows)
    precision = module.trainer.precision_plugin.forward_context if module._trainer else nullcontext
    for first in range(0, len(streams.start), data.eval_rows):
        block = slice(first, first + data.eval_rows)
        chunks = data.chunks(Streams(streams.start[block], streams.warmup[block], streams.scored[block]))
        at, log_probs, state, training = [], [], None, module.training
        module.eval()
        for index in range(len(chunks)):
            batch = data.on_after_batch_transfer(chunks[index].to(module.device))
            with precision():
                scores: Any = module.score(batch, state if batch.continues else None)
            state = scores.state
            # a token's new bases are its last
            offset = torch.arange(batch.length * v.stride, device=module.device) + v.k
            position = (batch.starts[:, None] + offset).view(*scores.scored.shape, v.stride)
            at.append(position[scores.scored].flatten().cpu())
            log_probs.append(scores.log_probs[scores.scored].flatten(0, 1).cpu())
        module.train(training)
        order = torch.cat(at).argsort()
        yield Predicted(torch.cat(at)[order].numpy(), torch.cat(log_probs)[order])
