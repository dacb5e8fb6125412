"""Draw a sweep: one panel per parameter, and below a heat map of two or parallel coordinates of more."""

from __future__ import annotations

import io
import logging
import math
import textwrap
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from genoseq.files import write_atomic
from genoseq.overrides import short_names
from genoseq.sweeps.read import OBJECTIVE
from genoseq.sweeps.table import bits_text, headline, is_grid, leaks, parameters, rank_settings, shown

# it advises against numbers as categories, which are meant; Hydra prints what loggers say
logging.getLogger("matplotlib.category").setLevel(logging.WARNING)
_BITS = "validation bits per base"
_OFF_SCALE = "off the scale"
_MANY = 12  # numbers beyond which a parameter has a continuous axis
_MOST = 8  # parameters drawn
_PER_ROW = 4  # panels
_LETTERS = 30  # in the labels of an axis, beyond which they would touch


def save_sweep(runs: pd.DataFrame, out_png: Path) -> None:
    """Draw a sweep into a PNG file, 1300 pixels wide."""
    png = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # dots of a crowded value overlap
        draw_sweep(runs).savefig(png, format="png")
    write_atomic(out_png, png.getvalue())


def draw_sweep(runs: pd.DataFrame) -> Figure:
    """Draw the validation bits per base of a sweep.

    Parameters
    ----------
    runs : DataFrame
        As `read_sweep` returns them, at least one with a validation value.

    Returns
    -------
    Figure
        One dot per run for one parameter, per setting for more. What lies far above the rest, as diverged runs do,
        stands at the upper end of the scale.
    """
    keys = parameters(runs)
    points = rank_settings(runs) if len(keys) > 1 else runs
    means = "mean ± standard error" if len(keys) < 2 else "mean ± sd over all the rest" if is_grid(points, keys) else ""
    points, colours = _mark(points[points[OBJECTIVE].notna()], keys)
    names = {key: name for key, name in short_names(keys).items() if key in keys[:_MOST]} or {"setting": ""}
    rows = math.ceil(len(names) / _PER_ROW)
    with sns.axes_style("whitegrid"):
        figure = Figure(figsize=(13, 4 * rows + 6 if len(keys) > 1 else 7), dpi=100, layout="constrained")
        parts: Any = figure.subfigures(2, height_ratios=(4 * rows, 6)) if len(keys) > 1 else [figure]
        panels = parts[0].subplots(rows, math.ceil(len(names) / rows), sharey=True, squeeze=False).ravel()
        for axes, key in zip(panels, names, strict=False):
            _strip(axes, points, key, colours, means)
            axes.set_xlabel(names[key])
        for axes in panels[len(names) :]:
            axes.remove()
        _legend(parts[0], panels[0])
        if len(keys) == 2 and not any(_is_continuous(points[key]) for key in keys):
            _heat_map(parts[1].subplots(), points, names)
        elif len(keys) > 1:
            _parallel(parts[1].subplots(), points, names)
    notes = ["validation bits per base, lower is better"]
    notes += ["this split leaks: the metrics measure memory"] if leaks(runs) else []
    notes += [f"{len(keys) - _MOST} more parameters not drawn"] if len(keys) > _MOST else []
    figure.suptitle("\n".join(textwrap.fill(line, 110) for line in (headline(runs), "; ".join(notes))))
    return figure


def _mark(points: pd.DataFrame, keys: list[str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the points, worst first, with what is drawn (`_BITS`) and its entry in the legend (``kind``); and colours.

    A value far above the better half, or far above chance (2 bits) where the best is below, would squash all others.
    """
    points = points.sort_values(OBJECTIVE, ascending=False).assign(setting="")
    bits, score = points[OBJECTIVE], points.groupby(keys or "setting", dropna=False)[OBJECTIVE].transform("mean")
    best, middle = bits.min(), bits.median()
    fence = max(middle + 5 * (middle - best), best + 0.15)
    near = bits <= (min(fence, 2.2) if best < 2 else fence)
    top = bits[near].max()
    points[_BITS] = bits.where(near, top + max(0.1 * (top - best), 0.01))
    kinds = ["one setting", "the best setting"] if len(keys) > 1 else ["one run", "one run of the best setting"]
    kinds += [] if near.all() else [f"{_OFF_SCALE}, up to {bits.max():.4g}"]
    points["kind"] = np.select([~near, score == score.min()], [kinds[-1], kinds[1]], default=kinds[0])
    palette = sns.color_palette("colorblind")
    return points, dict(zip(kinds, (palette[0], palette[1], palette[7]), strict=False))


def _is_continuous(values: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(values) and values.nunique() > _MANY


def _scale(values: pd.Series[Any]) -> str:
    return "log" if values.min() > 0 and values.max() >= 30 * values.min() else "linear"


def _ordered(values: pd.Series[Any]) -> list[str]:
    """Return the distinct values as text: numbers by size, then the rest."""
    distinct = values.drop_duplicates()
    order = np.lexsort((distinct.astype(str), pd.to_numeric(distinct, errors="coerce")))
    return list(dict.fromkeys(shown(value) for value in distinct.iloc[order]))


def _strip(axes: Axes, points: pd.DataFrame, key: str, colours: Mapping[str, Any], means: str) -> None:
    """Draw the points over the values of one parameter; with the mean of each value if `means` names it."""
    look = {"hue": "kind", "palette": colours, "hue_order": list(colours), "y": _BITS, "ax": axes}
    if _is_continuous(points[key]):
        sns.scatterplot(points, x=key, s=60, **look)
        axes.set_xscale(_scale(points[key]))
        return
    x, order = points[key].map(shown), _ordered(points[key])
    sns.swarmplot(points, x=x, order=order, size=8, **look)
    near = ~points["kind"].str.startswith(_OFF_SCALE)
    if means and x[near].value_counts().max() > 1:
        bars = {"errorbar": "sd" if "sd" in means else "se", "capsize": 0.1, "err_kws": {"zorder": 5}, "zorder": 5}
        bars |= {"color": "black", "linestyle": "none", "linewidth": 1.5, "label": means}
        sns.pointplot(points[near], x=x[near], y=_BITS, order=order, ax=axes, **bars)
    if sum(map(len, order)) > _LETTERS:
        axes.set_xticks(axes.get_xticks(), order, rotation=45, ha="right", rotation_mode="anchor")


def _legend(figure: Figure | SubFigure, axes: Axes) -> None:
    """Put the legend of one of the axes under all of them."""
    handles, labels = axes.get_legend_handles_labels()
    for panel in figure.axes:
        if legend := panel.get_legend():
            legend.remove()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)


def _heat_map(axes: Axes, points: pd.DataFrame, names: dict[str, str]) -> None:
    """Draw the bits per base of each pair of values."""
    down, along = sorted(names, key=lambda key: points[key].nunique())
    text = points.assign(**{key: points[key].map(shown) for key in names})
    cells = text.pivot_table([_BITS, OBJECTIVE], index=down, columns=along).reindex(_ordered(points[down]))
    drawn, true = (cells[bits][_ordered(points[along])] for bits in (_BITS, OBJECTIVE))
    axes.grid(False)
    sns.heatmap(drawn, annot=true.map(bits_text), fmt="", cmap="viridis", cbar_kws={"label": _BITS}, ax=axes)
    axes.set(xlabel=names[along], ylabel=names[down])


def _parallel(axes: Axes, points: pd.DataFrame, names: dict[str, str]) -> None:
    """Draw every setting as a line across its parameters to its bits per base, the darker the better."""
    lines = []
    for position, key in enumerate([*names, _BITS]):
        axis = axes.twinx()
        axis.spines["right"].set_position(("data", position))
        axis.grid(False)
        if key == _BITS or _is_continuous(points[key]):
            values = points[key].to_numpy(dtype=float)
            axis.set_yscale("linear" if key == _BITS else _scale(points[key]))
        else:
            order = _ordered(points[key])
            values = points[key].map(shown).map(order.index).to_numpy(dtype=float)
            values += np.linspace(0.1, -0.1, len(points))  # side by side, the best lowest
            axis.set_yticks(range(len(order)), order, backgroundcolor="#ffffffb0")
        axis.margins(y=0.08)
        axis.plot(np.full(len(values), position), values, linestyle="none")  # sets the limits
        axis.autoscale_view()
        on_page = axis.transScale + axis.transLimits
        lines.append(on_page.transform(np.column_stack([np.zeros(len(values)), values]))[:, 1])
    axes.set_prop_cycle(color=sns.color_palette("viridis_r", len(points)))
    axes.plot(np.array(lines), alpha=0.7, linewidth=2)
    labels = [*names.values(), _BITS]
    turned = sum(map(len, labels)) > 3 * _LETTERS
    axes.set_xticks(range(len(labels)), labels, rotation=20 * turned, ha="right" if turned else "center")
    axes.set(yticks=[], ylim=(0, 1))
