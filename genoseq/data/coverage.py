"""How much of the test part lies under training windows."""

from __future__ import annotations

import numpy as np

from genoseq.data.intervals import bases, intersect
from genoseq.data.split import Parts

BLOCK = 1 << 18  # positions looked at at a time


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
    if not parts.leaks:
        return bases(intersect(parts.test, parts.train)) / max(1, bases(parts.test))
    inside = total = 0
    for first, last in parts.test.tolist():
        for lo in range(first, last, block):
            hi = min(lo + block, last)
            # windows over lo … hi - 1 start from lo - span + 1 on
            starts = np.arange(max(first, lo - span + 1), max(first, min(hi, last - span + 1)))
            over = {}
            for stage in ("train", "test"):
                running = np.concatenate([[0], np.cumsum(parts.accepts(stage, starts))])
                position = np.arange(lo, hi)
                begin = np.clip(position - span + 1 - (starts[0] if len(starts) else 0), 0, len(starts))
                end = np.clip(position + 1 - (starts[0] if len(starts) else 0), 0, len(starts))
                over[stage] = running[end] - running[begin]
            inside += int(over["test"][over["train"] > 0].sum())
            total += int(over["test"].sum())
    return inside / total if total else float("nan")
