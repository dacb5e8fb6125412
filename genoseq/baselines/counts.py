"""Counts of the letters that follow each context, in memory that does not grow with the genome.

Contexts of up to `DIRECT` bases have a table. Of longer ones, whose table would have 4^16 rows, only those that are
asked for are counted: the counted genome is read once for each chunk of them.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from genoseq.baselines import kmers
from genoseq.baselines.kmers import EDGE, Codes, blocks, known_runs, rolling
from genoseq.data.intervals import Intervals

DIRECT = 10
"""Longest context with a direct table: 4^11 counts of 4 bytes, 16 MiB."""
LONGEST = 16
"""Longest context of all, in bases: 32 bits hold 16."""
_SIEVE = DIRECT + 1


class Positions(NamedTuple):
    """Bases to count or to predict, all of known letters; each array has shape (n,)."""

    context: NDArray[np.uint32]
    """The 16 digits before each base, nearest base least significant; only the last `depth` digits mean anything."""
    depth: NDArray[np.uint8]
    """Known bases directly before it in its interval, at most 16."""
    digit: NDArray[np.uint8]
    """The base itself, 0-3."""
    owner: NDArray[np.int32]
    """Row of its interval."""


def positions(
    codes: Codes, intervals: Intervals, size: int, reverse: bool = False, skip_first: bool = False
) -> Iterator[Positions]:
    """Yield the known bases of intervals with their contexts, up to `size` at a time.

    Parameters
    ----------
    reverse : bool
        Read the reverse complement of each interval.
    skip_first : bool
        Leave out each interval's first base, which a neural network has no input to predict from.
    """
    for letters, owner in blocks(codes, intervals, size, overlap=LONGEST, reverse=reverse):
        wanted = (owner >= 0) & (letters != 0)
        if skip_first:
            wanted[1:] &= owner[:-1] != EDGE
        keep = np.flatnonzero(wanted)
        padded = np.concatenate([np.zeros(LONGEST, dtype=np.uint8), letters[:-1]])
        context = rolling(padded, LONGEST, np.uint32)
        depth = np.minimum(known_runs(padded)[LONGEST - 1 :], LONGEST).astype(np.uint8)
        yield Positions(context[keep], depth[keep], letters[keep] - np.uint8(1), owner[keep])


class Counts:
    """Counts of the four letters after contexts, over the intervals of one genome.

    Parameters
    ----------
    codes : ndarray of uint8, shape (n_bases,)
        Letter ids of the genome; kept by reference.
    orders : sequence of int
        Context lengths, in bases: 0, and any to 16.
    both_strands : bool
        Count the reverse complement too.
    """

    def __init__(self, codes: Codes, intervals: Intervals, orders: Sequence[int], both_strands: bool) -> None:
        self.orders = tuple(sorted(orders))
        self._source = codes, intervals
        self._strands = (False, True) if both_strands else (False,)
        self._tables = self._direct()

    def after(self, context: NDArray[np.uint32], depth: NDArray[np.uint8]) -> Iterator[NDArray[np.uint32]]:
        """Yield the counts of the letters after contexts, (n, 4) for each order; 0 where a context is shorter.

        The arguments, (n,), are as in `Positions`.
        """
        for order, table in self._tables.items():
            counts = table[context & _mask(order)]
            counts[depth < order] = 0
            yield counts
        yield from self._streamed(context, depth)

    def _stream(self) -> Iterator[Positions]:
        for reverse in self._strands:
            yield from positions(*self._source, kmers.BLOCK, reverse)

    def _direct(self) -> dict[int, NDArray[np.uint32]]:
        """Return the tables of the direct orders, from one pass: each sums the rows of the next order's."""
        direct = [order for order in self.orders if order <= DIRECT]
        top = max(direct)
        flat = [np.zeros(4 ** (order + 1), dtype=np.uint32) for order in range(top + 1)]
        for context, depth, digit, _ in self._stream():
            cell = (context << np.uint32(2)) | digit
            # a base near an edge is counted at its own depth, and reaches the lower orders from there
            level = np.minimum(depth, top)
            for order, table in enumerate(flat):
                np.add.at(table, cell[level == order] & _mask(order + 1), np.uint32(1))
        for order in range(top, 0, -1):
            flat[order - 1] += flat[order].reshape(4, -1).sum(axis=0, dtype=np.uint32)
        return {order: flat[order].reshape(-1, 4) for order in direct}

    def _streamed(self, context: NDArray[np.uint32], depth: NDArray[np.uint8]) -> Iterator[NDArray[np.uint32]]:
        asked = [_Asked(context, depth, order) for order in self.orders if order > DIRECT]
        if not asked:
            return
        # every long context ends in one of these: 4 million flags rule out most counted bases at once
        sieve = np.zeros(4**_SIEVE, dtype=np.bool_)
        sieve[context[depth >= _SIEVE] & _mask(_SIEVE)] = True
        for position in self._stream():
            keep = np.flatnonzero(sieve[position.context & _mask(_SIEVE)])
            found = position.context[keep], position.depth[keep], position.digit[keep]
            for one in asked:
                # a context that nobody asked for has no longer one that somebody did
                found = one.count(*found)
        for one in asked:
            yield one.answer()


class _Asked:
    """The distinct contexts of one order that are asked for, and the counts found for them."""

    def __init__(self, context: NDArray[np.uint32], depth: NDArray[np.uint8], order: int) -> None:
        self.order = order
        self.deep = depth >= order
        self.keys, self.row = np.unique(context[self.deep] & _mask(order), return_inverse=True)
        self.counts = np.zeros((len(self.keys), 4), dtype=np.uint32)

    def count(
        self, context: NDArray[np.uint32], depth: NDArray[np.uint8], digit: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint8], NDArray[np.uint8]]:
        """Count those bases whose context was asked for, and return them."""
        key = context & _mask(self.order)
        row = np.searchsorted(self.keys, key)
        found = (row < len(self.keys)) & (depth >= self.order)
        found[found] = self.keys[row[found]] == key[found]
        np.add.at(self.counts.reshape(-1), 4 * row[found] + digit[found], np.uint32(1))
        return context[found], depth[found], digit[found]

    def answer(self) -> NDArray[np.uint32]:
        out = np.zeros((len(self.deep), 4), dtype=np.uint32)
        out[self.deep] = self.counts[self.row]
        return out


def _mask(order: int) -> np.uint32:
    """Return the bits of a context's last `order` digits."""
    return np.uint32(4**order - 1)
