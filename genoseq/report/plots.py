"""The picture of a run: code length, accuracy and learning rate over optimizer steps."""

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from genoseq.files import read_metrics, write_atomic
from genoseq.report.figures import BLACK, BLUE, FAINT, GREEN, INK, ORANGE, PURPLE, SKY, VERMILLION

_STAGES = {"train": (SKY, 1.3), "val": (BLUE, 2.8)}  # colour, width (points)
_LINES = [(BLACK, ":"), (VERMILLION, "--"), (GREEN, "-."), (ORANGE, (0, (6, 2, 1, 2, 1, 2)))]
_GAP = 24  # pixels from one label to the next
_AT = 1.058  # where labels begin, in widths of the axes


class Curve(NamedTuple):
    """Points of one figure: optimizer steps and values."""

    steps: list[float]
    values: list[float]


class _Label(NamedTuple):
    y: float
    text: str
    style: dict[str, object]


def draw_curves(
    metrics_csv: Path,
    out: Path,
    lines: Mapping[str, float],
    title: str,
    accuracy_lines: Mapping[str, float] | None = None,
) -> None:
    """Draw the curves of a run as a PNG of 1200 × 900 pixels.

    Parameters
    ----------
    metrics_csv : Path
        A run's ``metrics.csv``.
    out : Path
        The picture.
    lines : mapping
        Level lines by their label (bits per base).
    title : str
        A run whose split leaks says so here.
    accuracy_lines : mapping, optional
        Level lines by their label (fraction).
    """
    png = io.BytesIO()
    curves_figure(read_metrics(metrics_csv), lines, title, accuracy_lines).savefig(png, format="png")
    write_atomic(out, png.getvalue())


def curves_figure(
    metrics: Mapping[str, Sequence[float | None]],
    lines: Mapping[str, float],
    title: str,
    accuracy_lines: Mapping[str, float] | None = None,
) -> Figure:
    """Draw the curves of a run; arguments as in `draw_curves`, `metrics` as `read_metrics` gives them."""
    figure = Figure(figsize=(12, 9), dpi=100, facecolor="white")
    heights, x = (3.2, 2.2, 1.1), {"left": 0.09, "top": 0.895, "bottom": 0.075, "hspace": 0.15}
    bits, accuracy, rate = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": heights, **x})
    figure.text(0.015, 0.928, textwrap.fill(title, 92), fontsize=15, weight="bold", color=INK, va="bottom")

    _panel(bits, metrics, "bits_per_base", 1, lines, "bits per base", "{:.3f}", falls=True)
    _panel(accuracy, metrics, "accuracy", 100, accuracy_lines or {}, "accuracy (%)", "{:.1f} %", falls=False)
    _rate_panel(rate, metrics)

    last = max((s for s in metrics.get("step", []) if s is not None), default=0.0)
    rate.set_xlim(0, max(last, 1))
    rate.set_xlabel("optimizer steps", fontsize=14)
    rate.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    rate.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    for axes in (bits, accuracy, rate):
        axes.tick_params(labelsize=13, color=INK, labelcolor=INK)
        axes.yaxis.label.set_fontsize(14 if axes is not rate else 12)  # the lowest panel is not tall
        axes.grid(color=FAINT, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.align_ylabels()
    # the labels begin a share of the axes' width to the right of it; the longest must end on the picture
    longest = max((text.get_window_extent().width for axes in figure.axes for text in axes.texts), default=0.0)
    left, room = x["left"], 0.99 - longest / figure.bbox.width
    figure.subplots_adjust(right=max((room + (_AT - 1) * left) / _AT, 0.4))
    return figure


def points(metrics: Mapping[str, Sequence[float | None]], column: str, scale: float = 1.0) -> Curve:
    """Return the finite points of a column in the order of their steps; none if there is no such column."""
    pairs = zip(metrics.get("step", []), metrics.get(column, []), strict=False)
    known = sorted((s, scale * v) for s, v in pairs if s is not None and v is not None and math.isfinite(v))
    return Curve([s for s, _ in known], [v for _, v in known])


def limits(curves: Sequence[Curve], levels: Sequence[float], falls: bool) -> tuple[float, float]:
    """Return (bottom, top) of an axis so that a wild start does not squash what matters.

    In view are all `levels` and, of each curve, the best values, two thirds of all values and the end.

    Parameters
    ----------
    curves : sequence of Curve
    levels : sequence of float
        Values that must be in view.
    falls : bool
        Whether the curves go down as the model learns.
    """
    sign = 1 if falls else -1
    worst, best = [sign * level for level in levels], [sign * level for level in levels]
    for curve in curves:
        if curve.values:
            values = sign * np.asarray(curve.values)
            worst += [float(np.quantile(values, 0.66)), float(values[-1])]
            best += [float(values.min()), float(values[-1])]
    if not worst:
        return 0.0, 1.0
    low, high = min(best), max(worst)
    pad = 0.06 * (high - low) or 0.05 * max(abs(high), 1e-3)
    bottom, top = sorted((sign * (low - pad), sign * (high + pad)))
    return bottom, top


def _panel(
    axes: Axes,
    metrics: Mapping[str, Sequence[float | None]],
    figure: str,
    scale: float,
    lines: Mapping[str, float],
    unit: str,
    form: str,
    falls: bool,
) -> None:
    """Draw one figure of all stages, with level lines, each named at the right-hand edge."""
    labels: list[_Label] = []
    curves = {stage: points(metrics, f"{stage}/{figure}", scale) for stage in (*_STAGES, "test")}
    levels = {name: scale * value for name, value in lines.items() if value is not None and math.isfinite(value)}
    axes.set_ylabel(unit)
    axes.set_ylim(*limits(list(curves.values()), list(levels.values()), falls))
    for i, (name, value) in enumerate(levels.items()):
        colour, dashes = _LINES[i % len(_LINES)]
        style: dict[str, object] = {"color": colour, "linestyle": dashes, "linewidth": 1.8}
        axes.axhline(value, label=name, zorder=2, **style)  # type: ignore[arg-type]
        labels.append(_Label(value, f"{name} {form.format(value)}", style))
    for stage, (colour, width) in _STAGES.items():
        steps, values = curves[stage]
        if values:
            few = len(values) <= 20
            axes.plot(
                steps, values, color=colour, linewidth=width, marker="o" if few else None, markersize=5, label=stage
            )
            name = "validation" if stage == "val" else stage
            labels.append(
                _Label(values[-1], f"{name} {form.format(values[-1])}", {"color": colour, "linewidth": width})
            )
    if curves["test"].values:
        step, value = curves["test"].steps[-1], curves["test"].values[-1]
        axes.plot(
            step, value, "D", color=PURPLE, markeredgecolor=BLACK, markersize=10, label="test", clip_on=False, zorder=5
        )
        labels.append(_Label(value, f"test {form.format(value)}", {"color": PURPLE, "linewidth": 1.2}))
    _name(axes, labels)
    _say_start(axes, curves, form)


def _name(axes: Axes, labels: list[_Label]) -> None:
    """Write the labels right of the axes at their heights, pushed apart, each led to by a piece of its line."""
    labels = sorted(labels, key=lambda label: label.y)
    height = axes.get_window_extent().height
    bottom, top = axes.get_ylim()
    true = [height * (label.y - bottom) / (top - bottom) for label in labels]
    true = [min(max(y, 0.0), height) for y in true]
    for label, y, spread in zip(labels, true, spread_out(true, _GAP, height), strict=True):
        at = {"transform": axes.transAxes, "clip_on": False, "zorder": 3}
        axes.plot([1.0, 1.022, 1.05], [y / height, spread / height, spread / height], **at, **label.style)  # type: ignore[arg-type]
        axes.text(_AT, spread / height, label.text, transform=axes.transAxes, va="center", fontsize=12.5, color=INK)


def spread_out(heights: Sequence[float], gap: float, most: float) -> list[float]:
    """Move sorted heights as little as needed to lie at least `gap` apart, centred on their clusters, up to `most`."""
    # clusters of (sum of wished first heights, members): two that would touch become one
    clusters: list[tuple[float, int]] = []

    def first(cluster: tuple[float, int]) -> float:
        total, n = cluster
        return max(min(total / n, most - (n - 1) * gap), 0.0)

    for y in heights:
        clusters.append((y, 1))
        while len(clusters) > 1 and first(clusters[-2]) + gap * clusters[-2][1] > first(clusters[-1]):
            (total, n), (before, m) = clusters.pop(), clusters.pop()
            clusters.append((before + total - n * m * gap, m + n))
    return [first(cluster) + i * gap for cluster in clusters for i in range(cluster[1])]


def _say_start(axes: Axes, curves: Mapping[str, Curve], form: str) -> None:
    """Say where the training curve starts if that is out of view."""
    values = curves["train"].values or curves["val"].values
    if not values:
        axes.text(0.5, 0.5, "nothing logged", transform=axes.transAxes, ha="center", va="center", fontsize=13)
        return
    bottom, top = axes.get_ylim()
    if not bottom <= values[0] <= top:
        where = "above" if values[0] > top else "below"
        text = f"starts {where} this scale, at {form.format(values[0])}"
        axes.text(0.0, 1.015, text, transform=axes.transAxes, va="bottom", fontsize=12, style="italic", color=INK)


def _rate_panel(axes: Axes, metrics: Mapping[str, Sequence[float | None]]) -> None:
    axes.set_ylabel("learning rate")
    steps, values = points(metrics, "train/lr")
    if values:
        axes.plot(steps, values, color=BLACK, linewidth=1.5, marker="o" if len(values) == 1 else None, label="lr")
    positive = [value for value in values if value > 0]
    if positive and max(positive) > 30 * np.quantile(positive, 0.25):  # a last stretch towards 0 needs no such scale
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, 1.15 * max(positive, default=1.0))
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    speed = points(metrics, "train/tokens_per_second").values
    if speed:
        text = f"median {float(np.median(speed)):,.0f} tokens/s"
        axes.text(_AT, 0.5, text, transform=axes.transAxes, va="center", fontsize=12.5, color=INK)
