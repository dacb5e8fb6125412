"""Counts of the letters that follow each context, in memory that does not grow with the genome.

Contexts of up to `DIRECT` bases have a table. Of longer ones, whose table would have 4^16 rows, only those that are
asked for are counted: the counted genome is read once for each chunk of them.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from genoseq.baselines.kmers import BLOCK, EDGE, Codes, blocks, known_runs, rolling
from genoseq.data.intervals import Intervals

DIRECT = 10
"""Longest context with a direct table: 4^11 counts of 4 bytes, 16 MiB."""
LONGEST = 16
"""Longest context of all, in bases: 32 bits hold 16."""
_SIEVE = DIRECT + 1


class Positions(NamedTuple):
    """Bases to count or to predict, all of known letters.

    Attributes
    ----------
    context : ndarray of uint32, shape (n,)
        The 16 digits before each base, nearest base least significant; only the last `depth` digits mean anything.
    depth : ndarray of uint8, shape (n,)
        Known bases directly before it in its interval, at most 16.
    digit : ndarray of uint8, shape (n,)
        The base itself, 0-3.
    owner : ndarray of int32, shape (n,)
        Row of its interval.
    """

    context: NDArray[np.uint32]
    depth: NDArray[np.uint8]
    digit: NDArray[np.uint8]
    owner: NDArray[np.int32]


def positions(
    codes: Codes, intervals: Intervals, size: int = BLOCK, reverse: bool = False, skip_first: bool = False
) -> Iterator[Positions]:
    """Yield the known bases of intervals with their contexts, up to `size` at a time.

    Parameters
    ----------
    codes : ndarray of uint8, shape (n_bases,)
        Letter ids of the genome, 0-4.
    intervals : ndarray of int64, shape (n, 2)
        Half-open, in bases. A context never leaves its interval.
    size : int
        Bases at a time.
    reverse : bool
        Read the reverse complement of each interval.
    skip_first : bool
        Leave out each interval's first base, which a neural network has no input to predict from.
    """
    for letters, owner in blocks(codes, intervals, size, overlap=LONGEST, reverse=reverse):
        wanted = (owner >= 0) & (letters != 0)
        if skip_first:
            wanted[1:] &= owner[:-1] != EDGE
        padded = np.concatenate([np.zeros(LONGEST, dtype=np.uint8), letters[:-1]])
        context = rolling(padded, LONGEST, np.uint32)
        depth = np.minimum(known_runs(padded)[LONGEST - 1 :], LONGEST).astype(np.uint8)
        if wanted.all():
            yield Positions(context, depth, letters - np.uint8(1), owner)
        else:
            keep = np.flatnonzero(wanted)
            yield Positions(context[keep], depth[keep], letters[keep] - np.uint8(1), owner[keep])


class Counts:
    """Counts of the four letters after contexts, over the intervals of one genome.

    Parameters
    ----------
    codes : ndarray of uint8, shape (n_bases,)
        Letter ids of the genome; kept by reference.
    intervals : ndarray of int64, shape (n, 2)
        What to count; half-open, in bases.
    orders : sequence of int
        Context lengths, in bases, each at most 16.
    both_strands : bool
        Count the reverse complement too.
    size : int
        Bases in a block.
    """

    def __init__(
        self, codes: Codes, intervals: Intervals, orders: Sequence[int], both_strands: bool, size: int = BLOCK
    ) -> None:
        self.orders = tuple(sorted(orders))
        self._source = codes, intervals
        self._strands = (False, True) if both_strands else (False,)
        self._size = size
        self._tables = self._direct()

    def after(self, context: NDArray[np.uint32], depth: NDArray[np.uint8]) -> Iterator[NDArray[np.uint32]]:
        """Yield the counts of the letters after contexts, (n, 4) for each order; 0 where a context is shorter.

        Parameters
        ----------
        context, depth : ndarray, shape (n,)
            As in `Positions`.
        """
        for order in self.orders:
            if order <= DIRECT:
                counts = self._tables[order][context & np.uint32(4**order - 1)]
                counts[depth < order] = 0
                yield counts
        long = [order for order in self.orders if order > DIRECT]
        if long:
            yield from self._streamed(context, depth, long)

    def _stream(self) -> Iterator[Positions]:
        for reverse in self._strands:
            yield from positions(*self._source, self._size, reverse)

    def _direct(self) -> dict[int, NDArray[np.uint32]]:
        """Return the tables of the direct orders, from one pass: each sums the rows of the next order's."""
        top = max((order for order in self.orders if order <= DIRECT), default=-1)
        if top < 0:
            return {}
        flat = {order: np.zeros(4 ** (order + 1), dtype=np.uint32) for order in range(top + 1)}
        for context, depth, digit, _ in self._stream():
            cell = (context << np.uint32(2)) | digit
            shallow = np.flatnonzero(depth < top)
            # a base near an edge is counted at its own depth, and reaches the lower orders from there
            for order in np.unique(depth[shallow]).tolist():
                at = shallow[depth[shallow] == order]
                _tally(flat[order], cell[at] & np.uint32(4 ** (order + 1) - 1))
            cell = np.delete(cell, shallow)
            _tally(flat[top], cell & np.uint32(4 ** (top + 1) - 1))
        for order in range(top, 0, -1):
            flat[order - 1] += flat[order].reshape(4, -1).sum(axis=0, dtype=np.uint32)
        return {order: flat[order].reshape(-1, 4) for order in self.orders if order <= top}

    def _streamed(
        self, context: NDArray[np.uint32], depth: NDArray[np.uint8], orders: list[int]
    ) -> Iterator[NDArray[np.uint32]]:
        asked = [_Asked(context, depth, order) for order in orders]
        # every long context ends in one of these: 4 million flags rule out most counted bases at once
        sieve = np.zeros(4**_SIEVE, dtype=np.bool_)
        sieve[context[depth >= _SIEVE] & np.uint32(4**_SIEVE - 1)] = True
        pending: list[tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.uint8]]] = []
        for position in self._stream():
            keep = np.flatnonzero(sieve[position.context & np.uint32(4**_SIEVE - 1)])
            pending.append((position.context[keep], position.depth[keep], position.digit[keep]))
            if sum(len(part[0]) for part in pending) >= self._size // 4:
                _count(asked, pending)
                pending = []
        if pending:
            _count(asked, pending)
        del sieve, pending
        for one in asked:
            yield one.answer()


class _Asked:
    """The distinct contexts of one order that are asked for, and the counts found for them."""

    def __init__(self, context: NDArray[np.uint32], depth: NDArray[np.uint8], order: int) -> None:
        self.order = order
        self.mask = np.uint32(4**order - 1)
        self.deep = depth >= order
        self.keys, self.row = np.unique(context[self.deep] & self.mask, return_inverse=True)
        self.counts = np.zeros(4 * len(self.keys), dtype=np.uint32)

    def answer(self) -> NDArray[np.uint32]:
        out = np.zeros((len(self.deep), 4), dtype=np.uint32)
        out[self.deep] = self.counts.reshape(-1, 4)[self.row]
        return out


def _count(asked: list[_Asked], pending: list[tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.uint8]]]) -> None:
    """Add bases (context, depth, digit) to the counts of each order."""
    context, depth, digit = (np.concatenate(part) for part in zip(*pending, strict=True))
    for one in asked:
        key = context & one.mask
        row = np.searchsorted(one.keys, key)
        found = row < len(one.keys)
        found[found] = one.keys[row[found]] == key[found]
        found &= depth >= one.order
        _tally(one.counts, row[found].astype(np.uint32) * np.uint32(4) + digit[found])
        # a context that nobody asked for has no longer one that somebody did
        context, depth, digit = context[found], depth[found], digit[found]


def _tally(counts: NDArray[np.uint32], cell: NDArray[np.uint32]) -> None:
    np.add.at(counts, cell, np.uint32(1))
