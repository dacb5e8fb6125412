"""Where planted indels are found: calls by a model's edits, and by a scan for reading frames that are cut in two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genoseq.app.model import genome_of
from genoseq.data.genes import STARTS, open_frames

TOLERANCE = 100
"""Bases from a call to an indel that it finds, at most; calls are as far apart."""
RATES = (0.1, 0.3, 1, 3, 10, 30)
"""False calls per 100,000 bases that recall is given at."""


def apart(calls: pd.DataFrame) -> pd.DataFrame:
    """Return calls, the best first, without those near a better one."""
    calls = calls.sort_values("score", ascending=False, kind="stable")
    taken, kept = np.zeros(int(calls["at"].max()) + 1 if len(calls) else 0, dtype=bool), []
    for at in calls["at"].tolist():
        kept.append(not taken[at])
        if kept[-1]:
            taken[max(at - TOLERANCE, 0) : at + TOLERANCE + 1] = True
    return calls[kept]


def split_frames(text: str, shortest: int = 150) -> pd.DataFrame:
    """Return a call wherever two reading frames of one strand overlap in part: a frameshift makes one into two.

    The first goes from a start to a stop, the second from stop to stop and ends `shortest` bases or more after the
    first, which begins as many before it. The score is the length of the shorter of both; seven others were no better.
    """
    rows = []
    genome = genome_of(text)
    for strand, codes in ((1, genome.codes.numpy()), (-1, genome.reverse_complement().codes.numpy())):
        first = open_frames(codes, 3, STARTS)
        every = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"]
        whole = open_frames(codes, shortest, [codon for codon in every if codon not in ("TAA", "TAG", "TGA")])
        whole = whole[np.argsort(whole[:, 0])]
        for start, end in first.tolist():
            low, high = np.searchsorted(whole[:, 0], [start + shortest, end])
            for begin, stop in whole[low:high].tolist():
                if stop - end >= shortest and (begin - start) % 3:
                    at = (begin + end) // 2
                    at = at if strand > 0 else len(text) - 1 - at
                    rows.append({"at": at, "score": min(end - start, stop - begin)})
    return apart(pd.DataFrame(rows, columns=["at", "score"]))


def recall(calls: pd.DataFrame, places: NDArray[Any], bases: int, rates: Sequence[float] = RATES) -> pd.DataFrame:
    """Return what share of planted indels is found at rates of false calls per 100,000 bases, and how near.

    Parameters
    ----------
    calls : DataFrame
        Columns ``at`` and ``score``, the best first.
    places : ndarray of int, (n,)
        Where indels were planted, sorted.
    """
    at = calls["at"].to_numpy()
    edges = np.clip(np.searchsorted(places, at), 1, len(places) - 1)
    nearest = np.where(at - places[edges - 1] <= places[edges] - at, edges - 1, edges)
    distance = np.abs(at - places[nearest])
    wrong, rows = np.cumsum(distance > TOLERANCE), []
    for rate in rates:
        n = int(np.searchsorted(wrong, rate * bases / 1e5, side="right"))  # calls before one too many is wrong
        hits = pd.Series(distance[:n]).groupby(nearest[:n]).min()
        hits = hits[hits <= TOLERANCE]
        rows.append({"false_per_100kb": rate, "recall": len(hits) / len(places), "median_distance": hits.median()})
    return pd.DataFrame(rows)
