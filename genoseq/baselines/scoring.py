"""Count models and their scores, in memory that hardly grows with the genome."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genoseq.baselines.counts import CHUNK, Chunk, Codes, Counts
from genoseq.data.intervals import Intervals, bases, spread

log = logging.getLogger(__name__)

MOST = 20_000_000
"""Bases scored, at most: of more, evenly spread pieces."""

Weight = Callable[[int, int], NDArray[np.int64]]
"""From the start and end of a range of bases to how often each of them counts."""


@dataclass(frozen=True)
class Score:
    """Score of predicted bases; scores add up."""

    bases: int = 0
    correct: int = 0  # had the highest probability of the four (the first in the order A, C, T, G where several have)
    bits: float = 0.0  # code length: the sum of -log2 of the bases' probabilities

    @property
    def accuracy(self) -> float:
        """Share of the bases predicted correctly, 0-1; nan where no base was scored."""
        return self.correct / self.bases if self.bases else float("nan")

    @property
    def bits_per_base(self) -> float:
        """Bits a base; nan where no base was scored."""
        return self.bits / self.bases if self.bases else float("nan")

    @property
    def metrics(self) -> dict[str, float]:
        """Accuracy and bits_per_base by their names."""
        return {"accuracy": self.accuracy, "bits_per_base": self.bits_per_base}

    def __add__(self, other: "Score") -> "Score":
        return Score(self.bases + other.bases, self.correct + other.correct, self.bits + other.bits)


@dataclass(frozen=True)
class CountModel(ABC):
    """Base class of the count models: the part they learnt from, and what they predict."""

    codes: Codes  # of the training genome; kept by reference
    train: Intervals

    @property
    @abstractmethod
    def orders(self) -> Sequence[int]:
        """Lengths of the contexts that it predicts from, in bases."""

    @abstractmethod
    def probabilities(self, asked: Chunk, orders: Sequence[int]) -> NDArray[np.float32]:
        """Return the probabilities of the letters A, C, T, G at each base, (n, 4), from counts of some `orders`."""

    def log_probs(self, codes: Codes, intervals: Intervals) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield positions of the known bases of intervals, (n,), and ln p of A, C, T, G there, (n, 4)."""
        counts = count([self])
        for asked in counts.along(codes, intervals, CHUNK):
            yield asked.at, np.log(self.probabilities(asked, counts.orders))


def count(models: Sequence[CountModel]) -> Counts:
    """Return the counts that models of the same training part predict from."""
    orders = set().union(*(model.orders for model in models))
    return Counts(models[0].codes, models[0].train, sorted(orders), both_strands=True)


def score_each(
    models: Sequence[CountModel], codes: Codes, intervals: Intervals, weight: Weight | None = None
) -> list[list[Score]]:
    """Score models of the same training part, which is counted once, on the bases of each interval.

    Unknown letters and each interval's first base are left out.

    Parameters
    ----------
    codes : ndarray of uint8, shape (n_bases,)
        Letter ids of any genome, A=1 C=2 T=3 G=4, 0 = unknown.
    intervals : ndarray of int64, shape (n, 2)
        A context never leaves its interval.
    weight : callable, optional
        How often each base counts; once if left out.

    Returns
    -------
    list of list of Score
        Of each model, its score on each interval.
    """
    pieces, row = spread(intervals, MOST)
    if bases(pieces) < bases(intervals):
        log.warning("The count models are scored on %d evenly spread bases of %d.", bases(pieces), bases(intervals))
    weights = None if weight is None else _weights(codes, pieces, weight)
    sums = np.zeros((len(models), 3, len(intervals)))
    counts, done = count(models), 0
    for asked in counts.along(codes, pieces, CHUNK, skip_first=True):
        n = len(asked.digit)
        times = np.ones(n) if weights is None else weights[done : done + n]
        done += n
        for model, own in zip(models, sums, strict=True):
            probabilities = model.probabilities(asked, counts.orders)
            chosen = np.take_along_axis(probabilities, asked.digit[:, None].astype(np.intp), axis=1)[:, 0]
            correct = probabilities.argmax(axis=1) == asked.digit
            for i, value in enumerate((times, times * correct, times * -np.log2(chosen, dtype=np.float64))):
                own[i] += np.bincount(row[asked.owner], value, len(intervals))
    return [[Score(int(n), int(correct), bits) for n, correct, bits in own.T.tolist()] for own in sums]


def _weights(codes: Codes, pieces: Intervals, weight: Weight) -> NDArray[np.uint32]:
    """Return how often each base that `score_each` scores counts."""
    # a piece's first base is not scored
    ranges = [(a, min(a + CHUNK, end)) for start, end in pieces.tolist() for a in range(start + 1, end, CHUNK)]
    each = [weight(a, b)[codes[a:b] != 0].astype(np.uint32) for a, b in ranges]
    return np.concatenate(each) if each else np.zeros(0, np.uint32)
