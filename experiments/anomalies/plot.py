"""Which anomalies does a track see, how soon, and at how many false alarms?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from experiments import common
from experiments.anomalies.measure import LENGTH, WINDOW

RATES = (1, 3, 10, 30, 100)
"""False alarms in a million bases that a threshold is set for."""


def record(sweep: Path) -> common.Tables:
    """Return how many anomalies each method finds at each rate of false alarms."""
    runs = common.finished_runs(sweep)
    folder = runs["folder"].iloc[0]
    hint = "run measure.py first"
    windows, planted = (pd.read_csv(common.run_file(folder, f"{name}.csv", hint)) for name in ("windows", "planted"))
    return {"results.csv": found(windows, planted)}


def found(windows: pd.DataFrame, planted: pd.DataFrame) -> pd.DataFrame:
    """Return a row a method, rate and kind: the share that is found, and the bases until it is.

    An alarm is a window above the threshold; alarms that overlap count once. False is one that no anomaly touches; an
    anomaly is found at the end of the first alarm that overlaps it.
    """
    start = windows["start"].to_numpy()
    low, high = planted["start"].to_numpy(), planted["end"].to_numpy()
    near = ((start[:, None] < high) & (start[:, None] + WINDOW > low)).any(1)
    clean = (~near).sum() / len(start) * (start[-1] + WINDOW)  # bases
    rows = []
    for method in windows.columns[1:]:
        score = windows[method].to_numpy()
        for rate in RATES:
            threshold = threshold_of(start[~near], score[~near], rate * clean / 1e6)
            alarms = start[score > threshold] + WINDOW
            hit = (alarms[:, None] > low) & (alarms[:, None] - WINDOW < high)
            seen = np.where(hit.any(0), np.where(hit, alarms[:, None], 2**60).min(0, initial=2**60) - low, -1)
            for kind, some in planted.assign(delay=seen).groupby("kind"):
                delays = some.loc[some["delay"] >= 0, "delay"]
                row = {"kind": kind, "method": method, "false_alarms_per_Mb": rate, "planted": len(some)}
                rows.append(row | {"found": len(delays) / len(some), "median_bases": delays.median()})
    return pd.DataFrame(rows)


def threshold_of(start: np.ndarray, score: np.ndarray, allowed: float) -> float:
    """Return the lowest threshold that at most `allowed` groups of overlapping windows exceed."""
    low, high = float(score.min()), float(score.max())
    for _ in range(40):
        middle = (low + high) / 2
        alarms = start[score > middle]
        groups = int((np.diff(alarms) >= WINDOW).sum()) + (len(alarms) > 0)
        low, high = (middle, high) if groups > allowed else (low, middle)
    return high


def table(data: common.Tables) -> str:
    """Return the table of the README: the share found and the median delay at ten false alarms per Mb."""
    results, rows = data["results.csv"], []
    for kind, some in results.groupby("kind"):
        row = {"planted": f"{some['planted'].iloc[0]} {kind}"}
        for rate in (10, 100):
            for method, part in some[some["false_alarms_per_Mb"] == rate].groupby("method", sort=False):
                (one,) = part.itertuples()
                delay = "" if pd.isna(one.median_bases) else f", {one.median_bases:,.0f} bases"
                row[f"{method}, at {rate}"] = f"{100 * one.found:.0f} %{delay}"
        rows.append(row)
    return common.markdown(rows)


def draw(data: common.Tables, out: Path) -> None:
    """Draw the share that is found by the rate of false alarms, a panel a method."""
    results = data["results.csv"].assign(found=100 * data["results.csv"]["found"])
    methods = results["method"].unique()
    figure, axes = common.new_figure(len(methods), height=5, sharey=True)
    for ax, method in zip(axes, methods, strict=True):
        common.draw_lines(ax, results[results["method"] == method], "false_alarms_per_Mb", "found", "kind")
        ax.set(xscale="log", title=method, xlabel="false alarms per Mb", ylabel=f"found, of {LENGTH:,} bases each (%)")
        if ax is not axes[-1]:
            ax.get_legend().remove()
    common.legend_below(figure, axes[-1], 5)
    common.save(figure, out / "figure.png")


if __name__ == "__main__":
    common.run_study(__file__, record, table, draw)
