"""Blocks of a genome's letters, and the numbers of their k-mers.

Whatever counts k-mers reads intervals block by block, and so needs the same few megabytes for every genome. Letters are
A=1 C=2 T=3 G=4 and 0 = unknown; a letter's *digit* is its id less one, so that the complement of a digit is
``digit ^ 2`` and a k-mer is a number in base 4, first base most significant.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from genoseq.data.intervals import Intervals

BLOCK = 1 << 18
"""Positions in a block, by default."""

LEAD, EDGE = -1, -2
"""Owners of letters that are not a block's own: repeated context, and the separator before a segment's first letter."""

_COMPLEMENT = np.array([0, 3, 4, 1, 2], dtype=np.uint8)

Codes = NDArray[np.uint8]
"""Letter ids of a genome, shape (n_bases,)."""

Unsigned = TypeVar("Unsigned", np.uint32, np.uint64)


class Block(NamedTuple):
    """Letters of one or more segments, each after a separator (letter 0) and up to `overlap` letters of context.

    Attributes
    ----------
    letters : ndarray of uint8, shape (n,)
        Ids 0-4, along the strand that is read.
    owner : ndarray of int32, shape (n,)
        Row of the interval that the letter belongs to; LEAD for repeated context, EDGE for a separator. So the letter
        after an EDGE is an interval's first.
    """

    letters: NDArray[np.uint8]
    owner: NDArray[np.int32]


def blocks(
    codes: Codes, intervals: Intervals, size: int = BLOCK, overlap: int = 16, reverse: bool = False
) -> Iterator[Block]:
    """Yield the letters of intervals in blocks; each letter of each interval is a block's own exactly once.

    Parameters
    ----------
    codes : ndarray of uint8, shape (n_bases,)
        Letter ids of the genome.
    intervals : ndarray of int64, shape (n, 2)
        Half-open, in bases.
    size : int
        Own letters in a block, at most.
    overlap : int
        Letters of the same interval repeated before a segment that does not open it; at least 1.
    reverse : bool
        Read each interval's reverse complement instead.
    """
    letters: list[NDArray[np.uint8]] = []
    owners: list[int] = []
    lengths: list[int] = []
    room = size

    def packed() -> Block:
        return Block(np.concatenate(letters), np.repeat(np.array(owners, dtype=np.int32), lengths))

    for row, (start, end) in enumerate(np.asarray(intervals, dtype=np.int64).reshape(-1, 2).tolist()):
        length, done = end - start, 0
        while done < length:
            own = min(room, length - done)
            lead = min(overlap, done)
            first, last = done - lead, done + own
            low, high = (end - last, end - first) if reverse else (start + first, start + last)
            segment = _COMPLEMENT[codes[low:high]][::-1] if reverse else codes[low:high]
            letters += [np.zeros(1, dtype=np.uint8), segment]
            owners += [EDGE, LEAD, row]
            lengths += [1, lead, own]
            done += own
            room -= own
            if room == 0:
                yield packed()
                letters, owners, lengths, room = [], [], [], size
    if letters:
        yield packed()


def known_runs(letters: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the number of known letters in a row up to and including each position; shape (n,), bases."""
    places = np.arange(1, len(letters) + 1, dtype=np.int32)
    last_unknown = np.where(letters == 0, places, np.int32(0))
    np.maximum.accumulate(last_unknown, out=last_unknown)
    return np.subtract(places, last_unknown, out=places)


def rolling(letters: NDArray[np.uint8], k: int, dtype: type[Unsigned]) -> NDArray[Unsigned]:
    """Return the number of the k-mer that starts at each position.

    Unknown letters count as an arbitrary digit: see `known_runs` for which k-mers are whole.

    Parameters
    ----------
    letters : ndarray of uint8, shape (n,)
        Ids 0-4.
    k : int
        At least 1; 2k bits must fit into `dtype`.
    dtype : numpy.uint32 or numpy.uint64
        Type of the result.

    Returns
    -------
    ndarray of dtype, shape (max(0, n - k + 1),)
    """
    return _joined(_digits(letters), k, dtype, first_high=True)


def rolling_canonical(letters: NDArray[np.uint8], k: int) -> NDArray[np.uint64]:
    """Return, as `rolling` does, the smaller number of each k-mer and its reverse complement; k at most 31."""
    digits = _digits(letters)
    forward = _joined(digits, k, np.uint64, first_high=True)
    backward = _joined(digits ^ np.uint8(2), k, np.uint64, first_high=False)
    return np.minimum(forward, backward, out=forward)


def _digits(letters: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return (letters - np.uint8(1)) & np.uint8(3)


def _joined(digits: NDArray[np.uint8], k: int, dtype: type[Unsigned], first_high: bool) -> NDArray[Unsigned]:
    """Join neighbours into groups of 1, 2, 4 ... digits and those into k: about log2(k) passes instead of k."""
    count = max(0, len(digits) - k + 1)
    power = digits.astype(dtype)
    width, done = 1, 0
    result: NDArray[Unsigned] | None = None
    while True:
        if k & width:
            part = power[done : done + count]
            if result is None:
                result = part.copy()
            elif first_high:
                result = (result << dtype(2 * width)) | part
            else:
                result |= part << dtype(2 * done)
            done += width
        if 2 * width > k:
            break
        left, right = power[:-width], power[width:]
        power = (left << dtype(2 * width)) | right if first_high else left | (right << dtype(2 * width))
        width *= 2
    assert result is not None
    return result


def spread(intervals: Intervals, most: int, piece: int = 4096) -> tuple[Intervals, NDArray[np.int64]]:
    """Return evenly spread pieces of intervals, `most` bases in all; the intervals themselves if they hold no more.

    Parameters
    ----------
    intervals : ndarray of int64, shape (n, 2)
        Half-open, in bases.
    most : int
        Bases wanted.
    piece : int
        Length of a piece in bases, before it is cut at an interval's edge.

    Returns
    -------
    pieces : ndarray of int64, shape (m, 2)
    row : ndarray of int64, shape (m,)
        Row of `intervals` that each piece lies in.
    """
    intervals = np.asarray(intervals, dtype=np.int64).reshape(-1, 2)
    lengths = intervals[:, 1] - intervals[:, 0]
    total = int(lengths.sum())
    if total <= most:
        return intervals, np.arange(len(intervals))
    # lay the intervals end to end, cut pieces out of that line, and cut those again where two intervals meet
    ends = np.cumsum(lengths)
    begins = ends - lengths
    piece = max(1, min(piece, most))
    number = most // piece
    starts = np.arange(number) * total // number
    first = np.searchsorted(ends, starts, side="right")
    last = np.searchsorted(ends, starts + piece, side="left")
    pieces: list[tuple[int, int]] = []
    rows: list[int] = []
    for start, low, high in zip(starts.tolist(), first.tolist(), last.tolist(), strict=True):
        for row in range(low, high + 1):
            left = max(start, int(begins[row]))
            right = min(start + piece, int(ends[row]))
            if left < right:
                shift = int(intervals[row, 0] - begins[row])
                pieces.append((left + shift, right + shift))
                rows.append(row)
    return np.array(pieces, dtype=np.int64).reshape(-1, 2), np.array(rows, dtype=np.int64)
