"""The pictures of the study of the report: a loss curve of each model over the report's, and all accuracies."""

from __future__ import annotations

import io
import itertools
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from genoseq.files import write_atomic
from genoseq.report.figures import BLACK, BLUE, FAINT, GREEN, INK, ORANGE, PURPLE, SKY, VERMILLION, Curve
from genoseq.report.study_report_read import Cited, Trained, by_model, common, scale

_LETTERS = 14  # points
_IN_VIEW = 0.95  # share of a training curve's values; the first few would squash the rest
_WORST = 1.5  # validation losses are followed to so many times chance


class _Style(NamedTuple):
    """How a split is drawn: colour of the network and of its table, marker, hatch of the table's bars."""

    colour: str
    table: str
    marker: str
    hatch: str


_STYLES = [
    _Style(VERMILLION, ORANGE, "o", "//"),
    _Style(BLUE, SKY, "s", "\\\\"),
    _Style(GREEN, PURPLE, "^", "xx"),
]


def draw_models(runs: Sequence[Trained], cited: Mapping[int, Cited], out: Path) -> None:
    """Draw ``model1.png`` and so on, 1200 × 750 pixels: train and validation loss over optimizer steps."""
    for model, some in by_model(runs).items():
        _save(model_figure(some, cited[model]), out / f"model{model}.png")


def draw_summary(runs: Sequence[Trained], cited: Mapping[int, Cited], path: Path) -> None:
    """Draw the accuracies of all models, ours, the report's and the tables', 1200 × 750 pixels."""
    _save(summary_figure(runs, cited), path)


def _save(figure: Figure, path: Path) -> None:
    png = io.BytesIO()
    figure.savefig(png, format="png")
    write_atomic(path, png.getvalue())


def _blank(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(12, 7.5), dpi=100, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.14)  # type: ignore[union-attr, call-arg]
    axes = figure.add_subplot()
    figure.suptitle(textwrap.fill(title, 96), x=0.012, ha="left", fontsize=15, color=INK, weight="bold")
    axes.tick_params(labelsize=_LETTERS, color=INK, labelcolor=INK)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _styles(runs: Sequence[Trained]) -> dict[str, _Style]:
    return dict(zip(dict.fromkeys(one.split for one in runs), itertools.cycle(_STYLES), strict=False))


def model_figure(runs: Sequence[Trained], cited: Cited) -> Figure:
    """Draw the losses of a model's runs over the report's curve, whose steps are stretched to the length of ours."""
    about = f"{common(runs, 'model/parameters')} parameters, {common(runs, 'train/steps')} steps"
    figure, axes = _blank(f"Model {runs[0].model}, {scale(runs)}, {about}")
    # a run that was stopped keeps its place on the axis
    last = max(float(x) for one in runs for x in (one.run.max_steps or 0, *one.train.steps)) or float(cited.steps)
    stretch = last / cited.steps
    theirs = Curve([step * stretch for step in cited.curve.steps], cited.curve.values)
    chance = max((nats for one in runs if (nats := one.nats("chance/bits_per_base")) is not None), default=None)
    top = _top([theirs, *(one.train for one in runs)], [one.val for one in runs], chance)

    _line(axes, _torn(theirs), "the report's, train", top, color=BLACK, linewidth=2.6, marker="D", markersize=5)
    styles = _styles(runs)
    for i, one in enumerate(runs):
        style = styles[one.split]
        # learnt by heart, the training parts look alike: the later lines are thin, so that the first still shows
        _line(axes, one.train, f"ours on {one.split}, train", top, color=style.colour, linewidth=max(5.5 - 3 * i, 2))
        look: dict[str, Any] = {"linewidth": 1.6, "linestyle": (0, (4, 2)), "marker": style.marker, "markersize": 8}
        _line(axes, one.val, f"ours on {one.split}, validation", top, color=style.colour, mfc="white", **look)
    for one in runs:
        nats, order = one.nats("baseline/bits_per_base"), one.run.figure("baseline/order")
        if nats is not None and order is not None:
            label = f"order-{order:.0f} table on {one.split}, test"
            dashes = (0, (7, 2, 1.5, 2)) if one.leaks else (0, (3, 1.5, 1, 1.5, 1, 1.5))
            axes.axhline(nats, color=styles[one.split].table, linewidth=2.4, linestyle=dashes, label=label)
    if chance is not None:
        axes.axhline(chance, color=BLACK, linewidth=1.6, linestyle=":", label="chance")

    axes.set_ylim(-0.03 * top, top)
    axes.set_xlim(0, last * 1.01)
    axes.set_ylabel("loss (nats a token)", fontsize=_LETTERS, color=INK)
    axes.set_xlabel("optimizer steps, ours", fontsize=_LETTERS, color=INK)
    axes.grid(color=FAINT, linewidth=0.8)
    _count(axes.xaxis)
    if not math.isclose(stretch, 1):
        above = axes.secondary_xaxis("top", functions=_factors(stretch))
        above.set_xlabel("optimizer steps, the report's", fontsize=_LETTERS, color=INK)
        above.tick_params(labelsize=_LETTERS, color=INK, labelcolor=INK)
        _count(above.xaxis)
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=_LETTERS)
    return figure


def _factors(stretch: float) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return from our steps to the report's, and back."""
    return lambda x: x / stretch, lambda x: x * stretch


def _count(axis: Axis) -> None:
    axis.set_major_locator(MaxNLocator(7, integer=True))
    axis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))


def _torn(curve: Curve) -> Curve:
    """Return a curve with a break (nan) where points are missing, not joined by a line that nobody has seen."""
    if len(curve.steps) < 2:
        return curve
    apart = np.diff(curve.steps)
    holes = np.flatnonzero(apart > 1.5 * np.median(apart)) + 1
    return Curve(*(np.insert(values, holes, np.nan).tolist() for values in curve))


def _top(train: Sequence[Curve], val: Sequence[Curve], chance: float | None) -> float:
    """Return the top of the loss axis: training curves but for a wild start, validation up to a multiple of chance."""
    most = [float(np.quantile(curve.values, _IN_VIEW)) for curve in train if curve.values]
    most += [value for curve in val for value in curve.values if chance is not None and value <= _WORST * chance]
    return 1.06 * max([*most, chance or 0.0], default=1.0)


def _line(axes: Axes, curve: Curve, label: str, top: float, **look: Any) -> None:
    """Draw a curve if it has points; its label says how high it is where it leaves the picture."""
    if curve.values:
        highest = float(np.nanmax(curve.values))
        axes.plot(*curve, label=label + (f" (to {highest:.2f})" if highest > top else ""), **look)


def summary_figure(runs: Sequence[Trained], cited: Mapping[int, Cited]) -> Figure:
    """Draw a group of bars a model: the report's accuracy, then ours and a table's on each split."""
    figure, axes = _blank(f"Test accuracy, {scale(runs)}")
    styles = _styles(runs)
    width = 0.86 / (1 + 2 * len(styles))
    named: set[str] = set()

    def bar(at: float, accuracy: float | None, label: str, **look: Any) -> None:
        if accuracy is None:
            return
        axes.bar(at, 100 * accuracy, width * 0.94, label=None if label in named else label, edgecolor=BLACK, **look)
        axes.text(at, 100 * accuracy + 1, f"{100 * accuracy:.1f}", ha="center", fontsize=13, color=INK)
        named.add(label)

    models = by_model(runs)
    for place, (model, some) in enumerate(models.items()):
        first = place - width * len(styles)
        bar(first, cited[model].accuracy, "the report, as printed, at its own scale", color=BLACK)
        for one in some:
            at = first + width * (1 + 2 * list(styles).index(one.split))
            style, leak = styles[one.split], " (leaks)" if one.leaks else ""
            bar(at, one.run.figure("test/accuracy"), f"ours on {one.split}{leak}", color=style.colour)
            table, look = one.run.figure("baseline/accuracy"), {"color": style.table, "hatch": style.hatch}
            bar(at + width, table, f"table of counts on {one.split}{leak}", **look)
    guess = next((x for one in runs if (x := one.run.figure("chance/accuracy")) is not None), None)
    if guess is not None:
        axes.axhline(100 * guess, color=BLACK, linewidth=1.8, linestyle=":", label=f"chance ({100 * guess:.0f} %)")
    axes.set_xticks(range(len(models)), [f"Model {model}" for model in models], fontsize=_LETTERS + 1)
    axes.set_ylim(0, 108)
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("accuracy of the next base (%)", fontsize=_LETTERS, color=INK)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=_LETTERS)
    return figure
