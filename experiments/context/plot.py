"""Does longer context help? Test bits per base by window and by the tokens read before: table and figure."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from experiments import common

BINS_PER_DECADE = 7
MIN_SHARE = 0.003  # of a window's predictions that a bin needs to be drawn: fewer are too noisy
COLUMNS = [
    *("name", "data.seq_len", "seed", "data.batch_size", "train/steps", "train/tokens", "val/bits_per_base"),
    *("test/bits_per_base", "last_tenth/bits_per_base", "baseline/order", "baseline/bits_per_base"),
    *("imm/bits_per_base", "train/tokens_per_second", "seconds"),
]


def record(sweep: Path) -> common.Tables:
    """Return a row a run, and the bits per base of each window by the tokens read before."""
    runs = common.finished_runs(sweep)
    positions = read_positions(runs)
    runs["data.seq_len"] = common.configured(runs, "data.seq_len")
    runs["data.batch_size"] = common.configured(runs, "data.batch_size")
    runs["train/tokens"] = common.training_tokens(runs)
    runs["last_tenth/bits_per_base"] = runs["name"].map(last_tenth(positions))
    results = runs.sort_values(["data.seq_len", "seed"]).reindex(columns=COLUMNS)
    return {"results.csv": results, "positions.csv": binned(positions)}


def read_positions(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs' ``positions.csv``: a row for each run and number of tokens read since the zero state."""
    frames = []
    for run in runs.to_dict("records"):
        hint = "train the study's runs with experiment=context, or add positions=10"
        frame = pd.read_csv(common.run_file(run["folder"], "positions.csv", hint))
        frames.append(frame.assign(name=run["name"], bits=frame["n"] * frame["bits_per_base"], seq_len=len(frame)))
    return pd.concat(frames, ignore_index=True)


def last_tenth(positions: pd.DataFrame) -> pd.Series:
    """Return bits per base of the last tenth of the window, by run."""
    first = positions["seq_len"] - (positions["seq_len"] // 10).clip(lower=1) + 1
    sums = positions[positions["position"] >= first].groupby("name")[["bits", "n"]].sum()
    return sums["bits"] / sums["n"]


def binned(positions: pd.DataFrame) -> pd.DataFrame:
    """Return bits per base, mean and standard error over seeds, by window and by bins of positions.

    The bins are equally wide on a logarithmic axis and the same for all windows.
    """
    longest = positions["seq_len"].max()
    count = max(2, round(BINS_PER_DECADE * math.log10(longest + 1)) + 1)
    edges = np.unique(np.geomspace(1, longest + 1, count).round()).astype(int)
    first = edges[np.searchsorted(edges, positions["position"], side="right") - 1]
    by_run = positions.assign(first=first).groupby(["seq_len", "first", "name"])
    by_run = by_run.agg(last=("position", "max"), n=("n", "sum"), bits=("bits", "sum"))
    by_run["bits"] /= by_run["n"]
    bins = by_run.groupby(["seq_len", "first"]).agg(
        last=("last", "max"), n=("n", "sum"), bits_per_base=("bits", "mean"), standard_error=("bits", "sem")
    )
    return bins.reset_index().rename(columns={"seq_len": "data.seq_len"})


def table(data: common.Tables) -> str:
    """Return the table of the README."""
    results = data["results.csv"]
    rows = [
        {
            "window (tokens)": f"{seq_len:,}",
            "windows a step": f"{runs['data.batch_size'].iloc[0]:,}",
            "steps": f"{runs['train/steps'].iloc[0]:,}",
            "test bits per base, whole window": common.mean_error(runs["test/bits_per_base"]),
            "test bits per base, last tenth of the window": common.mean_error(runs["last_tenth/bits_per_base"]),
        }
        for seq_len, runs in results.groupby("data.seq_len")
    ]
    for key, label in common.baselines(results).items():
        bits = f"{results[f'{key}/bits_per_base'].mean():.4f}"
        rows.append({"window (tokens)": label, "test bits per base, whole window": bits})
    return common.markdown(rows)


def draw(data: common.Tables, out: Path) -> None:
    """Draw test bits per base by the tokens read since the zero state, a line a window."""
    points, results = data["positions.csv"], data["results.csv"]
    points = points[points["n"] >= MIN_SHARE * points.groupby("data.seq_len")["n"].transform("sum")]
    points = points.assign(
        window=points["data.seq_len"].map("window of {:,}".format), read=np.sqrt(points["first"] * points["last"])
    )
    figure, axes = common.new_figure()
    common.draw_lines(axes, points, "read", "bits_per_base", "window", dashes=False, palette="Dark2")
    common.draw_baselines(axes, results)
    tokens = results["train/tokens"].mean() / 1e6
    axes.set(
        title=f"Windows from the zero state, {tokens:.2g} million training tokens each",
        xlabel="tokens (bases) read since the zero state",
        ylabel="test bits per base",
        xscale="log",
    )
    axes.xaxis.set_major_formatter("{x:,.0f}")
    common.legend_below(figure, axes, columns=3)
    common.save(figure, out / "figure.png")


if __name__ == "__main__":
    common.run_study(__file__, record, table, draw)
