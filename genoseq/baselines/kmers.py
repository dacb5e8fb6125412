"""Blocks of a genome's letters, and the numbers of their k-mers.

Whatever counts k-mers reads intervals block by block, and so needs the same few megabytes for every genome. Letters are
A=1 C=2 T=3 G=4 and 0 = unknown; a letter's *digit* is its id less one, and a k-mer is a number in base 4, first base
most significant.
"""

from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from genoseq.data.intervals import Intervals, bases, intersect

BLOCK = 1 << 18
"""Bases counted at a time."""
CHUNK = 1 << 17
"""Bases looked up in one pass over the training part, at least."""
PASSES = 32
"""Such passes, at most: beyond CHUNK * PASSES bases the chunks grow instead."""

LEAD, EDGE = -1, -2
"""Owners of letters that are not a block's own: repeated context, and the separator before a segment's first letter."""

_COMPLEMENT = np.array([0, 3, 4, 1, 2], dtype=np.uint8)

Codes = NDArray[np.uint8]
"""Letter ids of a genome, shape (n_bases,)."""

Unsigned = TypeVar("Unsigned", np.uint32, np.uint64)


def chunk_size(intervals: Intervals) -> int:
    """Return how many bases of intervals to look up in one pass over the training part."""
    return max(CHUNK, -(-bases(intervals) // PASSES))


def blocks(
    codes: Codes, intervals: Intervals, size: int, overlap: int, reverse: bool = False
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int32]]]:
    """Yield the letters of intervals in blocks; each letter of each interval is a block's own exactly once.

    A block holds one or more segments, each after a separator (letter 0) and letters of the same interval as context.

    Parameters
    ----------
    size : int
        Own letters in a block, at most.
    overlap : int
        Letters of context before a segment that does not open its interval; at least 1.
    reverse : bool
        Read each interval's reverse complement instead.

    Yields
    ------
    letters : ndarray of uint8, shape (n,)
        Ids 0-4, along the strand that is read.
    owner : ndarray of int32, shape (n,)
        Row of the letter's interval; LEAD for context, EDGE for a separator: the own letter after it is an interval's
        first.
    """
    letters: list[NDArray[np.uint8]] = []
    owners: list[int] = []
    lengths: list[int] = []
    room = size
    for row, (start, end) in enumerate(intervals.tolist()):
        length, done = end - start, 0
        while done < length:
            own, lead = min(room, length - done), min(overlap, done)
            first, last = done - lead, done + own
            low, high = (end - last, end - first) if reverse else (start + first, start + last)
            segment = _COMPLEMENT[codes[low:high]][::-1] if reverse else codes[low:high]
            letters += [np.zeros(1, dtype=np.uint8), segment]
            owners += [EDGE, LEAD, row]
            lengths += [1, lead, own]
            done += own
            room -= own
            if room == 0:
                yield np.concatenate(letters), np.repeat(np.array(owners, dtype=np.int32), lengths)
                letters, owners, lengths, room = [], [], [], size
    if letters:
        yield np.concatenate(letters), np.repeat(np.array(owners, dtype=np.int32), lengths)


def known_runs(letters: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the number of known letters in a row up to and including each position."""
    places = np.arange(1, len(letters) + 1, dtype=np.int32)
    last_unknown = np.where(letters == 0, places, np.int32(0))
    return places - np.maximum.accumulate(last_unknown)


def rolling(letters: NDArray[np.uint8], k: int, dtype: type[Unsigned]) -> NDArray[Unsigned]:
    """Return the number of the k-mer that starts at each position, (max(0, n - k + 1),); 2k bits must fit into `dtype`.

    Unknown letters count as an arbitrary digit: see `known_runs` for which k-mers are whole.
    """
    if k == 1:
        return ((letters - np.uint8(1)) & np.uint8(3)).astype(dtype)
    # of two halves, and a last base where k is odd: log2(k) passes
    half = rolling(letters, k // 2, dtype)
    joined = (half[: -(k // 2)] << dtype(2 * (k // 2))) | half[k // 2 :]
    return (joined[:-1] << dtype(2)) | rolling(letters[k - 1 :], 1, dtype) if k % 2 else joined


def rolling_canonical(letters: NDArray[np.uint8], k: int) -> NDArray[np.uint64]:
    """Return, as `rolling` does, the smaller number of each k-mer and its reverse complement; k at most 32."""
    backward = rolling(_COMPLEMENT[letters][::-1], k, np.uint64)[::-1]
    return np.minimum(rolling(letters, k, np.uint64), backward)


def spread(intervals: Intervals, most: int, piece: int = 4096) -> tuple[Intervals, NDArray[np.int64]]:
    """Return evenly spread pieces of intervals, `most` bases in all; the intervals themselves if they hold no more.

    Parameters
    ----------
    piece : int
        Length of a piece in bases, before it is cut at an interval's edge.

    Returns
    -------
    pieces : ndarray of int64, shape (m, 2)
    row : ndarray of int64, shape (m,)
        Row of `intervals` that each piece lies in.
    """
    total = bases(intervals)
    if total <= most:
        return intervals, np.arange(len(intervals))
    # lay the intervals end to end, cut pieces out of that line, and cut those again where two intervals meet
    ends = np.cumsum(np.diff(intervals))
    begins = ends - np.diff(intervals)[:, 0]
    piece = max(1, min(piece, most))
    number = most // piece
    starts = np.arange(number) * total // number
    pieces = intersect(np.stack([starts, starts + piece], axis=1), np.stack([begins, ends], axis=1))
    row = np.searchsorted(ends, pieces[:, 0], side="right")
    return pieces + (intervals[row, :1] - begins[row, None]), row
