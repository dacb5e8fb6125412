"""Alleles to ask a model about without a file of variants: edits of homopolymers, and substitutions."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from genoseq.data.genome import BASES, Genome
from genoseq.data.intervals import Intervals, inside
from genoseq.evaluation.haplotypes import Changes, Codes

SHORTEST = 3
"""Shortest run of one letter that is edited, in bases."""
_RUN = re.compile(b"|".join(b"%c{%d,}" % (code, SHORTEST) for code in range(1, 5)), re.DOTALL)


def changes_in(
    genome: Genome, start: NDArray[np.int64], ref: NDArray[np.int64], alt: list[Codes], downstream: int
) -> Changes:
    """Return alleles of a genome's own strand; see `Changes`."""
    first = np.array([record.start for record in genome.records])
    ends = np.array([record.end for record in genome.records])
    record = np.searchsorted(first, start, side="right") - 1
    return Changes(genome.codes.numpy(), first[record], ends[record], start, ref, alt, downstream)


def homopolymer_edits(genome: Genome, intervals: Intervals, downstream: int) -> Changes:
    """Return every lengthening and shortening by one base of every run of one letter that lies in intervals.

    Returns
    -------
    Changes
        Of each run the shortening, then the lengthening, at its first base.
    """
    codes = genome.codes.numpy()
    starts = []
    for record in genome.records:
        starts += [found.start() for found in _RUN.finditer(codes.data, record.start, record.end)]
    start = np.array(starts, dtype=np.int64)
    # the window's last base too, so that what is scored is held out
    start = start[inside(intervals, start) & inside(intervals, start + downstream)]
    alt = [each for i in start.tolist() for each in (codes[:0], codes[i : i + 1])]
    return changes_in(genome, start.repeat(2), np.tile([1, 0], len(start)), alt, downstream)


def saturation(genome: Genome, start: int, end: int, downstream: int) -> Changes:
    """Return the three substitutions of every known base from `start` to `end`."""
    codes = genome.codes.numpy()
    at = np.arange(start, end)[codes[start:end] > 0].repeat(3)
    turn = np.tile([1, 2, 3], len(at) // 3)
    alt = ((codes[at] - 1 + turn) % 4 + 1).astype(np.uint8)
    return changes_in(genome, at, np.ones_like(at), list(alt[:, None]), downstream)


def random_substitutions(genome: Genome, intervals: Intervals, each: int, seed: int, downstream: int) -> Changes:
    """Return up to `each` substitutions of each of the twelve kinds, at random places of intervals.

    Returns
    -------
    Changes
        Sorted by kind, reference base before alternative, in the order A, C, T, G.
    """
    codes, rng = genome.codes.numpy(), np.random.default_rng(seed)
    ends = np.cumsum(np.diff(intervals))
    drawn = np.unique(rng.integers(0, ends[-1], 20 * each))
    row = np.searchsorted(ends, drawn, side="right")
    at = rng.permutation(drawn - ends[row] + intervals[row, 1])
    pairs = [(a, b) for a in range(1, 5) for b in range(1, 5) if a != b]
    chosen = [at[codes[at] == a][:each] for a, _ in pairs]
    alt = [np.array([b], dtype=np.uint8) for (_, b), some in zip(pairs, chosen, strict=True) for _ in range(len(some))]
    start = np.concatenate(chosen)
    return changes_in(genome, start, np.ones_like(start), alt, downstream)


def letters_of(codes: Codes) -> str:
    """Return letter ids as letters, N for an unknown one."""
    return "".join(("N" + BASES)[code] for code in codes.tolist())
