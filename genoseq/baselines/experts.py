"""The mixer's experts: what followed the last k bases, for many k, and where the last bases occurred before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genoseq.baselines.counts import CHUNK, Codes, Counts
from genoseq.baselines.repeats import RepeatChunk, Repeats
from genoseq.data.intervals import Intervals


class Expertise(NamedTuple):
    """What the experts say of bases, in the order of the genome."""

    at: NDArray[np.int64]  # position of each base, (n,)
    digit: NDArray[np.uint8]  # the base itself, 0-3, (n,)
    features: Tensor  # see `genoseq.models.mixer`; float32 (modes, n, experts, 5): frozen, and adaptive if asked


class Experts:
    """k-mer experts of several orders and the two repeat models, learnt from intervals of a genome.

    Parameters
    ----------
    codes : ndarray of uint8, shape (n_bases,)
        Letter ids of the genome; kept by reference.
    orders : sequence of int
        Lengths of the contexts whose followers are counted, on both strands, in bases.
    repeat : int
        Bases that have to agree for a repeat model to begin.
    """

    def __init__(self, codes: Codes, intervals: Intervals, orders: Sequence[int], repeat: int) -> None:
        self.orders = sorted(orders)
        self._counts = Counts(codes, intervals, self.orders, both_strands=True)
        self._repeats = Repeats(codes, intervals, repeat)

    def along(self, codes: Codes, intervals: Intervals, adaptive: bool = False) -> Iterator[Expertise]:
        """Yield what the experts say of each known base of intervals of any genome, from the bases before it.

        With `adaptive`, also what they say when they have learnt from those bases of `intervals` too.
        """
        asked = codes, intervals, CHUNK, True, adaptive
        for chunk, repeats in zip(self._counts.along(*asked), self._repeats.along(*asked), strict=True):
            counts = torch.from_numpy(chunk.counts.astype(np.float32))
            modes = [counts, counts + torch.from_numpy(chunk.seen.astype(np.float32))] if adaptive else [counts]
            features = [
                torch.cat([self._shape(each.transpose(0, 1)), _shape_repeats(repeats, mode)], dim=1)
                for mode, each in enumerate(modes)
            ]
            yield Expertise(chunk.at, chunk.digit, torch.stack(features))

    def _shape(self, counts: Tensor) -> Tensor:
        """Return the features (n, orders, 5) of counts (n, orders, 4), a pseudocount `a` added to each."""
        a = torch.tensor([1.0 if k < 11 else 0.3 if k < 14 else 1 / 16 for k in self.orders])[:, None]
        total = counts.sum(-1, keepdim=True)
        return torch.cat([((counts + a) / (total / 4 + a)).log(), total.log1p() / 4], dim=-1)


def _shape_repeats(repeats: RepeatChunk, mode: int) -> Tensor:
    """Return the features (n, 2, 5) of both repeat models: the pointed-at base as likely as it was right before."""
    digit, hits, misses, length = (torch.from_numpy(each[mode].T.copy()) for each in repeats)
    on = digit >= 0
    right = ((hits + 0.6) / (hits + misses + 1)).clamp(0.02, 0.9995)
    features = torch.zeros(*digit.shape, 5)
    features[..., :4] = ((1 - right) * (4 / 3)).log()[..., None]
    features.scatter_(-1, digit.long().clamp(min=0)[..., None], (4 * right).log()[..., None])
    features[..., 4] = length.float().log1p() / 4 + 0.1
    return torch.where(on[..., None], features, torch.zeros(()))
