"""Repeat models: pointers to where the last bases occurred before, which predict the base that followed there.

Occurrences are found in an index: a hash table of the positions of words, which are `length` known bases in a row, as
numbers of 2 bits a base (a letter's id less one), last base lowest. Pointers are kept through substitutions.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genoseq.baselines.counts import CHUNK, Codes, compiled
from genoseq.data.intervals import Intervals, bases
from genoseq.errors import UserError

LONGEST = 32
"""Longest word that is looked for, in bases."""
PROBES = 4
"""Slots in a row where a word may be; if all of them hold others, it takes the first."""
MEMORY, FAILURES, DECAY = 16, 8, 0.95
"""A pointer is dropped when more than 8 of its last 16 predictions failed; hits and misses decay by 0.95 a base."""
# the hash of counts.py, written out: in a function for both numba did not inline it, and counting took 8 times as long
_HALF = np.uint64(32)
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
_FIELDS = ("at", "letter", "low", "high", "own", "history", "failed", "length")
# position and letter (0 = no pointer) that it points at, the interval around; whether that is in the part being read
_POINTER = np.dtype([*((name, np.int64) for name in _FIELDS), ("hits", np.float32), ("misses", np.float32)])
_PREDICTION = np.dtype([("digit", np.int8), ("hits", np.float32), ("misses", np.float32), ("length", np.int32)])


class RepeatChunk(NamedTuple):
    """Predictions of n known bases: frozen, and adaptive if asked; from the same strand and from the other one."""

    digit: NDArray[np.int8]  # the predicted base, its id less one, (modes, 2, n); -1 = no pointer, and the rest is 0
    hits: NDArray[np.float32]  # correct predictions of this pointer so far, decayed
    misses: NDArray[np.float32]  # wrong ones
    length: NDArray[np.int32]  # all of them, not decayed


@compiled
def _look(codes: Codes, index: NDArray[Any], word: np.uint64, length: int, put: int) -> int:
    """Return the last position of a word in an index, -1 if it is not there; then put it at `put`, if that's not -1."""
    mixed = word * _MIX
    mixed = (mixed ^ mixed >> _HALF) * _MIX
    slot: Any = np.int64((mixed >> _HALF) * np.uint64(len(index) - PROBES) >> _HALF)
    found: Any = -1
    for probe in range(slot, slot + PROBES):
        at, j = np.int64(index[probe]) - 1, 0
        while at >= 0 and j < length and codes[at + j] == 1 + (np.int64(word >> np.uint64(2 * (length - 1 - j))) & 3):
            j += 1
        if at < 0 or j == length:
            found, slot = at, probe
            break
    if put >= 0:
        index[slot] = put + 1
    return int(found)


@compiled
def _point(pointer: Any, at: int, codes: Codes, past: Codes) -> None:
    """Point at a base, if it is known and in the pointer's interval."""
    pointer.at, pointer.letter = at, 0
    if pointer.low <= at < pointer.high:
        pointer.letter = codes[at] if pointer.own else past[at]


@compiled
def _read(
    codes: Codes, intervals: Intervals, index: NDArray[Any], low: int, high: int, length: int, learn: bool,
    past: Codes, past_intervals: Intervals, past_index: NDArray[Any], pointers: NDArray[Any], skip_first: bool,
    out: NDArray[Any],
) -> int:  # fmt: skip
    """Read the bases `low` to `high` of intervals laid end to end, and return how many of them are written to `out`.

    With `learn`, words are put into the index one base after they are complete, so that none finds itself.
    """
    n = done = 0
    top = np.uint64(2 * (length - 1))
    for owner in range(len(intervals)):
        start, end = intervals[owner]
        begin, stop = start + max(low - done, 0), min(start + high - done, end)
        done += end - start
        window = turned = np.uint64(0)
        known = 0
        for i in range(max(start, begin - length), stop + (begin < stop == end)):
            letter: Any = np.int64(codes[i]) if i < end else 0
            for mode in range(len(pointers) if letter and i >= begin else 0):
                for other in range(2):
                    pointer = pointers[mode, other]
                    if known < length:
                        pointer.letter = 0
                    elif pointer.letter == 0:
                        word, ahead = (turned, -1) if other else (window, length)
                        found = _look(codes, index, word, length, -1) if mode else -1
                        pointer.own = found >= 0
                        if not pointer.own:
                            found = _look(past, past_index, word, length, -1)
                        if found >= 0:
                            places = intervals if pointer.own else past_intervals
                            row = np.searchsorted(places[:, 0], found, side="right") - 1
                            pointer.low, pointer.high = places[row, 0], places[row, 1]
                            pointer.history = pointer.failed = pointer.length = pointer.hits = pointer.misses = 0
                            _point(pointer, found + ahead, codes, past)
                    if pointer.letter:
                        guess = (pointer.letter - 1) ^ (2 * other)
                        given = out[mode, other, n]
                        given.digit, given.length, given.hits = guess, pointer.length, pointer.hits
                        given.misses = pointer.misses
                        miss = np.int64(guess != letter - 1)
                        pointer.hits, pointer.misses = pointer.hits * DECAY + (1 - miss), pointer.misses * DECAY + miss
                        pointer.failed += miss - (pointer.history >> (MEMORY - 1) & 1)
                        pointer.history = pointer.history << 1 | miss
                        pointer.length += 1
                        at = pointer.at + 1 - 2 * other
                        _point(pointer, at if pointer.failed <= FAILURES else -1, codes, past)
            n += i >= begin and letter > 0 and not (skip_first and i == start)
            if learn and i >= begin and known >= length:
                _look(codes, index, window, length, i - length)
            known = known + 1 if letter else 0
            digit = np.uint64(letter - 1 & 3)
            window = (window << np.uint64(2) | digit) & ~np.uint64(0) >> np.uint64(62) - top
            turned = turned >> np.uint64(2) | (digit ^ np.uint64(2)) << top
    return n


class Repeats:
    """Pointers to where the last `length` bases (1 to `LONGEST`) occurred before, on either strand.

    Indexes the intervals of a genome, letter ids `codes` (n_bases,), which are kept by reference. A word's latest
    occurrence counts. No pointer goes from one interval into another.
    """

    def __init__(self, codes: Codes, intervals: Intervals, length: int = 16) -> None:
        if not 1 <= length <= LONGEST:
            raise UserError(f"repeats are found by 1 to {LONGEST} bases, got {length}")
        self._length, self._past = length, (codes, intervals, _index(codes, intervals))
        nobody, nowhere = np.zeros((0, 2), dtype=_POINTER), np.zeros((0, 2, 0), dtype=_PREDICTION)
        _read(*self._past, 0, bases(intervals), length, True, *self._past, nobody, False, nowhere)

    def along(
        self, codes: Codes, intervals: Intervals, size: int = CHUNK, skip_first: bool = False, adaptive: bool = False
    ) -> Iterator[RepeatChunk]:
        """Yield predictions of the same bases as `Counts.along`, chunk by chunk.

        With `adaptive`, the second mode looks for occurrences in the bases that were read before, too.
        """
        index = _index(codes, intervals[: None if adaptive else 0])
        pointers, total = np.zeros((1 + adaptive, 2), dtype=_POINTER), bases(intervals)
        for low in range(0, total, size):
            high = min(low + size, total)
            out = np.full((1 + adaptive, 2, high - low), np.array((-1, 0, 0, 0), dtype=_PREDICTION))
            part = codes, intervals, index, low, high
            n = _read(*part, self._length, adaptive, *self._past, pointers, skip_first, out)
            if n:
                yield RepeatChunk(*(out[name][:, :, :n].copy() for name in RepeatChunk._fields))


def _index(codes: Codes, intervals: Intervals) -> NDArray[Any]:
    """Return an empty index, of positions + 1: 4 slots a base, but at most 2^24, or 2 bytes a base if that is more."""
    dtype = np.dtype(np.int32 if len(codes) < 2**31 else np.int64)
    slots = max(min(max(4 * bases(intervals), 1 << 16), 1 << 24), 2 * bases(intervals) // dtype.itemsize)
    return np.zeros(slots + PROBES, dtype=dtype)
