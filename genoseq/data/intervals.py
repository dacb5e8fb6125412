"""Intervals of a genome: int64 arrays (n, 2), half-open, in bases, sorted, not overlapping."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genoseq.data.genome import UNKNOWN, Genome

Intervals = NDArray[np.int64]


def as_intervals(pairs: Sequence[tuple[int, int]]) -> Intervals:
    """Return sorted int64 (n, 2) intervals from (start, stop) pairs, empty ones left out."""
    kept = sorted((int(a), int(b)) for a, b in pairs if b > a)
    return np.array(kept, dtype=np.int64).reshape(-1, 2)


def bases(intervals: Intervals) -> int:
    """Return the number of bases that `intervals` (n, 2) cover."""
    return int((intervals[:, 1] - intervals[:, 0]).sum())


def intersect(a: Intervals, b: Intervals) -> Intervals:
    """Return the overlap of two sorted lists of non-overlapping intervals."""
    out, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        out.append((max(a[i, 0], b[j, 0]), min(a[i, 1], b[j, 1])))
        if a[i, 1] < b[j, 1]:
            i += 1
        else:
            j += 1
    return as_intervals(out)


def subtract(a: Intervals, b: Intervals) -> Intervals:
    """Return what sorted intervals `a` cover and sorted intervals `b` do not."""
    if not len(a) or not len(b):
        return a
    edges = [int(a[0, 0]), *b.flatten().tolist(), int(a[-1, 1])]
    return intersect(a, as_intervals(list(zip(edges[::2], edges[1::2], strict=True))))


def inside(intervals: Intervals, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which positions (n,) lie in sorted intervals."""
    if not len(intervals):
        return np.zeros(len(positions), dtype=bool)
    row = np.searchsorted(intervals[:, 0], positions, side="right") - 1
    within: NDArray[np.bool_] = (row >= 0) & (positions < intervals[row, 1])
    return within


def overlap(intervals: Intervals, start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many bases of each stretch from `start` to `end` (n,) lie in sorted intervals, (n,)."""
    before = np.concatenate([[0], np.cumsum(np.diff(intervals))])  # bases of the intervals before each

    def up_to(position: NDArray[np.int64]) -> NDArray[np.int64]:
        row = np.searchsorted(intervals[:, 0], position, side="right") - 1  # -1: before the first
        past = np.clip(position - intervals[row, 0], 0, intervals[row, 1] - intervals[row, 0])
        return np.where(row < 0, 0, before[row] + past)

    return up_to(end) - up_to(start) if len(intervals) else np.zeros(len(start), dtype=np.int64)


def spread(intervals: Intervals, most: int, piece: int = 4096) -> tuple[Intervals, NDArray[np.int64]]:
    """Return evenly spread pieces of intervals, `most` bases in all; the intervals themselves if they hold no more.

    Parameters
    ----------
    piece : int
        Length of a piece in bases, before it is cut at an interval's edge.

    Returns
    -------
    pieces : ndarray of int64, shape (m, 2)
    row : ndarray of int64, shape (m,)
        Row of `intervals` that each piece lies in.
    """
    total = bases(intervals)
    if total <= most:
        return intervals, np.arange(len(intervals))
    # lay the intervals end to end, cut pieces out of that line, and cut those again where two intervals meet
    ends = np.cumsum(np.diff(intervals))
    begins = ends - np.diff(intervals)[:, 0]
    piece = max(1, min(piece, most))
    number = most // piece
    starts = np.arange(number) * total // number
    pieces = intersect(np.stack([starts, starts + piece], axis=1), np.stack([begins, ends], axis=1))
    row = np.searchsorted(ends, pieces[:, 0], side="right")
    return pieces + (intervals[row, :1] - begins[row, None]), row


def usable(genome: Genome, unknown_run: int) -> Intervals:
    """Return the genome's records without their runs of at least `unknown_run` unknown letters."""
    # the first of the run apart: the search is for a fixed byte then, and thirty times as fast
    run = re.compile(rb"%c%c{%d,}" % (UNKNOWN, UNKNOWN, min(unknown_run - 1, len(genome))))
    codes = genome.codes.numpy().data
    out: list[tuple[int, int]] = []
    for record in genome.records:
        inner = [edge for found in run.finditer(codes, record.start, record.end) for edge in found.span()]
        edges = [record.start, *inner, record.end]
        out += zip(edges[::2], edges[1::2], strict=True)
    return as_intervals(out)


def cut_tail(intervals: Intervals, amount: int, gap: int) -> tuple[Intervals, Intervals]:
    """Cut the last `amount` bases off `intervals`, and `gap` more bases before them, if they touch, away."""
    left = amount
    for i in range(len(intervals) - 1, -1, -1):
        a, b = int(intervals[i, 0]), int(intervals[i, 1])
        if b - a >= left:
            cut = b - left
            tail = as_intervals([(cut, b), *map(tuple, intervals[i + 1 :])])
            head = as_intervals([*map(tuple, intervals[:i]), (a, cut - gap)])
            return head, tail
        left -= b - a
    return as_intervals([]), intervals
