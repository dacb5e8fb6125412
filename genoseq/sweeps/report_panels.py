"""Panels of a sweep's picture: validation bits per base by one parameter, and by two."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from genoseq.report.figures import BLACK, BLUE, FAINT, GREEN, INK, ORANGE, SKY, VERMILLION
from genoseq.sweeps.groups import Group, Stat, Value
from genoseq.sweeps.report_scales import MANY, Scale, View
from genoseq.sweeps.report_words import Level, shown

MAP = "cividis_r"  # the lowest, best figures are the brightest
LETTERS = 13  # points
_LINES = [(VERMILLION, "--"), (GREEN, "-."), (BLACK, ":")]
_DOT: dict[str, Any] = {"s": 46, "color": SKY, "edgecolor": BLUE, "linewidth": 0.9, "alpha": 0.85, "zorder": 3}
_BEST: dict[str, Any] = {"s": 150, "color": ORANGE, "edgecolor": BLACK, "linewidth": 1.2, "marker": "*", "zorder": 6}
_FAR: dict[str, Any] = {"s": 70, "color": VERMILLION, "marker": "^", "clip_on": False, "zorder": 5}
_MEAN: dict[str, Any] = {"color": BLACK, "linewidth": 1.6, "marker": "o", "markersize": 5, "zorder": 4}
_TRACE: dict[str, Any] = {"color": BLACK, "linewidth": 1.2, "zorder": 2}


@dataclass(frozen=True)
class Dot:
    """A run or a setting in a panel: its value of the panel's parameter, its bits per base, whether it is the best."""

    value: Value
    bits: float
    best: bool = False


def star(axes: Axes, x: float, bits: float) -> None:
    """Mark the best."""
    axes.scatter(x, bits, **_BEST)


def line_style(levels: Sequence[Level]) -> list[tuple[Level, dict[str, Any]]]:
    """Return each level with how its line is drawn."""
    return [(level, {"color": c, "linestyle": d, "linewidth": 1.7}) for level, (c, d) in zip(levels, _LINES)]  # noqa: B905


def strip_panel(axes: Axes, dots: Sequence[Dot], scale: Scale, name: str, view: View, levels: Sequence[Level]) -> None:
    """Draw a dot a run or setting over the values of one parameter, with their means if the values are few.

    Parameters
    ----------
    axes : Axes
    dots : sequence of Dot
    scale : Scale
        The parameter's.
    name : str
        The parameter's.
    view : View
    levels : sequence of Level
        In the order of their colours; those in view are drawn.
    """
    for level, style in line_style(levels):
        if level in view.levels:
            axes.axhline(level.bits, zorder=1, **style)
    _lay_out(axes, scale, name)
    seen = sorted((dot for dot in dots if view.holds(dot.bits)), key=lambda dot: dot.bits)
    far = [dot for dot in dots if not view.holds(dot.bits)]
    places = _places(seen, scale)
    axes.scatter(places, [dot.bits for dot in seen], **_DOT)
    for x, dot in zip(places, seen, strict=True):
        if dot.best:
            star(axes, x, dot.bits)
    axes.scatter(_places(far, scale), [view.top] * len(far), **_FAR)
    axes.set_ylim(view.bottom, view.top)
    axes.yaxis.get_major_formatter().set_useOffset(False)  # type: ignore[attr-defined]


def mean_line(axes: Axes, dots: Iterable[Dot], scale: Scale, view: View, standard_error: bool) -> None:
    """Draw the mean of the dots in view at each value, with their sd or its standard error."""
    by_value: dict[float, list[float]] = {}
    for dot in dots:
        if view.holds(dot.bits):
            by_value.setdefault(scale.at(dot.value), []).append(dot.bits)
    xs = sorted(by_value)
    means = [statistics.fmean(by_value[x]) for x in xs]
    named = any(isinstance(value, str) for value in scale.values)  # no way leads from one name to the next
    if all(len(values) == 1 for values in by_value.values()):
        axes.plot(xs, means, linestyle="none" if named else "-", **_TRACE)
        return
    stats = [Stat.of(by_value[x]) for x in xs]
    bars = [0.0 if s.se is None else s.se if standard_error else s.se * s.n**0.5 for s in stats]
    axes.errorbar(xs, means, yerr=bars, capsize=5, linestyle="none" if named else "-", **_MEAN)


def _places(dots: Sequence[Dot], scale: Scale) -> list[float]:
    """Return where dots stand: side by side within a category, by the golden section of their rank."""
    if scale.continuous:
        return [scale.at(dot.value) for dot in dots]
    met: dict[float, int] = {}
    out = []
    for dot in dots:
        x = scale.at(dot.value)
        met[x] = met.get(x, -1) + 1
        out.append(x + 0.4 * ((0.5 + 0.618034 * met[x]) % 1 - 0.5))
    return out


def _lay_out(axes: Axes, scale: Scale, name: str) -> None:
    along_x(axes, scale)
    axes.set_xlabel(name, fontsize=LETTERS + 1, color=INK)
    axes.tick_params(labelsize=LETTERS, color=INK, labelcolor=INK)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def along_x(axes: Axes, scale: Scale) -> None:
    """Give the x axis the ticks of a parameter."""
    if scale.continuous:
        _numbers(axes, scale, "x")
        return
    labels = [_cut(shown(value)) for value in scale.values]
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.set_xticks(range(len(labels)), labels)


def turn_labels(figure: Figure) -> None:
    """Turn the tick labels along the x axes that would touch one another, and make the picture higher by as much."""
    figure.draw_without_rendering()
    tallest = 0.0
    for axes in figure.axes:
        labels = [label for label in axes.get_xticklabels() if label.get_text()]
        boxes = [label.get_window_extent() for label in labels]
        if any(a.x1 + 6 > b.x0 for a, b in itertools.pairwise(boxes)):
            steep = len(labels) > MANY
            for label in labels:
                label.set(rotation=90 if steep else 35, ha="right", va="center" if steep else "top")
                label.set_rotation_mode("anchor")
            tallest = max([tallest, *(label.get_window_extent().height for label in labels)])
    if tallest:
        figure.set_figheight(figure.get_figheight() + 1.2 * tallest / figure.dpi)
        figure.draw_without_rendering()  # the layout settles step by step


def _numbers(axes: Axes, scale: Scale, which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = scale.at(scale.values[0]), scale.at(scale.values[-1])
    limit = axes.set_xlim if which == "x" else axes.set_ylim
    if scale.kind == "log":
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        pad = (high / low) ** 0.05
        limit(low / pad, high * pad)
    else:
        pad = 0.05 * (high - low)
        limit(low - pad, high + pad)
    axis.set_major_locator(FixedLocator(scale.marks()))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda x, _: shown(float(x))))


def _cut(text: str, most: int = 18) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def heat_map(axes: Axes, groups: Sequence[Group], keys: tuple[str, str], names: dict[str, str], view: View) -> Any:
    """Draw the mean bits per base of each pair of values; return what a colour bar needs.

    Cells without a figure are hatched and have a dash; the best is outlined.
    """
    down, along = (Scale.of(group.settings[key] for group in groups) for key in keys)
    grid: NDArray[np.float64] = np.full((len(down.values), len(along.values)), np.nan)
    for group in groups:
        if group.val.mean is not None:
            grid[int(down.at(group.settings[keys[0]])), int(along.at(group.settings[keys[1]]))] = group.val.mean
    image = axes.imshow(grid, cmap=MAP, vmin=view.low, vmax=max(view.high, view.low + 1e-6), aspect="auto")
    size = LETTERS if len(along.values) > 8 else LETTERS + 2
    for row, column in np.ndindex(*grid.shape):
        bits = float(grid[row, column])
        if np.isnan(bits):
            axes.add_patch(
                Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor="white", edgecolor="#AAAAAA", hatch="//", lw=0)
            )
        dark = not np.isnan(bits) and float(image.norm(bits)) > 0.55  # type: ignore[arg-type]
        text = "–" if np.isnan(bits) else f"{bits:.3f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color="white" if dark else BLACK)
    if not np.isnan(grid).all():
        row, column = np.unravel_index(np.nanargmin(grid), grid.shape)
        axes.add_patch(
            Rectangle((float(column) - 0.47, float(row) - 0.47), 0.94, 0.94, fill=False, ec=VERMILLION, lw=3.5)
        )
    axes.set_yticks(range(len(down.values)), [_cut(shown(value)) for value in down.values])
    along_x(axes, along)
    axes.set_xlim(-0.5, len(along.values) - 0.5)
    _name_map(axes, keys, names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def scatter_map(axes: Axes, groups: Sequence[Group], keys: tuple[str, str], names: dict[str, str], view: View) -> Any:
    """Draw a dot a setting over two parameters, coloured by its bits per base; return what a colour bar needs."""
    down, along = (Scale.of(group.settings[key] for group in groups) for key in keys)
    known = [group for group in groups if group.val.mean is not None]
    lost = [group for group in groups if group.val.mean is None]

    def place(some: Sequence[Group]) -> tuple[list[float], list[float]]:
        return [along.at(g.settings[keys[1]]) for g in some], [down.at(g.settings[keys[0]]) for g in some]

    for scale, which in ((along, "x"), (down, "y")):
        if scale.continuous:
            _numbers(axes, scale, which)
        elif which == "x":
            along_x(axes, scale)
        else:
            axes.set_yticks(range(len(scale.values)), [_cut(shown(value)) for value in scale.values])
            axes.set_ylim(-0.6, len(scale.values) - 0.4)
    bits = [group.val.mean or 0.0 for group in known]
    image = axes.scatter(
        *place(known), c=bits, cmap=MAP, vmin=view.low, vmax=max(view.high, view.low + 1e-6), s=130, edgecolor=INK
    )
    axes.scatter(*place(lost), marker="x", color="#888888", s=70, linewidth=2)
    axes.scatter(*place(known[:1]), s=330, marker="o", facecolor="none", edgecolor=VERMILLION, linewidth=3)
    axes.grid(color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    _name_map(axes, keys, names)
    return image


def _name_map(axes: Axes, keys: tuple[str, str], names: dict[str, str]) -> None:
    axes.set_ylabel(names[keys[0]], fontsize=LETTERS + 1, color=INK)
    axes.set_xlabel(names[keys[1]], fontsize=LETTERS + 1, color=INK)
    axes.tick_params(labelsize=LETTERS, labelcolor=INK)
