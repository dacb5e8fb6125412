"""Figures of what a model gets right: by position in the window, and base by base."""

import itertools

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
"""Colours that the colour-blind tell apart (Okabe and Ito)."""
INK, FAINT = "#222222", "#D9D9D9"
"""Colours of the lettering and of the grid."""


def position_figure(accuracy: NDArray[np.floating], baseline: float | None, title: str) -> Figure:
    """Draw how the accuracy grows with what the network has read.

    Parameters
    ----------
    accuracy : ndarray of float, (L,)
        Accuracy (fraction) of the prediction after 1, 2, … L tokens from the zero state; nan where nothing was scored.
    baseline : float, optional
        Accuracy (fraction) of the table of counts.
    title : str

    Returns
    -------
    Figure
        900 × 600 pixels.
    """
    figure = Figure(figsize=(9, 6), dpi=100, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    read = np.arange(1, len(accuracy) + 1)
    percent = 100 * np.asarray(accuracy, dtype=np.float64)
    if len(read) < 50:
        axes.plot(read, percent, color=BLUE, linewidth=2, label="model", marker="o" if len(read) < 30 else None)
    else:  # single positions are noisy: means over stretches of equal width on the logarithmic axis
        edges = np.unique(np.geomspace(1, len(read) + 1, 24).round().astype(int))
        stretches = list(itertools.pairwise(edges.tolist()))
        middle = [float(np.sqrt(a * (b - 1))) for a, b in stretches]
        means = [float(np.nanmean(percent[a - 1 : b - 1])) for a, b in stretches]
        axes.plot(middle, means, color=BLUE, linewidth=2, marker="o", label="model")
    if baseline is not None:
        label = f"table of counts ({100 * baseline:.1f} %)"
        axes.axhline(100 * baseline, color=VERMILLION, linewidth=1.8, linestyle="--", label=label)
        figure.legend(loc="outside lower right", ncols=2, frameon=False, fontsize=12)
    if len(read) >= 50:  # most of the gain is in the first tokens
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    axes.set_xlabel("tokens read since the zero state", fontsize=13)
    axes.set_ylabel("accuracy (%)", fontsize=13)
    axes.tick_params(labelsize=12)
    axes.grid(color=FAINT, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=14, color=INK)
    return figure


def confusion_figure(counts: NDArray[np.integer], title: str) -> Figure:
    """Draw which base is taken for which.

    Parameters
    ----------
    counts : ndarray of int, (4, 4)
        Test positions by true base (row) and predicted base (column), both in the order A, C, T, G.
    title : str

    Returns
    -------
    Figure
        700 × 600 pixels; each row in per cent of its sum.
    """
    counts = np.asarray(counts)
    if counts.shape != (4, 4):
        raise ValueError(f"counts must be (4, 4), not {counts.shape}")
    total = counts.sum(1, keepdims=True)
    percent = np.divide(100.0 * counts, total, out=np.full((4, 4), np.nan), where=total > 0)
    figure = Figure(figsize=(7, 6), dpi=100, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    top = max(float(np.nanmax(percent, initial=0.0)), 1.0)
    image = axes.imshow(percent, cmap="cividis", vmin=0, vmax=top)
    for row, column in np.ndindex(4, 4):
        value = percent[row, column]
        text = "–" if np.isnan(value) else f"{value:.1f} %"
        colour = "white" if value < 0.45 * top else "black"  # cividis runs from dark to light; nan is left white
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=14)
    axes.set_xticks(range(4), list("ACTG"), fontsize=14)
    rows = [f"{letter}\n{int(n):,}" for letter, n in zip("ACTG", total[:, 0], strict=True)]
    axes.set_yticks(range(4), rows, fontsize=12)
    axes.set_xlabel("predicted base", fontsize=13)
    axes.set_ylabel("true base (positions)", fontsize=13)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.85)
    bar.set_label("% of the true base's positions", fontsize=12)
    bar.ax.tick_params(labelsize=12)
    figure.suptitle(title, fontsize=14, color=INK)
    return figure
