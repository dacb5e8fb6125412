"""Counts of the letters that follow each context, in memory that hardly grows with the genome.

A *context* is the number of the known bases before a base: 2 bits a base (a letter's id less one), nearest base lowest.
Those of up to `DIRECT` bases have a table. Of longer ones only those that are asked for are counted: they are put into
a hash table, and the counted genome is read once for each chunk of them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

from genoseq.data.intervals import Intervals, bases
from genoseq.errors import UserError

CHUNK = 1 << 16
"""Bases asked for in one pass over the counted part, at least."""
PASSES = 64
"""Such passes, at most: of more bases, each pass is asked for more."""
DIRECT = 10
"""Longest context with a direct table, in bases: 4^10 contexts have 16 MiB of counts."""
LONGEST = 24
"""Longest context of all, in bases."""

Codes = NDArray[np.uint8]
"""Letter ids of a genome, A=1 C=2 T=3 G=4, 0 = unknown; shape (n_bases,)."""

_TWO, _HALF = np.uint64(2), np.uint64(32)
_KEY_BITS = np.uint64(2 * LONGEST)
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function when it is first called; the next process finds it on disk, if a folder can be written."""
    dispatcher: Any = numba.njit(nogil=True)(function)
    with suppress(RuntimeError):
        dispatcher.enable_caching()
    return dispatcher  # type: ignore[no-any-return]


class Chunk(NamedTuple):
    """Bases of known letters, and what followed their contexts."""

    at: NDArray[np.int64]
    """Position in `codes`, (n,)."""
    digit: NDArray[np.uint8]
    """The base itself, its id less one, (n,)."""
    depth: NDArray[np.uint8]
    """Known bases directly before it in its interval, capped at the longest order; (n,)."""
    owner: NDArray[np.int32]
    """Row of its interval, (n,)."""
    counts: NDArray[np.uint32]
    """How often A, C, T, G followed its context in the counted part, (orders, n, 4); 0 where an order is too long."""
    seen: NDArray[np.uint32] = np.zeros((0, 0, 4), dtype=np.uint32)
    """The same in the bases that were read before it, (orders, n, 4), if adaptive."""

    @property
    def times(self) -> NDArray[np.uint32]:
        """How often the base itself followed its context in the counted part, (orders, n)."""
        return np.take_along_axis(self.counts, self.digit[None, :, None].astype(np.intp), axis=2)[..., 0]


class _Table(NamedTuple):
    """Rows of counts: first those of each direct order, one a context; then those of a hash table's slots."""

    mask: NDArray[np.uint64]  # bits of a context that an order looks at, (orders,)
    span: NDArray[np.int64]  # bases that they are among
    skip: NDArray[np.int64]  # next order whose contexts may be there when this order's is not
    first: NDArray[np.int64]  # first row of each direct order, and that of the hash table
    keys: NDArray[np.uint64]  # of the slots; 0 = empty
    sieve: NDArray[np.uint8]  # a Bloom filter of the keys, small enough for the processor's cache


@compiled
def _row(table: _Table, j: int, context: np.uint64, ask: bool) -> int:
    """Return the row of a context's counts, -1 if nobody asked for it; `ask` asks for it."""
    context &= table.mask[j]
    direct = len(table.first) - 1
    if j < direct:
        return int(table.first[j] + np.int64(context))
    key = context | np.uint64(j + 1) << _KEY_BITS
    mixed = key * _MIX
    mixed = (mixed ^ mixed >> _HALF) * _MIX
    slot: Any = np.int64((mixed >> _HALF) * np.uint64(len(table.keys)) >> _HALF)
    bit = np.uint8(1 << (np.int64(mixed >> np.uint64(29)) & 7))
    if ask:
        table.sieve[slot] |= bit
    elif not table.sieve[slot] & bit:
        return -1
    while table.keys[slot] != key:
        if table.keys[slot] == 0:
            if not ask:
                return -1
            table.keys[slot] = key
        else:
            slot = slot + 1 if slot + 1 < len(table.keys) else 0
    return int(table.first[direct] + slot)


@compiled
def _count(table: _Table, j: int, window: np.uint64, known: int, turned: bool, rows: NDArray[np.uint32]) -> None:
    """Count the base that ends the `known` bases of a window after its contexts of orders j and up."""
    while j < len(table.mask):
        if table.span[j] >= known:
            j += 1
            continue
        event = window >> np.uint64(2 * (LONGEST - table.span[j])) if turned else window
        row = _row(table, j, event >> _TWO, False)
        if row >= 0:
            rows[row, np.int64(event) & 3] += np.uint32(1)
        j = j + 1 if row >= 0 else table.skip[j]


@compiled
def _read(
    codes: Codes, intervals: Intervals, low: int, high: int, table: _Table, counts: NDArray[np.uint32],
    both: bool, ask: bool, out: tuple[NDArray[Any], ...], skip_first: bool, add: int, order: int, once: bool,
) -> int:  # fmt: skip
    """Read the bases `low` to `high` of intervals laid end to end, and return how many of them are written to `out`.

    Their contexts are asked for if `ask`; they are written with their counts if `out` has room; and then they are
    counted themselves in counts[:, add], if there is one, for orders `order` and up. With `once`, shorter orders are
    counted as far as `Counts._complete` needs it.
    """
    at, digits, depth, owners, found = out
    n = done = 0
    longest = table.span.max()
    for owner in range(len(intervals)):
        start, end = intervals[owner]
        begin, stop = start + max(low - done, 0), min(start + high - done, end)
        done += end - start
        window = turned = np.uint64(0)
        known = 0
        for i in range(max(start, begin - LONGEST), stop):
            if codes[i] == 0:
                known = 0
                continue
            digit = np.uint64(codes[i] - 1)
            if ask:  # from 24 bases before `low`: then no context is asked for whose beginning is not
                for j in range(len(table.first) - 1, len(table.mask)):
                    if table.span[j] <= known:
                        _row(table, j, window, True)
            if i >= begin and len(at) and not (skip_first and i == start):
                at[n], digits[n], depth[n], owners[n] = i, digit, min(known, longest), owner
                for j in range(len(table.mask)):
                    row = _row(table, j, window, False) if table.span[j] <= known else -1
                    for part in range(len(found)):
                        for x in range(4):
                            found[part, j, n, x] = counts[row, part, x] if row >= 0 else 0
                n += 1
            window = window << _TWO | digit
            turned = turned >> _TWO | (digit ^ _TWO) << _KEY_BITS
            known += 1
            if i >= begin and add < counts.shape[1]:
                j = order
                if once and order:
                    j = order - 1 if table.span[order - 1] < known else 0
                _count(table, j, window, known, False, counts[:, add])
                if both:
                    _count(table, order, turned, known, True, counts[:, add])
    return n


class Counts:
    """Counts of the four letters after contexts, over the intervals of one genome.

    Parameters
    ----------
    codes : ndarray of uint8, shape (n_bases,)
        Letter ids of the genome; kept by reference.
    orders : sequence of int or str
        Which of the last 24 bases make a context: how many, or a pattern such as "1101", nearest base last, of which
        only the bases at 1 count.
    both_strands : bool
        Count the reverse complement too.

    Attributes
    ----------
    patterns : list of str
        The orders as patterns, as they come in a `Chunk`: whole contexts before those with gaps, then by length.
    """

    def __init__(self, codes: Codes, intervals: Intervals, orders: Sequence[int | str], both_strands: bool) -> None:
        patterns = ["1" * order if isinstance(order, int) else order for order in orders]
        self.patterns = sorted(patterns, key=lambda pattern: ("0" in pattern, len(pattern)))
        self._codes, self._intervals, self._both = codes, intervals, both_strands
        spans = [len(pattern) for pattern in self.patterns]
        if not all(span <= LONGEST for span in spans):
            raise UserError(f"contexts have at most {LONGEST} bases, got {max(spans)}")
        self._direct = sum(span <= DIRECT and "0" not in x for x, span in zip(self.patterns, spans, strict=True))
        first = np.cumsum([0, *(4**span for span in spans[: self._direct])])
        masks = [int("0" + pattern.replace("1", "3"), 4) for pattern in self.patterns]
        skip = []
        for j, (mask, span) in enumerate(zip(masks, spans, strict=True)):
            # of a context that was asked for, both ends were: the other strand's ends where this one begins
            ends = [masks[i] & masks[i] >> 2 * max(0, spans[i] - span) & mask == mask for i in range(j, len(masks))]
            skip.append(j + [*ends, False].index(False))
        arrays = np.array(masks, dtype=np.uint64), np.array(spans), np.array(skip), first
        self._table = _Table(*arrays, np.zeros(1, dtype=np.uint64), np.zeros(1, dtype=np.uint8))

    def along(
        self, codes: Codes, intervals: Intervals, size: int = CHUNK, skip_first: bool = False, adaptive: bool = False
    ) -> Iterator[Chunk]:
        """Yield the known bases of intervals, in order, with their counts, up to `size` at a time.

        Parameters
        ----------
        codes : ndarray of uint8, shape (n_bases,)
            Letter ids of any genome.
        size : int
            The counted part is read once for so many bases: fewer of them, less memory; more, less time.
        skip_first : bool
            Leave out each interval's first base, which a neural network has no input to predict from.
        adaptive : bool
            Count the bases of `intervals` too, once they are read. On the other strand a base follows those after it,
            and counts once they are read.
        """
        direct, first, orders, total = self._direct, self._table.first, len(self.patterns), bases(intervals)
        part = size * max(1, -(-total // (size * PASSES))) if direct < orders else max(1, total)
        slots = 3 * (min(part, total) + LONGEST) * (orders - direct) // 2 + 1
        counts = np.zeros((first[-1] + slots, 1 + adaptive, 4), dtype=np.uint32)
        nowhere = _room(orders, 0, adaptive)
        for low in range(0, total, part):
            high = min(low + part, total)
            table = self._table._replace(keys=np.zeros(slots, np.uint64), sieve=np.zeros(slots, np.uint8))
            counts[first[-1] :] = 0
            _read(codes, intervals, low, high, table, counts, self._both, True, nowhere, False, 2, 0, False)
            learn = table, counts, self._both, False, nowhere, False
            _read(self._codes, self._intervals, 0, bases(self._intervals), *learn, 0, direct, low == 0)
            _read(codes, intervals, 0, low, *learn, 1, direct, False)
            if low == 0:
                self._complete(counts[:, 0])
            for begin in range(low, high, size):
                end = min(begin + size, high)
                out = _room(orders, end - begin, adaptive)
                n = _read(codes, intervals, begin, end, table, counts, self._both, False, out, skip_first, 1, 0, False)
                if n:
                    yield Chunk(*(array[:n] for array in out[:4]), *out[4][:, :, :n])

    def _complete(self, counts: NDArray[np.uint32]) -> None:
        """Complete the direct orders' counts, of one strand and, but for the longest, of what is near edges alone."""
        each = np.split(counts, self._table.first[1:])[:-1]
        for mine in each[:-1]:
            mine += each[-1].reshape(-1, *mine.shape).sum(axis=0, dtype=np.uint32)
        for mine, pattern in zip(each, self.patterns if self._both else [], strict=False):
            axes = range(len(pattern) + 1)
            # the other strand: bases in reverse, and A for T, C for G, two digits on
            mine += np.roll(mine.reshape([4 for _ in axes]).T, 2, axis=tuple(axes)).reshape(mine.shape)


def _room(orders: int, size: int, adaptive: bool) -> tuple[NDArray[Any], ...]:
    """Return empty arrays for what `_read` writes of up to `size` bases."""
    each = (np.empty(size, dtype=dtype) for dtype in (np.int64, np.uint8, np.uint8, np.int32))
    return *each, np.empty((1 + adaptive, orders, size, 4), dtype=np.uint32)
