"""Counts of the letters that follow each context, in memory that hardly grows with the genome.

A *context* is the number of the known bases before a base: 2 bits a base (a letter's id less one), nearest base lowest.
Those of up to `DIRECT` bases have a table. Of longer ones only those that are asked for are counted: they are put into
a hash table, and the counted genome is read once for each part of them.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from genoseq.data.intervals import Intervals, as_intervals, bases
from genoseq.errors import UserError

CHUNK = 1 << 16
"""Bases asked for in one pass over the counted part, at least."""
PASSES = 64
"""Such passes, at most: of more bases, each pass is asked for more."""
SHARE = 128
"""A pass may be asked for one base in so many counted ones: the table takes two bytes a counted base then."""
DIRECT = 10
"""Longest context with a direct table, in bases: 4^10 contexts have 16 MiB of counts."""
LONGEST = 24
"""Longest context of all, in bases."""
BATCH = 1024
"""Bases whose contexts are looked up together, so that the processor waits for several places in memory at once."""

Codes = NDArray[np.uint8]
"""Letter ids of a genome, A=1 C=2 T=3 G=4, 0 = unknown; shape (n_bases,)."""

_ONE, _TWO, _HALF = np.uint64(1), np.uint64(2), np.uint64(32)
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
    forward: NDArray[np.uint32]
    """The same of the given strand alone, (orders, n, 4)."""
    seen: NDArray[np.uint32] = np.zeros((0, 0, 4), dtype=np.uint32)
    """The same in the bases that were read before it, (orders, n, 4), if adaptive."""

    @property
    def times(self) -> NDArray[np.uint32]:
        """How often the base itself followed its context in the counted part, (orders, n)."""
        return pick(self.counts, self.digit)


def pick(counts: NDArray[np.uint32], digit: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return the counts, (orders, n), of the bases that are there, from those of all four."""
    return np.take_along_axis(counts, digit[None, :, None].astype(np.intp), axis=2)[..., 0]


class _Table(NamedTuple):
    """Rows of counts: first those of each direct order, one a context; then those of a hash table's slots."""

    span: NDArray[np.int64]  # bases of each order, (orders,)
    first: NDArray[np.int64]  # first row of each direct order, and that of the hash table
    keys: NDArray[np.uint64]  # of the slots; 0 = empty
    sieve: NDArray[np.uint8]  # a Bloom filter of the keys, small enough for the processor's cache


@compiled
def hashed(key: np.uint64) -> np.uint64:
    """Return the hash of a key: its high half tells the slot, three more bits the bit of the sieve."""
    mixed = key * _MIX
    return (mixed ^ mixed >> _HALF) * _MIX


@compiled
def _key(j: int, span: int, context: np.uint64) -> np.uint64:
    """Return the key of a context of order j."""
    return context & (_ONE << np.uint64(2 * span)) - _ONE | np.uint64(j + 1) << _KEY_BITS


@compiled
def slot_of(mixed: np.uint64, slots: int) -> Any:
    return np.int64((mixed >> _HALF) * np.uint64(slots) >> _HALF)


@compiled
def bit_of(mixed: np.uint64) -> Any:
    return np.int64(mixed >> np.uint64(29)) & 7


@compiled
def find(keys: NDArray[np.uint64], key: np.uint64, slot: Any) -> int:
    """Return the slot of a key, or the empty one where it would be."""
    while keys[slot] != key and keys[slot] != 0:
        slot = slot + 1 if slot + 1 < len(keys) else 0
    return int(slot)


@compiled
def _row(table: _Table, j: int, context: np.uint64) -> int:
    """Return the row of a context's counts, -1 if nobody asked for it."""
    direct = len(table.first) - 1
    if j < direct:
        return int(table.first[j] + np.int64(context & (_ONE << np.uint64(2 * table.span[j])) - _ONE))
    key = _key(j, table.span[j], context)
    mixed = hashed(key)
    slot = slot_of(mixed, len(table.keys))
    if not table.sieve[slot] >> bit_of(mixed) & 1:
        return -1
    slot = find(table.keys, key, slot)
    return int(table.first[direct] + slot) if table.keys[slot] == key else -1


@compiled
def _ask(codes: Codes, intervals: Intervals, low: int, high: int, table: _Table) -> None:
    """Put the contexts of the bases `low` to `high` of intervals laid end to end into the hash table."""
    done = 0
    for start, end in intervals:
        begin, stop = start + max(low - done, 0), min(start + high - done, end)
        done += end - start
        window, known = np.uint64(0), 0
        # from 24 bases before `low`: then no context is asked for whose beginning is not
        for i in range(max(start, begin - LONGEST), stop):
            if codes[i] == 0:
                known = 0
                continue
            for j in range(len(table.first) - 1, len(table.span)):
                if table.span[j] <= known:
                    key = _key(j, table.span[j], window)
                    mixed = hashed(key)
                    slot = slot_of(mixed, len(table.keys))
                    table.sieve[slot] |= np.uint8(1 << bit_of(mixed))
                    table.keys[find(table.keys, key, slot)] = key
            window = window << _TWO | np.uint64(codes[i] - 1)
            known += 1


@compiled
def _learn(
    codes: Codes, intervals: Intervals, table: _Table, counts: NDArray[np.uint32], turned: bool, direct: bool
) -> None:
    """Count the bases of intervals on the given strand, or `turned` on the other one.

    Contexts with a direct table are counted if `direct`: the longest ones, and near edges all.
    """
    windows, known = np.empty(BATCH, dtype=np.uint64), np.empty(BATCH, dtype=np.int64)
    keys, slots, which = np.empty_like(windows), np.empty_like(known), np.empty_like(known)
    m = 0
    for start, end in intervals:
        window, length = np.uint64(0), 0
        for i in range(start, end):
            if codes[i] == 0:
                length = 0
            else:
                digit = np.uint64(codes[i] - 1)
                window = window >> _TWO | (digit ^ _TWO) << _KEY_BITS if turned else window << _TWO | digit
                length += 1
                windows[m], known[m] = window, length
                m += 1
            if m == BATCH:
                _learn_batch(windows, known, m, table, counts, turned, direct, keys, slots, which)
                m = 0
    _learn_batch(windows, known, m, table, counts, turned, direct, keys, slots, which)


@compiled
def _learn_batch(
    windows: NDArray[np.uint64], known: NDArray[np.int64], m: int, table: _Table, counts: NDArray[np.uint32],
    turned: bool, direct: bool, keys: NDArray[np.uint64], slots: NDArray[np.int64], which: NDArray[np.int64],
) -> None:  # fmt: skip
    """Count the bases that end the `known` bases of `m` windows; the last three arrays are scratch memory."""
    spans, first, table_keys, sieve = table
    short = len(first) - 1
    if direct and short:
        for a in range(m):
            event, longest = windows[a], known[a] > spans[short - 1]
            for j in range(short - 1 if longest else 0, short):
                if longest or known[a] > spans[j]:
                    context = event >> _TWO & (_ONE << np.uint64(2 * spans[j])) - _ONE
                    counts[first[j] + np.int64(context), np.int64(event) & 3] += np.uint32(1)
    for a in range(m):
        which[a] = a
    for j in range(short, len(spans)):
        span = spans[j]
        shift = np.uint64(2 * (LONGEST - span)) if turned else np.uint64(0)
        some = 0
        for b in range(m):
            a = which[b]
            key = _key(j, span, windows[a] >> shift >> _TWO)
            mixed = hashed(key)
            slot = slot_of(mixed, len(table_keys))
            keys[some], slots[some], which[some] = key, slot, a
            some += (sieve[slot] >> bit_of(mixed) & 1) & (known[a] > span)
        m = 0
        for b in range(some):
            slot = find(table_keys, keys[b], slots[b])
            slots[m], which[m] = slot, which[b]
            m += table_keys[slot] == keys[b]  # of a context that was asked for, so was the beginning: the others end
        for b in range(m):
            counts[first[short] + slots[b], np.int64(windows[which[b]] >> shift) & 3] += np.uint32(1)


@compiled
def _read(
    codes: Codes, intervals: Intervals, low: int, high: int, table: _Table, counts: NDArray[np.uint32],
    out: tuple[NDArray[Any], ...], skip_first: bool, adaptive: bool, both: bool,
) -> int:  # fmt: skip
    """Write the bases `low` to `high` of intervals laid end to end, with their counts, and return how many they are.

    If `adaptive`, each is counted in the last of the counts' arrays once it is written.
    """
    at, digits, depth, owners, found = out
    n = done = 0
    seen = len(counts) - 1
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
            if i >= begin and not (skip_first and i == start):
                at[n], digits[n], depth[n], owners[n] = i, digit, min(known, longest), owner
                for j in range(len(table.span)):
                    row = _row(table, j, window) if table.span[j] <= known else -1
                    for part in range(len(found)):
                        for x in range(4):
                            found[part, j, n, x] = counts[part, row, x] if row >= 0 else 0
                n += 1
            window = window << _TWO | digit
            turned = turned >> _TWO | (digit ^ _TWO) << _KEY_BITS
            known += 1
            for strand in range((1 + both) * adaptive if i >= begin else 0):
                for j in range(len(table.span)):
                    if table.span[j] < known:
                        event = turned >> np.uint64(2 * (LONGEST - table.span[j])) if strand else window
                        row = _row(table, j, event >> _TWO)
                        if row < 0:
                            break
                        counts[seen, row, np.int64(event) & 3] += np.uint32(1)
    return n


class Counts:
    """Counts of the four letters after contexts, over the intervals of one genome.

    Parameters
    ----------
    codes : ndarray of uint8, shape (n_bases,)
        Letter ids of the genome; kept by reference.
    orders : sequence of int
        How many of the last bases, at most 24, make a context.
    both_strands : bool
        Count the reverse complement too.

    Attributes
    ----------
    orders : list of int
        In ascending order, as they come in a `Chunk`.
    """

    def __init__(self, codes: Codes, intervals: Intervals, orders: Sequence[int], both_strands: bool) -> None:
        self.orders = sorted(orders)
        self._codes, self._intervals, self._both = codes, intervals, both_strands
        if self.orders[-1] > LONGEST:
            raise UserError(f"contexts have at most {LONGEST} bases, got {self.orders[-1]}")
        self._direct = sum(order <= DIRECT for order in self.orders)
        first = np.cumsum([0, *(4**order for order in self.orders[: self._direct])])
        self._table = _Table(np.array(self.orders), first, np.zeros(1, dtype=np.uint64), np.zeros(1, dtype=np.uint8))

    def along(
        self, codes: Codes, intervals: Intervals, size: int = CHUNK, skip_first: bool = False, adaptive: bool = False
    ) -> Iterator[Chunk]:
        """Yield the known bases of intervals, in order, with their counts, up to `size` at a time.

        Parameters
        ----------
        codes : ndarray of uint8, shape (n_bases,)
            Letter ids of any genome.
        size : int
            The counted part is read once for so many bases, or more of a long genome: fewer of them, less memory; more,
            less time.
        skip_first : bool
            Leave out each interval's first base, which a neural network has no input to predict from.
        adaptive : bool
            Count the bases of `intervals` too, once they are read. On the other strand a base follows those after it,
            and counts once they are read.
        """
        direct, first, orders = self._direct, self._table.first, len(self.orders)
        counted = max(1, bases(self._intervals)) if direct < orders else 0
        parts = list(passes(bases(intervals), counted, size))
        longest = max((high - low for low, high in parts), default=0)
        slots = 3 * (longest + LONGEST) * (orders - direct) // 2 + 1
        counts = np.zeros((1 + self._both + adaptive, first[-1] + slots, 4), dtype=np.uint32)
        for low, high in parts:
            table = self._table._replace(keys=np.zeros(slots, np.uint64), sieve=np.zeros(slots, np.uint8))
            counts[:, first[-1] :] = 0
            _ask(codes, intervals, low, high, table)
            self._learn(table, counts, low == 0)
            for turned in range(1 + self._both if adaptive and low else 0):
                _learn(codes, head(intervals, low), table, counts[-1], bool(turned), False)
            for begin in range(low, high, size):
                end = min(begin + size, high)
                out = _room(orders, end - begin, len(counts))
                n = _read(codes, intervals, begin, end, table, counts, out, skip_first, adaptive, self._both)
                if n:
                    forward, *others = out[4][:, :, :n]
                    counted = forward + others.pop(0) if self._both else forward
                    at, digit, depth, owner = (array[:n] for array in out[:4])
                    yield Chunk(at, digit, depth, owner, counted, forward, *others)

    def _learn(self, table: _Table, counts: NDArray[np.uint32], direct: bool) -> None:
        """Count the counted part, each strand in a thread of its own where there are two."""
        strands = range(1 + self._both if table.keys.size > 1 else 1)
        with ThreadPoolExecutor(min(len(strands), torch.get_num_threads())) as pool:
            asked = [(counts[strand], bool(strand), direct and not strand) for strand in strands]
            list(pool.map(lambda some: _learn(self._codes, self._intervals, table, *some), asked))
        if direct:
            self._complete(counts)

    def _complete(self, counts: NDArray[np.uint32]) -> None:
        """Complete the direct orders' counts, of one strand and, but for the longest, of what is near edges alone."""
        each = np.split(counts[0], self._table.first[1:])[:-1]
        for mine in each[:-1]:
            mine += each[-1].reshape(-1, *mine.shape).sum(axis=0, dtype=np.uint32)
        other = np.split(counts[1], self._table.first[1:])[:-1] if self._both else []
        for mine, turned, order in zip(each, other, self.orders, strict=False):
            axes = range(order + 1)
            # the other strand: bases in reverse, and A for T, C for G, two digits on
            turned[:] = np.roll(mine.reshape([4 for _ in axes]).T, 2, axis=tuple(axes)).reshape(mine.shape)


def passes(total: int, counted: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield which of `total` bases each pass over so many counted ones is asked for: from where to where.

    Each is asked for a multiple of `size`; of no counted bases, there is one pass.
    """
    part = size * max(1, -(-total // (size * PASSES)), counted // (size * SHARE)) if counted else max(1, total)
    yield from ((low, min(low + part, total)) for low in range(0, total, part))


def head(intervals: Intervals, n: int) -> Intervals:
    """Return the first `n` bases of intervals laid end to end."""
    end = np.cumsum(np.diff(intervals))
    kept = np.minimum(intervals[:, 1], intervals[:, 1] - end + n)
    return as_intervals(list(zip(intervals[:, 0], kept, strict=True)))


def _room(orders: int, size: int, parts: int) -> tuple[NDArray[Any], ...]:
    """Return empty arrays for what `_read` writes of up to `size` bases."""
    each = (np.empty(size, dtype=dtype) for dtype in (np.int64, np.uint8, np.uint8, np.int32))
    return *each, np.empty((parts, orders, size, 4), dtype=np.uint32)
