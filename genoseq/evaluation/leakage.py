"""Leakage: how much of the test part the training part already holds, by position and by k-mer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from genoseq.baselines.kmers import BLOCK, blocks, known_runs, rolling_canonical
from genoseq.data.coverage import covered, windows_over
from genoseq.data.intervals import bases, intersect
from genoseq.data.split import Parts

if TYPE_CHECKING:
    from genoseq.data.datamodule import GenomeData

CHUNK = 1 << 18
"""Test k-mers looked up in one pass over the train part, at least."""
PASSES = 32
"""Such passes, at most: beyond CHUNK * PASSES k-mers the chunks grow instead."""

_SIEVE_BITS = 24
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: multiplying by it mixes low digits into the top bits
_SHIFT = np.uint64(64 - _SIEVE_BITS)


def leakage(data: GenomeData) -> dict[str, float]:
    """Return ``leakage/positions`` and ``leakage/shared_kmers`` of a split, shares of test positions.

    A 24-mer counts once, and only where windows of one part cover the whole of it.
    """
    train, test = (covered(data.parts, stage, data.span) for stage in ("train", "test"))
    return {
        "leakage/positions": covered_positions(data.parts, data.span),
        "leakage/shared_kmers": shared_kmers(data.genome.codes.numpy(), train, test),
    }


def leakage_elsewhere(home: GenomeData, data: GenomeData) -> dict[str, float | str | None]:
    """Return the leakage of the training part of `home` into the test part of other data.

    Positions are compared where the sequence of `data` begins with that of `home`: the same genome, or the whole of an
    excerpt. Otherwise ``leakage/positions`` is None, and ``leakage/note`` says why.
    """
    known, codes = home.genome.codes.numpy(), data.genome.codes.numpy()
    train, test = covered(home.parts, "train", home.span), data.parts.test
    shared = shared_kmers(np.concatenate([known, codes]), train, test + len(known))
    if np.array_equal(known, codes[: len(known)]):
        return {"leakage/positions": bases(intersect(test, train)) / bases(test), "leakage/shared_kmers": shared}
    note = "the training genome is another sequence: positions cannot be compared, 24-mers can"
    return {"leakage/positions": None, "leakage/shared_kmers": shared, "leakage/note": note}


def covered_positions(parts: Parts, span: int, block: int = BLOCK) -> float:
    """Share of test positions that lie inside some training window.

    Parameters
    ----------
    parts : Parts
    span : int
        Bases a window.
    block : int
        Positions looked at at a time.

    Returns
    -------
    float
        0-1; each position counts once for every test window over it.

    Notes
    -----
    Where the split is made of intervals this is their overlap, 0 unless the split is broken. Where windows themselves
    are split (``random_windows``) every window start is hashed and the windows over each position are counted.
    """
    if not parts.splits_windows:
        return bases(intersect(parts.test, parts.train)) / max(1, bases(parts.test))
    inside = total = 0
    for first, last in parts.test.tolist():
        for lo in range(first, last, block):
            hi = min(lo + block, last)
            train, test = (windows_over(parts, stage, span, lo, hi) for stage in ("train", "test"))
            inside += int(test[train > 0].sum())
            total += int(test.sum())
    return inside / total if total else float("nan")


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
        Length of a k-mer in bases, 1-31.
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
        kmers, copies = np.unique(asked, return_counts=True)
        found = np.zeros(len(kmers), dtype=np.bool_)
        sieve = np.zeros(1 << _SIEVE_BITS, dtype=np.bool_)
        sieve[_slot(kmers)] = True
        for seen in _kmers(codes, train, k, block):
            # most training k-mers are absent from the test part: the flags tell so faster than a search
            seen = np.sort(seen[sieve[_slot(seen)]])
            at = np.searchsorted(kmers, seen)
            at[at == len(kmers)] = 0
            found[at[kmers[at] == seen]] = True
        shared += int(copies[found].sum())
        total += len(asked)
    return shared / total if total else float("nan")


def _kmers(codes: NDArray[np.uint8], intervals: NDArray[np.int64], k: int, size: int) -> Iterator[NDArray[np.uint64]]:
    """Canonical numbers of the whole k-mers of intervals, those that end at up to `size` bases at a time."""
    for letters, owner in blocks(codes, intervals, size, overlap=max(1, k - 1)):
        whole = (owner >= 0) & (known_runs(letters) >= k)
        kmers = rolling_canonical(letters, k)[whole[k - 1 :]]
        if len(kmers):
            yield kmers


def _slot(kmers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return (kmers * _SPREAD) >> _SHIFT
