"""Windows: which start positions each step reads, and the tokens at them.

Nothing is stored: a training batch is a function of (seed, step, rank), an evaluation batch a chunk of streams. Both
travel as start positions and are gathered on the model's device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from genoseq.data import hashing
from genoseq.data.blocks import Blocks
from genoseq.data.hashing import Stream
from genoseq.data.intervals import Intervals
from genoseq.data.split import STAGES, Parts
from genoseq.data.tokenizer import Vocabulary
from genoseq.errors import UserError

Starts = NDArray[np.int64]


@dataclass(slots=True)
class Batch:
    """One step's windows, or one chunk of evaluation streams."""

    starts: Tensor  # first base of each row, int64 (B,)
    length: int  # predictions a row, L
    flip: Tensor | None = None  # rows to be read on the reverse strand, bool (B,); None = all forward
    step: int = 0  # of training (seeds dropout); 0 in evaluation
    scored: Tensor | None = None  # predictions that count, bool (B, L); None = all
    block: Tensor | None = None  # block of the genome that each predicted token begins in, int64 (B, L)
    continues: bool = False  # whether the rows continue those of the batch before, so that the state is carried over
    tokens: Tensor | None = None  # int64 (B, L + 1), filled on the model's device

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Move every tensor to `device`; Lightning calls this."""
        for name in ("starts", "flip", "scored", "block", "tokens"):
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, value.to(device, non_blocking=non_blocking))
        return self

    def __len__(self) -> int:
        return len(self.starts)


class Gather:
    """Token lookup on one device: ``Tokenizer.encode`` of the genome, and the table to the other strand."""

    def __init__(self, tokens: Tensor, reverse_complement: Tensor, stride: int) -> None:
        self.tokens, self.reverse_complement, self.stride = tokens, reverse_complement.to(tokens.dtype), stride

    def to(self, device: torch.device) -> Gather:
        """Return the same lookup on `device` (a byte or two a base moves there once)."""
        return Gather(self.tokens.to(device), self.reverse_complement.to(device), self.stride)

    def __call__(self, batch: Batch) -> Tensor:
        """Return the batch's tokens, int64 (B, length + 1)."""
        if batch.block is not None:
            # a stream that ended before its neighbours is read further, even past the genome's end; unscored
            offset = torch.arange(batch.length + 1, device=self.tokens.device) * self.stride
            return self.tokens[(batch.starts[:, None] + offset).clamp_(max=len(self.tokens) - 1)].long()
        # a view with a row a start, of which whole rows are copied: faster than by an index of every token
        rows = len(self.tokens) - batch.length * self.stride
        tokens = self.tokens.as_strided((rows, batch.length + 1), (1, self.stride))[batch.starts]
        if batch.flip is not None:
            # the other strand visits the same positions from the right-hand end
            turned = self.reverse_complement.index_select(0, tokens.flip(1).flatten().int()).view_as(tokens)
            tokens = torch.where(batch.flip[:, None], turned, tokens)
        return tokens.long()


class WindowIndex:
    """Numbers the windows of `span` bases that start every `stride` bases of each interval, 0 … len − 1, in order."""

    def __init__(self, intervals: Intervals, span: int, stride: int = 1) -> None:
        counts = (intervals[:, 1] - intervals[:, 0] - span) // stride + 1
        self._stride = stride
        self._first = intervals[counts > 0, 0]
        self._edges = np.cumsum(np.append(0, counts[counts > 0]))

    def __len__(self) -> int:
        return int(self._edges[-1])

    def start(self, index: Starts) -> Starts:
        """Return the first base of each window number in `index` (any shape)."""
        which = np.searchsorted(self._edges, index, side="right") - 1
        return np.asarray(self._first[which] + (index - self._edges[which]) * self._stride)


class TrainingWindows(Dataset[Batch]):
    """Maps a step number to its training windows, drawn without replacement and without a stored order.

    The g-th window of a run (g = step × batch of all ranks + rank × batch + row) is window π(g mod n) of the n there
    are, with π a permutation keyed by (seed, g div n). So ranks never share a window within a pass, and one process
    with a doubled batch reads what two would.

    Parameters
    ----------
    seq_len : int
        Inputs a window, in tokens.
    batch_size : int
        Windows a step on one rank.
    reverse_complement : bool
        Read each window on the other strand with probability one half.
    windows_per_segment : int
        Consecutive windows that a row reads, one a step with the state carried (truncated BPTT), before it moves on.
        With more than one, segments of so many windows are drawn instead of windows.
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
        windows_per_segment: int = 1,
    ) -> None:
        self.parts, self.seq_len, self.batch_size, self.seed = parts, seq_len, batch_size, seed
        self.rank, self.world_size, self.reverse_complement = rank, world_size, reverse_complement
        self.windows_per_segment, self.stride = windows_per_segment, vocabulary.stride
        self.segments = WindowIndex(parts.train, vocabulary.span(seq_len * windows_per_segment), parts.window_stride)

        self._together = max(1, 4096 // batch_size)  # segments: numpy takes hardly longer for many than for one
        self._drawn: tuple[int, Starts, NDArray[np.bool_]] | None = None

    def __getitem__(self, step: int) -> Batch:
        segment, window = divmod(step, self.windows_per_segment)
        block, row = divmod(segment, self._together)
        if self._drawn is None or self._drawn[0] != block:
            self._drawn = block, *self._draw(block)
        starts, flip = (drawn[row] for drawn in self._drawn[1:])
        # a reversed row reads its segment from the right-hand end
        skipped = np.where(flip, self.windows_per_segment - 1 - window, window) * self.seq_len * self.stride
        return Batch(
            torch.from_numpy(starts + skipped),
            self.seq_len,
            flip=torch.from_numpy(flip) if self.reverse_complement else None,
            step=step,
            continues=window > 0,
        )

    def _draw(self, block: int) -> tuple[Starts, NDArray[np.bool_]]:
        """Return where the rows of some segments start, and whether each is read on the other strand."""
        segment = block * self._together + np.arange(self._together)[:, None]
        g = (segment * self.world_size + self.rank) * self.batch_size + np.arange(self.batch_size)
        flip = np.zeros(g.shape, dtype=bool)
        if self.reverse_complement:
            flip = hashing.uniform((self.seed, Stream.STRAND), g) < 0.5
        starts = _draw(self.parts, self.segments, "train", (self.seed, Stream.TRAINING_WINDOWS), g.flatten())
        return starts.reshape(g.shape), flip


def fit_windows_per_segment(parts: Parts, vocabulary: Vocabulary, seq_len: int, wanted: int) -> int:
    """Return the most windows a segment, up to `wanted`, for which 95 % of the training bases can be drawn.

    A segment lies inside one interval, so longer ones would leave short contigs untrained. Where windows are split,
    the neighbours of a training window may belong to another part: 1.
    """
    if parts.splits_windows:
        return 1
    lengths = parts.train[:, 1] - parts.train[:, 0]
    while wanted > 1 and lengths[lengths >= vocabulary.span(seq_len * wanted)].sum() < 0.95 * lengths.sum():
        wanted -= max(1, wanted // 4)
    return wanted


def _draw(parts: Parts, windows: WindowIndex, stage: str, key: tuple[int, ...], g: Starts) -> Starts:
    """Return the g-th draws (starts in bases) among the windows of `stage`.

    Where windows are split, a draw that belongs to another stage is repeated under another key, with replacement.
    """
    n = len(windows)
    starts = np.empty(len(g), dtype=np.int64)
    epoch = g // n
    for e in np.unique(epoch):
        rows = epoch == e
        starts[rows] = windows.start(hashing.permute((*key, int(e)), g[rows] % n, n))
    attempt, most = 0, 100 / parts.share(stage)  # by chance, one draw in 10^43 needs more
    while len(again := np.flatnonzero(~parts.accepts(stage, starts))):
        attempt += 1
        index = hashing.hash64((*key, -attempt), g[again]) % np.uint64(n)
        starts[again] = windows.start(index.astype(np.int64))
        if attempt > most:
            raise UserError(
                f"none of the {n:,} windows falls to the {stage} part: raise its share in data.split, "
                "lower data.seq_len or give a longer sequence"
            )
    return starts


class StepSampler(Sampler[int]):
    """Counts steps from `first` to `total` − 1; its length is `total`, as Lightning counts a resumed epoch."""

    def __init__(self, first: int, total: int) -> None:
        self.first, self.total = first, total

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.total))

    def __len__(self) -> int:
        return self.total


@dataclass(frozen=True, slots=True)
class Streams:
    """Runs of consecutive tokens to be scored, each by one row of the evaluation batches; all int64 (n,)."""

    start: Starts  # first base
    warmup: Starts  # predictions that only warm the state up
    scored: Starts  # predictions after them that count


def interval_streams(
    intervals: Intervals, within: Intervals, k: int, stride: int, rows: int, warmup: int, piece: int = 4096
) -> Streams:
    """Cut `intervals` into about `rows` streams that together score every prediction in them once.

    A stream that begins inside one of the intervals `within` which they lie first reads the `warmup` predictions before
    it, so that its state is (nearly) that of a single pass from the start of that.

    Fewer than `piece` predictions get no stream of their own. `k` and `stride` are those of the vocabulary.
    """
    first = within[np.searchsorted(within[:, 0], intervals[:, 0], side="right") - 1, 0]
    room = (intervals[:, 0] - first) // stride
    predictions = np.maximum((intervals[:, 1] - intervals[:, 0] - k) // stride, 0)
    size = max(piece, -(-int(predictions.sum()) // max(rows, 1)))
    start, warm, scored = [], [], []
    for (a, _), total, ahead in zip(intervals, predictions, room, strict=True):
        pieces = -(-int(total) // size)
        edges = np.linspace(0, total, pieces + 1).astype(np.int64)  # equal pieces: rows end together
        before = np.minimum(edges[:-1] + ahead, warmup)
        start.append(a + (edges[:-1] - before) * stride)
        warm.append(before)
        scored.append(np.diff(edges))
    return Streams(*(np.concatenate([np.zeros(0, np.int64), *part]) for part in (start, warm, scored)))


def window_streams(parts: Parts, stage: str, span: int, seq_len: int, limit: int, seed: int) -> Streams:
    """Return windows of `stage`, each a stream from the zero state: those that tile it, or `limit` of them.

    Where windows are split (``random_windows``), up to `limit` of the stage's windows are drawn at random.
    """
    if parts.splits_windows:
        windows = WindowIndex(parts.of(stage), span, parts.window_stride)
        starts = _draw(
            parts,
            windows,
            stage,
            (seed, Stream.EVALUATION_WINDOWS, STAGES.index(stage)),
            np.arange(min(limit, len(windows))),
        )
    else:
        starts = np.concatenate([np.arange(a, b - span + 1, span) for a, b in parts.of(stage)])
        if len(starts) > limit:
            starts = starts[np.linspace(0, len(starts) - 1, limit).astype(np.int64)]
    return Streams(starts, np.zeros(len(starts), np.int64), np.full(len(starts), seq_len, np.int64))


class StreamChunks(Dataset[Batch]):
    """Evaluation batches: `rows` streams side by side, in chunks of `chunk` predictions with the state carried.

    Streams are sorted by length so that rows end together; the i-th batch of rows goes to rank i mod world_size. Every
    rank gets at least one chunk: Lightning leaves a rank without any out of the epoch's end, where the others wait.
    """

    def __init__(
        self, streams: Streams, blocks: Blocks, rows: int, chunk: int, stride: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.streams, self.blocks, self.stride = streams, blocks, stride
        lengths = streams.warmup + streams.scored
        order = np.argsort(-lengths, kind="stable")
        self._plan: list[tuple[Starts, int, int]] = []
        # few streams: fewer side by side, so that each rank has some
        rows = min(rows, max(1, -(-len(order) // world_size)))
        for number, at in enumerate(range(0, len(order), rows)):
            if number % world_size == rank:
                row = order[at : at + rows]
                length = int(lengths[row].max())
                self._plan += [(row, lo, min(lo + chunk, length)) for lo in range(0, length, chunk)]
        if not self._plan and len(order):  # fewer streams than ranks: one position after a stream's end, never scored
            end = int(lengths[order[0]])
            self._plan = [(order[:1], end, end + 1)]

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: int) -> Batch:
        row, lo, hi = self._plan[index]
        s = self.streams
        position = np.arange(lo, hi)[None]
        begin, end = s.warmup[row][:, None], (s.warmup + s.scored)[row][:, None]
        scored = (position >= begin) & (position < end)
        return Batch(
            torch.from_numpy(s.start[row] + lo * self.stride),
            hi - lo,
            scored=None if scored.all() else torch.from_numpy(scored),
            block=torch.from_numpy(self.blocks.index(s.start[row][:, None] + (position + 1) * self.stride)),
            continues=lo > 0,
        )
