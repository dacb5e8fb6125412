"""How much of the test part the train part already holds, word for word."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from genoseq.baselines.kmers import BLOCK, blocks, known_runs, rolling_canonical

CHUNK = 1 << 18
"""Test k-mers looked up in one pass over the train part, at least."""
PASSES = 32
"""Such passes, at most: beyond CHUNK * PASSES k-mers the chunks grow instead."""

_SIEVE_BITS = 24
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: multiplying by it mixes low digits into the top bits
_SHIFT = np.uint64(64 - _SIEVE_BITS)


def shared_kmers(
    codes: NDArray[np.uint8],
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    k: int = 24,
    block: int = BLOCK,
    chunk: int | None = None,
) -> float:
    """Share of test positions whose k-mer occurs in the train part on either strand; exact.

    A position counts where k known letters in a row start inside their test interval. Repeats and copied genes make
    this share positive on an honest split; random windows drive it towards 1.

    Parameters
    ----------
    codes : ndarray of uint8, shape (n_bases,)
        Letter ids of the genome, A=1 C=2 T=3 G=4, 0 = unknown.
    train, test : ndarray of int64, shape (n, 2)
        Half-open, in bases.
    k : int
        Length of a word in bases, 1-31.
    block : int
        Train bases looked at at a time.
    chunk : int, optional
        Test positions held at a time, 8 bytes each and as much again while they are sorted.

    Returns
    -------
    float
        0-1; nan where no whole k-mer lies in the test part.
    """
    if not 1 <= k <= 31:
        raise ValueError(f"k is {k}, but a k-mer of 1 to 31 bases fits into 64 bits.")
    if chunk is None:
        chunk = max(CHUNK, -int(np.diff(np.asarray(test).reshape(-1, 2)).sum()) // -PASSES)
    shared = total = 0
    for asked in _kmers(codes, test, k, chunk):
        words, copies = np.unique(asked, return_counts=True)
        found = np.zeros(len(words), dtype=np.bool_)
        sieve = np.zeros(1 << _SIEVE_BITS, dtype=np.bool_)
        sieve[_slot(words)] = True
        for seen in _kmers(codes, train, k, block):
            # Most train words are absent from the test part: the flags tell so faster than a search.
            seen = np.sort(seen[sieve[_slot(seen)]])
            at = np.searchsorted(words, seen)
            at[at == len(words)] = 0
            found[at[words[at] == seen]] = True
        shared += int(copies[found].sum())
        total += len(asked)
    return shared / total if total else float("nan")


def _kmers(codes: NDArray[np.uint8], intervals: NDArray[np.int64], k: int, size: int) -> Iterator[NDArray[np.uint64]]:
    """Canonical numbers of the whole k-mers of intervals, those that end at up to `size` bases at a time."""
    for letters, owner in blocks(codes, intervals, size, overlap=max(1, k - 1)):
        whole = (owner >= 0) & (known_runs(letters) >= k)
        words = rolling_canonical(letters, k)[whole[k - 1 :]]
        if len(words):
            yield words


def _slot(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return (words * _SPREAD) >> _SHIFT
