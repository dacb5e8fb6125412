"""Characters, overlapping k-mers or disjoint k-mers? Test bits per base by kind of token: table and figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from experiments import common

KINDS = ("characters", "overlapping", "disjoint")
COLUMNS = [
    *("name", "tokens", "k", "stride", "seed", "train/steps", "train/tokens", "train/bases", "val/bits_per_base"),
    *("test/bits_per_base", "test/accuracy", "baseline/order", "baseline/bits_per_base", "baseline/accuracy"),
    *("imm/bits_per_base", "imm/accuracy", "model/parameters", "train/tokens_per_second", "seconds"),
]


def record(sweep: Path) -> common.Tables:
    """Return a row a run."""
    runs = common.finished_runs(sweep)
    runs["k"], runs["stride"] = runs["tokens/k"], runs["tokens/stride"]
    kinds = np.select([runs["k"] == 1, runs["stride"] == 1], KINDS[:2], KINDS[2])
    runs["tokens"] = pd.Categorical(kinds, KINDS)
    runs["train/tokens"] = common.training_tokens(runs)
    runs["train/bases"] = runs["train/tokens"] * runs["tokens/stride"]  # each as often as it was read
    return {"results.csv": runs.sort_values(["tokens", "k", "seed"]).reindex(columns=COLUMNS)}


def table(data: common.Tables) -> str:
    """Return the table of the README."""
    results = data["results.csv"]
    rows = []
    for (tokens, k), runs in results.groupby(["tokens", "k"], sort=False):
        rows.append(
            {
                "tokens": tokens if k == 1 else f"{k}-mers, {tokens}",
                "classes": f"{4**k:,}",
                "test bits per base": common.mean_error(runs["test/bits_per_base"]),
                "training bases read (millions)": f"{runs['train/bases'].iloc[0] / 1e6:.1f}",
                "accuracy (%)": f"{100 * runs['test/accuracy'].mean():.2f}",
                "seconds": f"{runs['seconds'].mean():.0f}",
            }
        )
    for key, label in common.baselines(results).items():
        bits, accuracy = (results[f"{key}/{name}"].mean() for name in ("bits_per_base", "accuracy"))
        rows.append({"tokens": label, "test bits per base": f"{bits:.4f}", "accuracy (%)": f"{100 * accuracy:.2f}"})
    return common.markdown(rows)


def draw(data: common.Tables, out: Path) -> None:
    """Draw test bits per base by k, a line a kind of k-mer; characters begin both lines."""
    results = data["results.csv"]
    kinds = [kind for kind in KINDS[1:] if kind in set(results["tokens"])]
    points = pd.concat(
        [results[results["tokens"].isin([kind, KINDS[0]])].assign(tokens=f"{kind} k-mers") for kind in kinds]
    )
    figure, axes = common.new_figure()
    bars = {"errorbar": "se", "err_style": "bars", "err_kws": {"capsize": 5}}
    common.draw_lines(axes, points, "k", "test/bits_per_base", "tokens", **bars)
    characters = results[results["tokens"] == KINDS[0]]["test/bits_per_base"]
    if not characters.empty:
        mean, error = characters.mean(), characters.sem()
        axes.errorbar(1, mean, error, color="black", fmt="D", markersize=9, capsize=5, label=KINDS[0])
    common.draw_baselines(axes, results)
    tokens = results["train/tokens"].mean() / 1e6
    axes.set(
        title=f"{tokens:.2g} million training tokens a run",
        xlabel="k (bases a token)",
        ylabel="test bits per base",
        xticks=sorted(points["k"].unique()),
    )
    common.legend_below(figure, axes, columns=2)
    common.save(figure, out / "figure.png")


if __name__ == "__main__":
    common.run_study(__file__, record, table, draw)
