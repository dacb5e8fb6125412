"""Leakage: how much of the test part the training part already holds, by position and by k-mer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genoseq.baselines.counts import Codes, Counts
from genoseq.data.coverage import covered, windows_over
from genoseq.data.intervals import Intervals, bases, intersect
from genoseq.data.split import Parts

if TYPE_CHECKING:
    from genoseq.data.datamodule import GenomeData

BLOCK = 1 << 18
"""Positions whose windows are counted at a time."""


def leakage(data: GenomeData) -> dict[str, float]:
    """Return ``leakage/positions`` and ``leakage/shared_kmers`` of a split, shares of test positions.

    A 24-mer counts once, and only where windows of one part cover the whole of it; of a long test part, those of what
    is scored.
    """
    train, test = (covered(data.scored_parts, stage, data.span) for stage in ("train", "test"))
    return {
        "leakage/positions": covered_positions(data.parts, data.span),
        "leakage/shared_kmers": shared_kmers(data.genome.codes.numpy(), train, test),
    }


def leakage_on_other_genome(training_data: GenomeData, data: GenomeData) -> dict[str, float | str | None]:
    """Return the leakage of the training part of `training_data` into the test part of other data.

    Positions are compared where the sequence of `data` begins with that of `training_data`: the same genome, or the
    whole of an excerpt. Otherwise ``leakage/positions`` is None, and ``leakage/note`` says why.
    """
    known, codes = training_data.genome.codes.numpy(), data.genome.codes.numpy()
    train, test = covered(training_data.parts, "train", training_data.span), data.scored_parts.test
    shared = shared_kmers(np.concatenate([known, codes]), train, test + len(known))
    if np.array_equal(known, codes[: len(known)]):
        return {"leakage/positions": bases(intersect(test, train)) / bases(test), "leakage/shared_kmers": shared}
    note = "the training genome is another sequence: positions cannot be compared, 24-mers can"
    return {"leakage/positions": None, "leakage/shared_kmers": shared, "leakage/note": note}


def covered_positions(parts: Parts, span: int) -> float:
    """Return the share of test positions, each counted once for every test window over it, inside a training window.

    Where the split is made of intervals this is their overlap, 0 unless the split is broken. Where windows of `span`
    bases are split (``random_windows``), every window start is hashed and the windows over each position are counted.
    """
    if not parts.splits_windows:
        return bases(intersect(parts.test, parts.train)) / max(1, bases(parts.test))
    inside = total = 0
    for first, last in parts.test.tolist():
        for lo in range(first, last, BLOCK):
            hi = min(lo + BLOCK, last)
            train, test = (windows_over(parts, stage, span, lo, hi) for stage in ("train", "test"))
            inside += int(test[train > 0].sum())
            total += int(test.sum())
    return inside / total if total else float("nan")


def shared_kmers(codes: Codes, train: Intervals, test: Intervals, k: int = 24) -> float:
    """Return the share of test positions whose k-mer occurs in the train part on either strand; exact.

    A position counts where k known letters in a row end inside their test interval; nan where none does. Repeats and
    copied genes make this share positive on an honest split; random windows drive it towards 1.

    Parameters
    ----------
    codes : ndarray of uint8, shape (n_bases,)
        Letter ids of the genome, A=1 C=2 T=3 G=4, 0 = unknown.
    k : int
        Length of a k-mer in bases, at most 25.
    """
    shared = total = 0
    for asked in Counts(codes, train, [k - 1], both_strands=True).along(codes, test):
        shared += int(np.count_nonzero(asked.times))  # as often as its last letter follows the k - 1 before it
        total += int(np.count_nonzero(asked.depth == k - 1))
    return shared / total if total else float("nan")
