"""What does memory alone score, by how far apart windows start that are split at random? Table and figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from experiments import common

SHOWN = (6, 12, 16)  # orders in the table
COLUMNS = [
    *("genome", "bases", "split", "window_stride", "model", "order", "accuracy", "bits_per_base"),
    *("leakage/positions", "leakage/shared_kmers", "baseline/order", "train/steps", "seconds", "seed"),
]


def record(sweep: Path) -> common.Tables:
    """Return a row for each run and model: Markov models of every order, the interpolated one, chance and the LSTM."""
    runs = common.finished_runs(sweep)
    named = {"genome/name": "genome", "genome/bases": "bases", "split/name": "split"}
    runs = runs.rename(columns={**named, "split/window_stride": "window_stride"})
    frames = []
    for run in runs.to_dict("records"):
        orders = pd.read_csv(common.run_file(run["folder"], "orders.csv", "train the runs with baseline=all"))
        orders["model"] = "markov"
        others = {"imm": "imm", "chance": "chance"}
        if run["train/steps"] > 1:  # else the network is a bystander
            others["LSTM"] = "test"
        rows = [
            {"model": model, "accuracy": run[f"{key}/accuracy"], "bits_per_base": run[f"{key}/bits_per_base"]}
            for model, key in others.items()
        ]
        scores = pd.concat([orders, pd.DataFrame(rows)], ignore_index=True)
        frames.append(scores.assign(**{key: run.get(key) for key in COLUMNS if key not in scores}))
    results = pd.concat(frames).astype({"window_stride": "Int64", "order": "Int64"})
    return {
        "results.csv": results.sort_values(["bases", "window_stride"], ascending=[False, True]).reindex(columns=COLUMNS)
    }


def size(bases: int) -> str:
    """Return the length of a genome."""
    return f"{bases / 1e6:.2f} Mb" if bases >= 1e6 else f"{bases / 1e3:.3g} kb"


def pair(scores: pd.DataFrame) -> str:
    """Return accuracy (%) / bits per base of the first model, a dash if there is none."""
    pairs = zip(scores["accuracy"], scores["bits_per_base"], strict=True)
    return next((f"{100 * accuracy:.1f} / {bits:.3f}" for accuracy, bits in pairs), "–")


def table(data: common.Tables) -> str:
    """Return the table of the README, a row a genome and split."""
    rows = []
    by = ["bases", "split", "window_stride"]
    for (bases, split, stride), scores in data["results.csv"].groupby(by, dropna=False, sort=False):
        near = "at every base" if stride == 1 else f"every {stride:.0f} bases"
        markov = scores[scores["model"] == "markov"]
        best = markov.nlargest(1, "accuracy")
        row = {"genome": size(bases), "windows start": split if pd.isna(stride) else near}
        row["seen (%)"] = f"{100 * scores['leakage/positions'].iloc[0]:.1f}"
        row["24-mers (%)"] = f"{100 * scores['leakage/shared_kmers'].iloc[0]:.1f}"
        row |= {f"order {k}": pair(markov[markov["order"] == k]) for k in SHOWN}
        row["best order"] = f"{pair(best)} (k = {best['order'].iloc[0]:.0f})"
        rows.append(row | {model: pair(scores[scores["model"] == model]) for model in ("imm", "LSTM")})
    return common.markdown(rows)


def draw(data: common.Tables, out: Path) -> None:
    """Draw accuracy by the order of the Markov model, a line a split, and the best accuracies by split."""
    results = data["results.csv"]
    results["percent"] = 100 * results["accuracy"]
    strides = results["window_stride"].map("{:.0f}".format)
    results["windows"] = strides.where(results["window_stride"].notna(), results["split"])
    whole = results[results["bases"] == results["bases"].max()]
    figure, (left, right) = common.new_figure(2, height=6.4, sharey=True)

    widths = list(np.linspace(5, 1, whole["windows"].nunique()))  # lines that coincide show by their widths
    style = {"size": "windows", "sizes": widths, "dashes": False, "markersize": 7}
    common.draw_lines(left, whole[whole["model"] == "markov"], "order", "percent", "windows", **style)
    chance = 100 * whole[whole["model"] == "chance"]["accuracy"].iloc[0]
    left.axhline(chance, color="black", linestyle=":", label="chance")
    left.set(title=f"Order-k Markov models, {size(whole['bases'].iloc[0])}", xlabel="order k (bases of context)")
    left.set(ylabel="accuracy on the test part (%)", ylim=(0, 103), xticks=range(0, 17, 4))
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.15), "frameon": False}
    left.legend(title="bases from a window's start to the next", ncols=2, **below)

    models = results["model"].map({"markov": "best order k", "LSTM": "LSTM"})
    best = results.assign(series=models + ", " + results["bases"].map(size)).dropna(subset="series")
    best = best.groupby(["series", "windows"], sort=False)["percent"].max().reset_index()
    seen = whole.drop_duplicates("windows").assign(series="test positions seen in training")
    seen["percent"] = 100 * seen["leakage/positions"]
    common.draw_lines(right, pd.concat([seen, best]), "windows", "percent", "series")
    right.set(title="Best accuracy, and what was seen", xlabel="bases from a window's start to the next")
    right.legend(title=None, **below)
    common.save(figure, out / "figure.png")


if __name__ == "__main__":
    common.run_study(__file__, record, table, draw)
