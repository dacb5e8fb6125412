"""Plots of a run: learning curves, accuracy by position in the window, confusion matrix of the bases."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from genoseq.files import read_metrics, write_atomic

if TYPE_CHECKING:
    from torchmetrics.classification import MulticlassConfusionMatrix


def draw_curves(metrics_csv: Path, out: Path, title: str, lines: Mapping[str, Mapping[str, float]]) -> None:
    """Draw a run's ``metrics.csv`` as a PNG of 1200 × 900 pixels; the other arguments as in `curves_figure`."""
    metrics = pandas.DataFrame(read_metrics(metrics_csv), dtype=float)
    png = io.BytesIO()
    curves_figure(metrics, title, lines).savefig(png, format="png")
    write_atomic(out, png.getvalue())


def curves_figure(metrics: pandas.DataFrame, title: str, lines: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw bits per base, accuracy and learning rate over optimizer steps.

    Parameters
    ----------
    metrics : DataFrame
        As in ``metrics.csv``: the column ``step`` and one column per metric, nan where there is no value.
    lines : mapping
        From a baseline's label to its metrics: ``val/…`` is drawn as a line, ``test/…`` as a diamond at the last step.
    """
    if "step" in metrics:
        metrics = metrics.set_index("step").sort_index()
    figure = Figure(figsize=(12, 9), dpi=100, layout="constrained")
    figure.suptitle(title, wrap=True)
    bits, accuracy, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 1))
    _draw(bits, metrics, "bits_per_base", lines)
    _draw(accuracy, metrics, "accuracy", lines)
    lr = _finite(metrics, "train/lr")
    rate.plot(lr.index, lr, marker=_marker(lr))
    rate.set_ylim(bottom=0)
    for axes, label in ((bits, "bits per base"), (accuracy, "accuracy"), (rate, "learning rate")):
        axes.set_ylabel(label)
        axes.grid(alpha=0.4)
    accuracy.yaxis.set_major_formatter("{x:.1%}")
    rate.set_xlabel("optimizer steps")
    rate.xaxis.set_major_formatter("{x:,.0f}")
    legend = "lines of the baselines: validation part; diamonds: test part"
    figure.legend(*bits.get_legend_handles_labels(), loc="outside lower center", ncols=3, title=legend)
    return figure


def _draw(axes: Axes, metrics: pandas.DataFrame, metric: str, lines: Mapping[str, Mapping[str, float]]) -> None:
    """Draw one metric of every part beside the baselines."""
    stages = ("train", "val", "test", "adaptive", "network")
    train, val, test, adaptive, network = (_finite(metrics, f"{stage}/{metric}") for stage in stages)
    axes.plot(train.index, train, color="C0", alpha=0.6, marker=_marker(train), label="train")
    axes.plot(val.index, val, color="C0", linewidth=2.5, marker=_marker(val), label="validation")
    label = "test, with the mixer" if len(network) else "test"
    axes.plot(test.index[-1:], test[-1:], "D", color="C0", markeredgecolor="black", label=label)
    for points, marker, label in ((adaptive, "^", "test, adaptive"), (network, "o", "test, network alone")):
        if len(points):
            axes.plot(points.index[-1:], points[-1:], marker, color="C0", markeredgecolor="black", label=label)
    # a wild start would squash the rest
    in_view = [*train[len(train) // 3 :], *val[len(val) // 3 :], *test[-1:], *adaptive[-1:], *network[-1:]]
    for i, (name, values) in enumerate(lines.items(), start=1):
        if (level := values.get(f"val/{metric}")) is not None:
            axes.axhline(level, color=f"C{i}", linestyle=(":", "--", "-.")[i % 3], label=name)
            in_view.append(level)
        if len(test) and (level := values.get(f"test/{metric}")) is not None:
            axes.plot(test.index[-1:], [level], "D", color=f"C{i}", markeredgecolor="black")
            in_view.append(level)
    low, high = min(in_view, default=0.0), max(in_view, default=1.0)
    pad = 0.05 * (high - low) or 0.05
    axes.set_ylim(low - pad, high + pad)


def _finite(metrics: pandas.DataFrame, column: str) -> pandas.Series[float]:
    """Return the finite values of a column by step; none if there is no such column."""
    return metrics.reindex(columns=[column])[column].replace([np.inf, -np.inf], np.nan).dropna()


def _marker(curve: pandas.Series[float]) -> str | None:
    return "o" if len(curve) <= 20 else None


def position_figure(accuracy: NDArray[np.floating], baseline: float | None, title: str) -> Figure:
    """Draw accuracy over the number of tokens read.

    Parameters
    ----------
    accuracy : ndarray of float, (L,)
        Fraction right after 1, 2, … L tokens from the zero state; nan where nothing was scored. Of 50 tokens or more,
        means over ranges of positions are drawn, equally wide on a logarithmic axis.
    baseline : float, optional
        Accuracy (fraction) of the order-k Markov model.
    """
    curve = pandas.DataFrame({"read": np.arange(1, len(accuracy) + 1), "accuracy": accuracy})
    figure = Figure(figsize=(9, 6), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    if len(curve) >= 50:
        edges = np.unique(np.geomspace(1, len(curve) + 1, 24).round())
        curve = curve.groupby(np.digitize(curve["read"], edges)).mean()
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.plot(curve["read"], curve["accuracy"], marker="o", label="model")
    if baseline is not None:
        axes.axhline(baseline, color="C1", linestyle="--", label="baseline, order-k Markov model")
    axes.yaxis.set_major_formatter("{x:.1%}")
    axes.set(xlabel="tokens read since the zero state", ylabel="accuracy", title=title)
    axes.grid(alpha=0.4)
    axes.legend()
    return figure


def confusion_figure(confusion: MulticlassConfusionMatrix, title: str) -> Figure:
    """Draw a confusion matrix of the bases A, C, T, G."""
    figure = Figure(figsize=(7, 6), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    confusion.plot(ax=axes, labels=list("ACTG"))
    axes.tick_params(labelrotation=0)
    axes.set(xlabel="predicted base", ylabel="true base (each row sums to 1)", title=title)
    return figure
