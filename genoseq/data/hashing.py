"""Randomness as a function: keyed hashes and permutations of counters, nothing to store.

The mixing function is SplitMix64's finaliser (Steele, Lea and Flood, 2014).
"""

from __future__ import annotations

import functools
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

U64 = NDArray[np.uint64]


class Stream(IntEnum):
    """What random numbers are drawn for: the second part of every key, so that no two draws are correlated."""

    BLOCKS = 1
    RANDOM_WINDOWS = 2
    TRAINING_WINDOWS = 3
    STRAND = 4
    EVALUATION_WINDOWS = 5
    DROPOUT = 6


def mix(x: U64) -> U64:
    """Return the SplitMix64 hash of each unsigned 64-bit number in `x` (same shape)."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


@functools.lru_cache(maxsize=4096)
def _state(key: tuple[int, ...]) -> np.uint64:
    """Hash a key, part by part."""
    state = np.zeros(1, dtype=np.uint64)
    for part in key:
        state = mix(state ^ np.uint64(part % 2**64))
    return np.uint64(state[0])


def hash64(key: tuple[int, ...], counter: ArrayLike) -> U64:
    """Return one 64-bit number a counter, shape of `counter`, as a function of (key, counter) alone."""
    return mix(np.asarray(counter).astype(np.uint64) ^ _state(key))


def uniform(key: tuple[int, ...], counter: ArrayLike) -> NDArray[np.float64]:
    """Return one number in [0, 1) a counter, as a function of (key, counter) alone."""
    return np.asarray((hash64(key, counter) >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def permute(key: tuple[int, ...], index: ArrayLike, n: int) -> NDArray[np.int64]:
    """Return the images of `index` under a keyed permutation of 0 … n − 1.

    A balanced Feistel network over the next even number of bits, walked along its cycle until it is back below n
    (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). At most four walks are expected.

    Parameters
    ----------
    key : tuple of int
    index : array_like
        Integers in [0, n).
    n : int
        Size of the domain, at least 1.
    """
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    x = np.asarray(index).astype(np.uint64)
    pending = np.ones(x.shape, dtype=bool)
    while pending.any():
        left, right = x[pending] >> half, x[pending] & mask
        for r in range(4):
            left, right = right, left ^ (hash64((*key, r), right) & mask)
        x[pending] = (left << half) | right
        pending = x >= np.uint64(n)
    return x.astype(np.int64)
