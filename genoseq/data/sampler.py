"""Which windows a step sees. Nothing is stored: starts are a function of (seed, step, rank)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genoseq.data import hashing
from genoseq.data.intervals import Intervals
from genoseq.data.split import Parts
from genoseq.data.tokenizer import Vocabulary
from genoseq.errors import UserError

Starts = NDArray[np.int64]


class WindowIndex:
    """Every window of `span` bases inside `intervals`, numbered 0 … len − 1 in the order of their starts.

    With a `stride` of more than one base, those at every so many bases from the start of their interval.
    """

    def __init__(self, intervals: Intervals, span: int, stride: int = 1) -> None:
        counts = (intervals[:, 1] - intervals[:, 0] - span) // stride + 1
        self._stride = stride
        self._lo = intervals[counts > 0, 0]
        self._edge = np.cumsum(counts[counts > 0])

    def __len__(self) -> int:
        return int(self._edge[-1]) if len(self._edge) else 0

    def start(self, index: Starts) -> Starts:
        """Return the first base of each window number in `index` (any shape)."""
        which = np.searchsorted(self._edge, index, side="right")
        before = np.concatenate([[0], self._edge])[which]
        return np.asarray(self._lo[which] + (index - before) * self._stride)


class WindowSampler:
    """Draws training windows without replacement, an epoch's worth at a time, without a stored order.

    The g-th window of a run (g = step × batch of all ranks + rank × batch + row) is window π(g mod n) of the n there
    are, with π a permutation keyed by (seed, g div n). Ranks therefore never share a window within a pass, and one
    process with a doubled batch sees just what two see.

    Parameters
    ----------
    parts : Parts
        Where training windows may lie.
    vocabulary : Vocabulary
    seq_len : int
        Inputs a window, in tokens.
    batch_size : int
        Windows a step on one rank.
    seed : int
    rank, world_size : int
    reverse_complement : bool
        Read each window on the other strand with probability one half.
    chain : int
        Consecutive windows that a row reads, one a step with the state carried, before it jumps elsewhere. What is
        drawn is then the whole stretch.
    """

    def __init__(
        self,
        parts: Parts,
        vocabulary: Vocabulary,
        seq_len: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        reverse_complement: bool = True,
        chain: int = 1,
    ) -> None:
        self.parts, self.batch_size, self.seed = parts, batch_size, seed
        self.rank, self.world_size, self.reverse_complement = rank, world_size, reverse_complement
        self.chain, self.hop = chain, seq_len * vocabulary.stride
        self.windows = WindowIndex(parts.train, vocabulary.span(seq_len * chain), parts.window_stride)

    def batch(self, step: int) -> tuple[Starts, NDArray[np.bool_]]:
        """Return the starts (bases, int64) and strands (True = reverse) of one step, both of shape (batch_size,)."""
        stretch, link = divmod(step, self.chain)
        g = (stretch * self.world_size + self.rank) * self.batch_size + np.arange(self.batch_size)
        starts = draw(self.parts, self.windows, "train", (self.seed, 3), g)
        flip = np.zeros(self.batch_size, dtype=bool)
        if self.reverse_complement:
            flip = hashing.uniform((self.seed, 4), g) < 0.5
        # a reversed row reads its stretch from the right-hand end
        return starts + self.hop * np.where(flip, self.chain - 1 - link, link), flip


def fitting_chain(parts: Parts, vocabulary: Vocabulary, seq_len: int, chain: int) -> int:
    """Return the longest chain of windows, at most `chain`, for which 95 % of the training bases can be drawn.

    Stretches of `chain` windows lie inside one interval, so that long ones would leave short contigs untrained. Windows
    that are split by a hash have no neighbours to go on to: 1.
    """
    if parts.splits_windows:
        return 1
    lengths = parts.train[:, 1] - parts.train[:, 0]
    while chain > 1 and lengths[lengths >= vocabulary.span(seq_len * chain)].sum() < 0.95 * lengths.sum():
        chain -= max(1, chain // 4)
    return chain


def draw(parts: Parts, windows: WindowIndex, stage: str, key: tuple[int, ...], g: Starts) -> Starts:
    """Return the g-th draws (starts in bases) among the windows of `stage`.

    Where windows themselves are split by a hash, a draw that falls to another stage is repeated under another key,
    so that draws there are with replacement.
    """
    n = len(windows)
    starts = np.empty(len(g), dtype=np.int64)
    epoch = g // n
    for e in np.unique(epoch):
        rows = epoch == e
        starts[rows] = windows.start(hashing.permute((*key, int(e)), g[rows] % n, n))
    attempt, patience = 0, 100 / parts.share(stage)  # by chance, one draw in 10^43 needs more
    while len(again := np.flatnonzero(~parts.accepts(stage, starts))):
        attempt += 1
        index = hashing.hash64((*key, -attempt), g[again]) % np.uint64(n)
        starts[again] = windows.start(index.astype(np.int64))
        if attempt > patience:
            raise UserError(
                f"none of the {n:,} windows falls to the {stage} part: raise its share in data.split, "
                "lower data.seq_len or give a longer sequence"
            )
    return starts


@dataclass(frozen=True, slots=True)
class Streams:
    """Stretches of tokens to be scored, each by one row of an evaluation batch.

    Attributes
    ----------
    start : ndarray
        First base of each stream, int64 (n,).
    warmup, scored : ndarray
        Predictions that only warm the state up, and predictions after them that count, int64 (n,).
    """

    start: Starts
    warmup: Starts
    scored: Starts

    def __len__(self) -> int:
        return len(self.start)


def carry_streams(intervals: Intervals, k: int, stride: int, rows: int, warmup: int, piece: int = 4096) -> Streams:
    """Cut `intervals` into about `rows` streams that together score every prediction in them once.

    A stream that begins inside an interval first reads the `warmup` predictions before it, so that its state is
    (nearly) the one that a single pass from the interval's start would bring.

    Parameters
    ----------
    intervals : Intervals
    k, stride : int
        Bases a token covers, and bases from token to token.
    rows : int
        Streams that are scored side by side.
    warmup : int
        Predictions, at most, before the first that counts.
    piece : int
        The fewest predictions worth a stream of their own.
    """
    predictions = np.maximum((intervals[:, 1] - intervals[:, 0] - k) // stride, 0)
    size = max(piece, -(-int(predictions.sum()) // max(rows, 1)))
    start, warm, scored = [], [], []
    for (a, _), total in zip(intervals, predictions, strict=True):
        pieces = -(-int(total) // size)
        edges = np.linspace(0, total, pieces + 1).astype(np.int64)  # equal pieces: rows end together
        before = np.minimum(edges[:-1], warmup)
        start.append(a + (edges[:-1] - before) * stride)
        warm.append(before)
        scored.append(np.diff(edges))
    return Streams(*(np.concatenate([np.zeros(0, np.int64), *part]) for part in (start, warm, scored)))


def window_streams(parts: Parts, stage: str, span: int, seq_len: int, limit: int, seed: int) -> Streams:
    """Return windows of `stage`, each a stream of its own from the zero state: all that tile it, or `limit` drawn.

    Where windows are split by a hash (``random_windows``), `limit` of them are drawn at random.
    """
    windows = WindowIndex(parts.of(stage), span, parts.window_stride)
    if parts.splits_windows:
        key = (seed, 5, ("train", "val", "test").index(stage))
        starts = draw(parts, windows, stage, key, np.arange(min(limit, len(windows))))
    else:
        starts = np.concatenate([np.arange(a, b - span + 1, span) for a, b in parts.of(stage)])
        if len(starts) > limit:
            starts = starts[np.linspace(0, len(starts) - 1, limit).astype(np.int64)]
    return Streams(starts, np.zeros(len(starts), np.int64), np.full(len(starts), seq_len, np.int64))
