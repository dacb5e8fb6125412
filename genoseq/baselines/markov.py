"""Order-k Markov models and the interpolated Markov model.

They learn from the training part and choose their settings on the validation part. A fitted model refers to the genome
it learnt from and counts again when it predicts: it is small, and predicts in the same memory whatever the genome.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from genoseq.baselines.counts import Chunk, Codes, Counts, pick
from genoseq.baselines.scoring import CountModel
from genoseq.data.intervals import Intervals, bases, spread
from genoseq.errors import UserError

HIGHEST = 16
"""Highest order, in bases."""
CHOOSE_ON = 1 << 17
"""Bases of the validation part that settings are chosen on, at most."""

_SMOOTHINGS = 2.0 ** np.arange(-6, 7)
_STRENGTHS = 4.0 ** np.arange(-2, 10)


@dataclass(frozen=True)
class MarkovModel(CountModel):
    """Order-k Markov model of the given strand, with additive smoothing.

    p(x | c) = (n(c, x) + a) / (n(c) + 4 a) for the k bases c before x (Lidstone's rule); a base with fewer than k known
    bases before it is predicted from the order-0 counts.
    """

    order: int  # k, in bases
    smoothing: float  # a, in counts

    @property
    def orders(self) -> Sequence[int]:
        return [0, self.order]

    def probabilities(self, asked: Chunk, orders: Sequence[int]) -> NDArray[np.float32]:
        short, long = (asked.forward[orders.index(order)] for order in self.orders)
        number = np.where(asked.depth[:, None] < self.order, short, long)
        smoothed = number + np.float32(self.smoothing)
        probabilities: NDArray[np.float32] = (smoothed / smoothed.sum(axis=1, keepdims=True)).astype(np.float32)
        return probabilities


@dataclass(frozen=True)
class InterpolatedMarkov(CountModel):
    """Interpolated Markov model: all orders up to a highest, from the counts of both strands.

    p_d(x | c) = (n_d(c, x) + s_d p_{d-1}(x | c')) / (n_d(c) + s_d), where c' is c without its first base and
    p_{-1} = 1/4: the predictive rule of a hierarchical Dirichlet language model (MacKay and Peto, Natural Language
    Engineering 1, 289-308, 1995). A base with fewer than d known bases before it stops at the order it has.
    """

    strengths: NDArray[np.float32]
    """s_d, in counts: how many observations the next shorter context's prediction is worth; (highest order + 1,)."""

    @property
    def orders(self) -> Sequence[int]:
        return range(len(self.strengths))

    def probabilities(self, asked: Chunk, orders: Sequence[int]) -> NDArray[np.float32]:
        probabilities = np.full((len(asked.digit), 4), 0.25, dtype=np.float32)
        for order, strength in enumerate(self.strengths):
            number = asked.counts[orders.index(order)]
            total = number.sum(axis=1, dtype=np.float32, keepdims=True)
            probabilities *= strength
            probabilities += number
            probabilities /= total + strength
        return probabilities


class Seen(NamedTuple):
    """Counts of bases of the validation part, on which settings are chosen: of one strand, and of both."""

    codes: Codes
    train: Intervals
    depth: NDArray[np.uint8]  # known bases before each, (n,)
    forward: tuple[NDArray[np.float32], NDArray[np.float32]]  # of the base that is there, and of all four, (orders, n)
    both: tuple[NDArray[np.float32], NDArray[np.float32]]

    @classmethod
    def of(cls, codes: Codes, train: Intervals, val: Intervals) -> "Seen":
        """Count the contexts of orders 0 to `HIGHEST` of at most `CHOOSE_ON` bases of the validation part."""
        counts = Counts(codes, train, range(HIGHEST + 1), both_strands=True)
        asked = next(counts.along(codes, spread(val, CHOOSE_ON)[0], CHOOSE_ON, skip_first=True), None)
        if asked is None or not bases(train):
            raise UserError(
                f"the baselines need bases to learn from and to choose on, but the training part has {bases(train)} "
                f"and the validation part {0 if asked is None else len(asked.digit)} that can be predicted; "
                "give a longer genome, a larger share to the smaller part, or baseline=false"
            )
        one, two = (
            (pick(some, asked.digit).astype(np.float32), some.sum(axis=2, dtype=np.float32))
            for some in (asked.forward, asked.counts)
        )
        return cls(codes, train, asked.depth, one, two)


def fit_markov(seen: Seen) -> MarkovModel:
    """Return the Markov model of the order, 0 to 12, and smoothing that give the validation part the fewest bits."""
    _, order, smoothing = min(_smoothed(seen, 12))
    return MarkovModel(seen.codes, seen.train, order, smoothing)


def fit_all_orders(seen: Seen) -> list[MarkovModel]:
    """Return the Markov model of each order from 0 to 16, with its best smoothing."""
    return [MarkovModel(seen.codes, seen.train, order, a) for _, order, a in _smoothed(seen, HIGHEST)]


def _smoothed(seen: Seen, max_order: int) -> list[tuple[float, int, float]]:
    """Return (bits of the validation part, order, smoothing) of the best smoothing of each order."""
    hit, total = seen.forward
    best = []
    for order in range(max_order + 1):
        short = seen.depth < order
        some, all_ = np.where(short, hit[0], hit[order]), np.where(short, total[0], total[order])
        best.append(min((_bits((some + a) / (all_ + 4 * a)), order, a) for a in _SMOOTHINGS.tolist()))
    return best


def fit_interpolated(seen: Seen) -> InterpolatedMarkov:
    """Return the interpolated Markov model of the strengths that give the validation part the fewest bits.

    The strengths of the orders 0 to 16 are searched one order at a time, in three passes.
    """
    orders = range(HIGHEST + 1)
    hit, total = seen.both
    strengths = np.full(len(orders), _STRENGTHS[-1], dtype=np.float32)
    for factors in (_STRENGTHS, _STRENGTHS, None):
        below = np.full(hit.shape[1], 0.25, dtype=np.float32)
        for order in orders:
            # where the context was never seen its strength does not matter
            there = np.flatnonzero(total[order])
            choices = strengths[order] * np.array([0.5, 1.0, 2.0]) if factors is None else factors
            part_hit, part_total, part_below = hit[order:, there], total[order:, there], below[there]
            costs = [
                _bits(_interpolate(part_hit, part_total, [choice, *strengths[order + 1 :]], part_below))
                for choice in choices.tolist()
            ]
            strengths[order] = choices[int(np.argmin(costs))] if len(there) else strengths[order]
            below = _interpolate(hit[order : order + 1], total[order : order + 1], strengths[order : order + 1], below)
    return InterpolatedMarkov(seen.codes, seen.train, strengths)


def _interpolate(
    hit: NDArray[np.float32],
    total: NDArray[np.float32],
    strengths: Sequence[float] | NDArray[np.float32],
    below: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the probabilities of the bases that are there, from those of the next shorter context upwards."""
    for some, all_, strength in zip(hit, total, strengths, strict=True):
        below = (some + np.float32(strength) * below) / (all_ + np.float32(strength))
    return below


def _bits(probabilities: NDArray[np.float32]) -> float:
    return -float(np.log2(probabilities).sum(dtype=np.float64))
