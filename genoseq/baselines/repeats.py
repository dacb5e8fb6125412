"""Repeat models: pointers to where the last bases occurred before, which predict the base that followed there.

Occurrences are looked up by words, which are `length` known bases in a row, as numbers of 2 bits a base (a letter's id
less one), last base lowest. Only those that are asked for are looked for: they are put into a hash table, and the
indexed genome is read once for each part of them. Pointers are kept through substitutions.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genoseq.baselines.counts import BATCH, CHUNK, Codes, bit_of, compiled, find, hashed, head, passes, slot_of
from genoseq.data.intervals import Intervals, bases
from genoseq.errors import UserError

LONGEST = 31
"""Longest word that is looked for, in bases."""
MEMORY, FAILURES, DECAY = 16, 8, 0.95
"""A pointer is dropped when more than 8 of its last 16 predictions failed; hits and misses decay by 0.95 a base."""
_FIELDS = ("at", "letter", "low", "high", "own", "history", "failed", "length")
# position and letter (0 = no pointer) that it points at, the interval around; whether that is in the part being read
_POINTER = np.dtype([*((name, np.int64) for name in _FIELDS), ("hits", np.float32), ("misses", np.float32)])
_PREDICTION = np.dtype([("digit", np.int8), ("hits", np.float32), ("misses", np.float32), ("length", np.int32)])


class _Words(NamedTuple):
    """Words that are asked for, and where each was last seen; -1 = nowhere."""

    keys: NDArray[np.uint64]  # a word + 1, in the slots of a hash table; 0 = empty
    sieve: NDArray[np.uint8]  # a Bloom filter of the keys
    past: NDArray[np.int64]  # first base in the indexed genome
    own: NDArray[np.int64]  # and in the part being read


class RepeatChunk(NamedTuple):
    """Predictions of n known bases: frozen, and adaptive if asked; from the same strand and from the other one."""

    digit: NDArray[np.int8]  # the predicted base, its id less one, (modes, 2, n); -1 = no pointer, and the rest is 0
    hits: NDArray[np.float32]  # correct predictions of this pointer so far, decayed
    misses: NDArray[np.float32]  # wrong ones
    length: NDArray[np.int32]  # all of them, not decayed


@compiled
def _slot(words: _Words, word: np.uint64) -> int:
    """Return the slot of a word that was asked for, of any other an empty one."""
    key = word + np.uint64(1)
    return find(words.keys, key, slot_of(hashed(key), len(words.keys)))


@compiled
def _ask(codes: Codes, intervals: Intervals, low: int, high: int, length: int, words: _Words) -> None:
    """Put the words of both strands before the bases `low` to `high` of intervals laid end to end into the table."""
    done, top = 0, np.uint64(2 * (length - 1))
    for start, end in intervals:
        begin, stop = start + max(low - done, 0), min(start + high - done, end)
        done += end - start
        window = turned = np.uint64(0)
        known = 0
        # and the word that ends with an interval, which may be found later
        for i in range(max(start, begin - length), stop + (begin < stop == end)):
            for strand in range(2 if known >= length and i >= begin else 0):
                key = (turned if strand else window) + np.uint64(1)
                mixed = hashed(key)
                slot = slot_of(mixed, len(words.keys))
                words.sieve[slot] |= np.uint8(1 << bit_of(mixed))
                words.keys[find(words.keys, key, slot)] = key
            letter: Any = np.int64(codes[i]) if i < stop else 0
            known = known + 1 if letter else 0
            digit = np.uint64(letter - 1 & 3)
            window = (window << np.uint64(2) | digit) & ~np.uint64(0) >> np.uint64(62) - top
            turned = turned >> np.uint64(2) | (digit ^ np.uint64(2)) << top


@compiled
def _learn(codes: Codes, intervals: Intervals, length: int, words: _Words, places: NDArray[np.int64]) -> None:
    """Note in `places` where the words that are asked for occur in intervals, the last time."""
    keys, starts = np.empty(BATCH, dtype=np.uint64), np.empty(BATCH, dtype=np.int64)
    slots, m = np.empty(BATCH, dtype=np.int64), 0
    top = np.uint64(2 * (length - 1))
    for start, end in intervals:
        window, known = np.uint64(0), 0
        for i in range(start, end):
            letter: Any = np.int64(codes[i])
            known = known + 1 if letter else 0
            window = (window << np.uint64(2) | np.uint64(letter - 1 & 3)) & ~np.uint64(0) >> np.uint64(62) - top
            if known >= length:
                keys[m], starts[m] = window + np.uint64(1), i + 1 - length
                m += 1
            if m == BATCH:
                _learn_batch(keys, starts, m, words, places, slots)
                m = 0
    _learn_batch(keys, starts, m, words, places, slots)


@compiled
def _learn_batch(
    keys: NDArray[np.uint64], starts: NDArray[np.int64], m: int, words: _Words, places: NDArray[np.int64],
    slots: NDArray[np.int64],
) -> None:  # fmt: skip
    """Note the starts of `m` words, together: so the processor waits for several places in memory at once."""
    some = 0
    for a in range(m):
        mixed = hashed(keys[a])
        slot = slot_of(mixed, len(words.keys))
        keys[some], starts[some], slots[some] = keys[a], starts[a], slot
        some += words.sieve[slot] >> bit_of(mixed) & 1
    for a in range(some):
        slot = find(words.keys, keys[a], slots[a])
        if words.keys[slot]:
            places[slot] = starts[a]


@compiled
def _point(pointer: Any, at: int, codes: Codes, past: Codes) -> None:
    """Point at a base, if it is known and in the pointer's interval."""
    pointer.at, pointer.letter = at, 0
    if pointer.low <= at < pointer.high:
        pointer.letter = codes[at] if pointer.own else past[at]


@compiled
def _read(
    codes: Codes, intervals: Intervals, low: int, high: int, length: int, words: _Words, past: Codes,
    past_intervals: Intervals, pointers: NDArray[Any], skip_first: bool, out: NDArray[Any],
) -> int:  # fmt: skip
    """Read the bases `low` to `high` of intervals laid end to end, and return how many of them are written to `out`.

    With a second mode, words are noted one base after they are complete, so that none finds itself.
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
                        slot = _slot(words, turned if other else window)
                        found = words.own[slot] if mode else -1
                        pointer.own = found >= 0
                        if not pointer.own:
                            found = words.past[slot]
                        if found >= 0:
                            places = intervals if pointer.own else past_intervals
                            row = np.searchsorted(places[:, 0], found, side="right") - 1
                            pointer.low, pointer.high = places[row, 0], places[row, 1]
                            pointer.history = pointer.failed = pointer.length = pointer.hits = pointer.misses = 0
                            _point(pointer, found + (-1 if other else length), codes, past)
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
            if len(pointers) > 1 and i >= begin and known >= length:
                words.own[_slot(words, window)] = i - length
            known = known + 1 if letter else 0
            digit = np.uint64(letter - 1 & 3)
            window = (window << np.uint64(2) | digit) & ~np.uint64(0) >> np.uint64(62) - top
            turned = turned >> np.uint64(2) | (digit ^ np.uint64(2)) << top
    return n


class Repeats:
    """Pointers to where the last `length` bases (1 to `LONGEST`) occurred before, on either strand.

    They occurred in intervals of a genome, letter ids `codes` (n_bases,), which are kept by reference. A word's latest
    occurrence counts. No pointer goes from one interval into another.
    """

    def __init__(self, codes: Codes, intervals: Intervals, length: int = 16) -> None:
        if not 1 <= length <= LONGEST:
            raise UserError(f"repeats are found by 1 to {LONGEST} bases, got {length}")
        self._codes, self._intervals, self._length = codes, intervals, length

    def along(
        self, codes: Codes, intervals: Intervals, size: int = CHUNK, skip_first: bool = False, adaptive: bool = False
    ) -> Iterator[RepeatChunk]:
        """Yield predictions of the same bases as `Counts.along`, chunk by chunk.

        With `adaptive`, the second mode looks for occurrences in the bases that were read before, too.
        """
        pointers, length = np.zeros((1 + adaptive, 2), dtype=_POINTER), self._length
        for low, high in passes(bases(intervals), max(1, bases(self._intervals)), size):
            slots = 3 * (high - low + len(intervals) + 1)  # two words a base, and one at an interval's end
            places = (np.full(slots, -1) for _ in range(2))
            words = _Words(np.zeros(slots, np.uint64), np.zeros(slots, np.uint8), *places)
            _ask(codes, intervals, low, high, length, words)
            _learn(self._codes, self._intervals, length, words, words.past)
            if adaptive and low:  # a word that goes on is noted one base later
                goes_on = low not in np.cumsum(np.diff(intervals))
                _learn(codes, head(intervals, low - goes_on), length, words, words.own)
            for begin in range(low, high, size):
                end = min(begin + size, high)
                out = np.full((1 + adaptive, 2, end - begin), np.array((-1, 0, 0, 0), dtype=_PREDICTION))
                past = self._codes, self._intervals
                n = _read(codes, intervals, begin, end, length, words, *past, pointers, skip_first, out)
                if n:
                    yield RepeatChunk(*(out[name][:, :, :n].copy() for name in RepeatChunk._fields))
