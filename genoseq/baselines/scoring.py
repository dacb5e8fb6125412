"""Count models and their scores, in memory that hardly grows with the genome."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice, repeat

import numpy as np
from numpy.typing import NDArray

from genoseq.baselines.counts import Counts, Positions, positions
from genoseq.baselines.kmers import Codes, spread
from genoseq.data.intervals import Intervals

log = logging.getLogger(__name__)

CHUNK = 1 << 17
"""Bases predicted in one pass over the training part, at least."""
PASSES = 32
"""Such passes, at most: beyond CHUNK * PASSES bases the chunks grow instead."""
MOST = 20_000_000
"""Bases scored, at most, unless told otherwise."""

Weight = Callable[[int, int], NDArray[np.int64]]
"""From the start and end of a range of bases to how often each of them counts."""


@dataclass(frozen=True)
class Score:
    """Score of predicted bases; scores add up.

    Attributes
    ----------
    bases : int
        Bases scored.
    correct : int
        Bases that had the highest probability of the four (the first in the order A, C, T, G where several have).
    bits : float
        Code length of the bases: the sum of -log2 of their probabilities.
    """

    bases: int = 0
    correct: int = 0
    bits: float = 0.0

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


class CountModel:
    """Base class of the count models: the part they learnt from, and scoring.

    Parameters
    ----------
    codes : ndarray of uint8, shape (n_bases,)
        Letter ids of the training genome; kept by reference.
    train : ndarray of int64, shape (n, 2)
        Half-open, in bases.
    block : int
        Bases counted at a time.
    """

    def __init__(self, codes: Codes, train: Intervals, block: int) -> None:
        self._codes, self._train, self._block = codes, train, block

    def _counts(self) -> Counts:
        raise NotImplementedError

    def _probabilities(self, counts: Counts, asked: Positions) -> NDArray[np.float32]:
        raise NotImplementedError

    def predict(
        self, codes: Codes, intervals: Intervals, chunk: int | None = None
    ) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int32]]]:
        """Predict the bases of intervals, some at a time; unknown letters and each interval's first base are left out.

        Parameters
        ----------
        codes : ndarray of uint8, shape (n_bases,)
            Letter ids of any genome, A=1 C=2 T=3 G=4, 0 = unknown.
        intervals : ndarray of int64, shape (n, 2)
            Half-open, in bases. A context never leaves its interval.
        chunk : int, optional
            Bases at a time.

        Yields
        ------
        probabilities : ndarray of float32, shape (n, 4)
            Of the letters A, C, T, G.
        digit : ndarray of uint8, shape (n,)
            The base that is there, 0-3.
        owner : ndarray of int32, shape (n,)
            Row of its interval.
        """
        intervals = np.asarray(intervals, dtype=np.int64).reshape(-1, 2)
        if chunk is None:
            chunk = max(CHUNK, -int(np.diff(intervals).sum()) // -PASSES)
        counts = self._counts()
        for asked in positions(codes, intervals, chunk, skip_first=True):
            yield self._probabilities(counts, asked), asked.digit, asked.owner

    def score_each(
        self,
        codes: Codes,
        intervals: Intervals,
        max_bases: int = MOST,
        chunk: int | None = None,
        weight: Weight | None = None,
    ) -> list[Score]:
        """Score each interval by itself; see `predict` for what is scored.

        Parameters
        ----------
        codes, intervals, chunk
            As in `predict`.
        max_bases : int
            Where the intervals hold more bases, evenly spread pieces of this many bases in all are scored.
        weight : callable, optional
            How often each base counts; once if left out.

        Returns
        -------
        list of Score
            One an interval.
        """
        intervals = np.asarray(intervals, dtype=np.int64).reshape(-1, 2)
        pieces, row = spread(intervals, max_bases)
        total, taken = int(np.diff(intervals).sum()), int(np.diff(pieces).sum())
        if taken < total:
            log.warning("The count models are scored on %d evenly spread bases of %d.", taken, total)
        bases, correct, bits = np.zeros((3, len(intervals)))
        weights = _weights(codes, pieces, weight) if weight else repeat(1)
        for probabilities, digit, owner in self.predict(codes, pieces, chunk):
            interval = row[owner]
            each = np.fromiter(islice(weights, len(digit)), np.int64, len(digit))
            chosen = np.take_along_axis(probabilities, digit[:, None].astype(np.intp), axis=1)[:, 0]
            length = -np.log2(chosen, dtype=np.float64)
            bases += np.bincount(interval, each, len(intervals))
            correct += np.bincount(interval, each * (probabilities.argmax(axis=1) == digit), len(intervals))
            bits += np.bincount(interval, each * length, len(intervals))
        return [Score(int(b), int(c), float(x)) for b, c, x in zip(bases, correct, bits, strict=True)]

    def score(
        self,
        codes: Codes,
        intervals: Intervals,
        max_bases: int = MOST,
        chunk: int | None = None,
        weight: Weight | None = None,
    ) -> Score:
        """Score all intervals together: the sum of `score_each`."""
        return sum(self.score_each(codes, intervals, max_bases, chunk, weight), Score())


def _weights(codes: Codes, pieces: Intervals, weight: Weight) -> Iterator[int]:
    """Yield how often each base that `CountModel.predict` predicts counts, in its order."""
    # a piece's first base is not predicted
    ranges = ((a, min(a + CHUNK, end)) for start, end in pieces.tolist() for a in range(start + 1, end, CHUNK))
    return chain.from_iterable(weight(a, b)[codes[a:b] != 0].tolist() for a, b in ranges)
