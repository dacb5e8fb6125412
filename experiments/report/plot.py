"""The report's three models on its own split and on an honest one: table, accuracies and loss curves."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns

from experiments import common
from genoseq.errors import UserError

HERE = Path(__file__).parent
STATED = pd.read_csv(HERE / "report.csv").set_index("model")
COLUMNS = [
    *("model", "split", "state", "why", "report/accuracy", "report/last_loss", "report/steps", "train/last_loss"),
    *("scale", "genome/name", "genome/bases", "model/parameters", "train/steps", "test/accuracy"),
    *("test/bits_per_base", "test/loss", "val/bits_per_base", "baseline/order", "baseline/accuracy"),
    *("baseline/bits_per_base", "imm/accuracy", "imm/bits_per_base", "chance/accuracy", "chance/bits_per_base"),
    *("leakage/positions", "leakage/shared_kmers", "tokens/stride", "split/leaks", "train/tokens_per_second"),
    *("seconds", "seed", "precision", "host/device", "version/genoseq", "version/torch"),
]
NOTES = """
report, ours, order-k, imm: accuracy (%) / bits per base on the test part, imm being the interpolated Markov model; \
leakage: test positions that lie in a training window; last loss, and the report's: in training, nats a token.
"""


def record(sweep: Path) -> common.Tables:
    """Return a row a run beside what the report states of its model, and the losses of each run."""
    runs = common.finished_runs(sweep)
    runs["model"], runs["split"] = runs["overrides"].map(model_number), runs["split/name"]
    if runs.duplicated(["model", "split"]).any():
        raise UserError(f"two runs in {sweep} are of the same model and split: give a folder with one run of each")
    runs = runs.sort_values(["model", "split/leaks"], ascending=[True, False])
    losses = pd.concat([read_losses(run) for run in runs.to_dict("records")], ignore_index=True)
    training = losses[losses["part"] == "training"].groupby(["model", "split"])["loss"].last()
    runs = runs.merge(training.rename("train/last_loss").reset_index(), how="left")
    for key, column in (("accuracy", "accuracy"), ("last_loss", "loss"), ("steps", "steps")):
        runs[f"report/{key}"] = runs["model"].map(STATED[column]).where(runs["split/leaks"])  # the report's split leaks
    runs["report/steps"] = runs["report/steps"].astype("Int64")
    return {"results.csv": runs.reindex(columns=COLUMNS), "losses.csv": losses}


def model_number(overrides: Sequence[str]) -> int:
    """Return the number of the report's model that a run's ``experiment=`` names."""
    found = re.search(r"experiment=[a-z]+([123])\b", " ".join(overrides))
    if found is None:
        raise UserError(f"experiment= must end in 1, 2 or 3, the report's models; a run has {' '.join(overrides)}")
    return int(found[1])


def read_losses(run: dict[str, Any]) -> pd.DataFrame:
    """Return a run's training and validation losses (nats a token) by step."""
    logged = pd.read_csv(common.run_file(run["folder"], "metrics.csv"))
    logged = logged.rename(columns={"train/loss": "training", "val/loss": "validation"})
    losses = logged.melt("step", ["training", "validation"], "part", "loss").dropna()
    return losses.assign(model=run["model"], split=run["split"])[["model", "split", "part", "step", "loss"]]


def scale(results: pd.DataFrame) -> str:
    """Return at which scale the runs were made."""
    run = results.iloc[0]
    cut = re.fullmatch(r"(.+)\[0:\d+\]", run["genome/name"])
    bases = f"{run['genome/bases']:,} bases of"
    return f"{run['scale']} scale: " + (f"the first {bases} {cut[1]}" if cut else f"{bases} {run['genome/name']}")


def table(data: common.Tables) -> str:
    """Return the table of the README."""
    results = data["results.csv"]
    rows = []
    for run in results.to_dict("records"):
        pairs = {
            name: f"{100 * run[f'{key}/accuracy']:.2f} / {run[f'{key}/bits_per_base']:.3f}"
            for name, key in (("ours", "test"), ("order-k", "baseline"), ("imm", "imm"))
        }
        leaks = run["split/leaks"]
        row = {"model": f"Model {run['model']}", "split": run["split"]}
        row["report"] = f"{100 * run['report/accuracy']:.2f} / –" if leaks else "–"
        row |= {"ours": pairs["ours"], "order-k": pairs["order-k"], "k": f"{run['baseline/order']:.0f}"}
        row |= {"imm": pairs["imm"], "leakage": f"{100 * run['leakage/positions']:.1f} %"}
        row["last loss"] = f"{run['train/last_loss']:.4f}"
        rows.append(row | {"report's": f"{run['report/last_loss']:.4f}" if leaks else "–"})
    chance, bits = 100 * results["chance/accuracy"].iloc[0], results["chance/bits_per_base"].iloc[0]
    notes = f"{NOTES}Chance is {chance:.0f} / {bits:.0f}."
    if leaking := " and ".join(results[results["split/leaks"]]["split"].unique()):
        notes += f"\nThe split {leaking} leaks: accuracy on it measures memory."
    return f"{scale(results).capitalize()}.\n\n{common.markdown(rows)}\n{notes}"


def draw(data: common.Tables, out: Path) -> None:
    """Draw the test accuracies, and the losses of each model over the report's."""
    draw_accuracies(data["results.csv"], out / "figure.png")
    for model, runs in data["results.csv"].groupby("model"):
        draw_losses(model, runs, data["losses.csv"], out / f"model{model}.png")


def draw_accuracies(results: pd.DataFrame, path: Path) -> None:
    """Draw a group of bars a model: the report's accuracy, then ours and the order-k Markov model's on each split."""
    bars = []
    for run in results.to_dict("records"):
        leaks = " (leaks)" if run["split/leaks"] else ""
        named = {"the report, as printed, at its own scale": run["report/accuracy"]}
        named[f"ours on {run['split']}{leaks}"] = run["test/accuracy"]
        named[f"order-k Markov model on {run['split']}{leaks}"] = run["baseline/accuracy"]
        bars += [{"model": f"Model {run['model']}", "bar": name, "percent": 100 * x} for name, x in named.items()]
    frame = pd.DataFrame(bars).dropna()
    figure, axes = common.new_figure()
    colours = ["black", *(sns.color_palette("Paired")[i] for i in (5, 4, 1, 0))]
    sns.barplot(frame, x="model", y="percent", hue="bar", palette=colours[: frame["bar"].nunique()], ax=axes)
    for container in axes.containers:
        axes.bar_label(container, fmt="%.1f", fontsize="small")
    chance = 100 * results["chance/accuracy"].iloc[0]
    axes.axhline(chance, color="black", linestyle=":", label=f"chance ({chance:.0f} %)")
    axes.set(
        title=f"Test accuracy, {scale(results)}", xlabel=None, ylabel="accuracy of the next base (%)", ylim=(0, 105)
    )
    common.legend_below(figure, axes, columns=2)
    common.save(figure, path)


def draw_losses(model: int, runs: pd.DataFrame, losses: pd.DataFrame, path: Path) -> None:
    """Draw a model's training and validation losses by split, and the report's training losses.

    The steps are shares of each run's own, since ours make as many passes over their bases as the report's.
    """
    ours, stated = runs["train/steps"].max(), STATED["steps"][model]
    losses = losses[losses["model"] == model].assign(percent=100 * losses["step"] / ours)
    curve = pd.read_csv(HERE / "curves" / f"model{model}.csv")
    nats = math.log(2) * runs["tokens/stride"].iloc[0]
    chance = nats * runs["chance/bits_per_base"].iloc[0]
    figure, axes = common.new_figure()
    colours = dict(zip(runs["split"], sns.color_palette("colorblind"), strict=False))
    for split, colour in colours.items():
        for part, style in (("training", "-"), ("validation", "--o")):
            shown = losses[(losses["split"] == split) & (losses["part"] == part)]
            axes.plot(shown["percent"], shown["loss"], style, color=colour, label=f"ours on {split}, {part}")
    axes.plot(100 * curve["step"] / stated, curve["loss"], "D", color="black", label="the report's, training")
    for run in runs.to_dict("records"):
        label = f"order-{run['baseline/order']:.0f} Markov model on {run['split']}, test"
        axes.axhline(nats * run["baseline/bits_per_base"], color=colours[run["split"]], linestyle="-.", label=label)
    axes.axhline(chance, color="black", linestyle=":", label="chance")
    axes.set(title=f"Model {model}, {scale(runs)}, {runs['model/parameters'].iloc[0]:,.0f} parameters")
    axes.set(xlabel=f"steps done (%; ours of {ours:,}, the report's of {stated:,})", ylabel="loss (nats a token)")
    axes.set(yscale="log", yticks=[0.05, 0.1, 0.2, 0.5, 1, 2, 5])
    axes.yaxis.set_major_formatter("{x:g}")
    common.legend_below(figure, axes, columns=2)
    common.save(figure, path)


if __name__ == "__main__":
    common.run_study(__file__, record, table, draw)
