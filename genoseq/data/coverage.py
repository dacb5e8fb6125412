"""Which bases the windows of each part cover."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from genoseq.data.intervals import Intervals, as_intervals
from genoseq.data.split import Parts

BLOCK = 1 << 18  # positions looked at at a time


def windows_over(parts: Parts, stage: str, span: int, lo: int, hi: int) -> NDArray[np.int64]:
    """Return how many windows (`span` bases) of `stage` lie over each position from `lo` to `hi` - 1.

    For ``random_windows``, whose window starts are hashed anew; the positions are those of one interval.
    """
    intervals = parts.of(stage)
    first, last = intervals[np.searchsorted(intervals[:, 0], lo, side="right") - 1].tolist()
    begin = max(first, lo - span + 1)  # of the first window that reaches lo
    starts = np.arange(begin, max(begin, min(hi, last - span + 1)))
    running = np.concatenate([[0], np.cumsum(parts.accepts(stage, starts))])
    position = np.arange(lo, hi)
    since, until = (np.clip(edge - begin, 0, len(starts)) for edge in (position - span + 1, position + 1))
    return np.asarray(running[until] - running[since])


def covered(parts: Parts, stage: str, span: int, block: int = BLOCK) -> Intervals:
    """Return the bases that windows of `stage` cover: its intervals, or where windows are split, their union.

    Windows that touch make one interval.
    """
    if not parts.splits_windows:
        return parts.of(stage)
    pairs: list[tuple[int, int]] = []
    for first, last in parts.of(stage).tolist():
        for lo in range(first, last, block):
            under = windows_over(parts, stage, span, lo, min(lo + block, last)) > 0
            edges = lo + np.flatnonzero(np.diff(under, prepend=False, append=False))
            for a, b in edges.reshape(-1, 2).tolist():
                if pairs and pairs[-1][1] == a > first:
                    a = pairs.pop()[0]
                pairs.append((a, b))
    return as_intervals(pairs)


def with_context(parts: Parts, intervals: Intervals, lead: int) -> Intervals:
    """Return what `covered` found, where windows are split with up to `lead` bases before each interval added."""
    if not parts.splits_windows or not len(intervals):
        return intervals
    whole = parts.train
    first = whole[np.searchsorted(whole[:, 0], intervals[:, 0], side="right") - 1, 0]
    start, end = np.maximum(first, intervals[:, 0] - lead), intervals[:, 1]
    apart = start[1:] >= end[:-1]
    return np.stack([start[np.append(True, apart)], end[np.append(apart, True)]], axis=1)
