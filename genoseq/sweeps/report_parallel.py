"""Parallel coordinates: every setting of a sweep as a line across its parameters to its bits per base."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from genoseq.report.figures import BLACK, INK
from genoseq.sweeps.groups import Group
from genoseq.sweeps.report_panels import LETTERS
from genoseq.sweeps.report_scales import Scale, View

_MAP = "cividis"  # not reversed as in the map: on white the dark lines stand out
MAP_BEST = "#00224E"
"""Colour of the best line."""
HIGHLIGHTED = 3
_BAND = 0.16  # share of the room between two categories that their lines are spread over
_WIDEST = 0.08  # of the axis


def parallel_panel(axes: Axes, groups: Sequence[Group], names: dict[str, str], view: View) -> Any:
    """Draw the settings that have a figure, best last; return what a colour bar needs.

    Parameters
    ----------
    axes : Axes
    groups : sequence of Group
        Best first.
    names : dict
        What to call each parameter, by its key.
    view : View
        What lies above it is drawn to the end of the last axis.
    """
    known = [group for group in groups if group.val.mean is not None]
    scales = {key: Scale.of((group.settings[key] for group in known), few="log") for key in names}
    low, high = view.low, max(view.high, view.low + 1e-6)
    norm = Normalize(low, high)
    colours = matplotlib.colormaps[_MAP]
    for rank in reversed(range(len(known))):
        group = known[rank]
        bits = min(float(group.val.mean or 0.0), view.high)
        line = [_place(scale, group, rank / max(len(known) - 1, 1), key) for key, scale in scales.items()]
        _draw(axes, [*line, norm(bits)], colours(norm(bits)), rank < HIGHLIGHTED, not view.holds(group.val.mean or 0.0))
    for i, scale in enumerate(scales.values()):
        _axis(axes, i, scale.ticks())
    marks = MaxNLocator(5).tick_values(low, high)
    _axis(axes, len(scales), [(float(norm(x)), f"{x:.3f}") for x in marks if low <= x <= high])
    axes.set_xticks(range(len(scales) + 1), [*names.values(), "validation\nbits per base"])
    axes.tick_params(axis="x", length=0, labelsize=LETTERS + 1, labelcolor=INK, pad=6)
    axes.set_yticks([])
    axes.set_xlim(-0.08, len(scales) + 0.08)
    axes.set_ylim(-0.07, 1.07)
    axes.spines[:].set_visible(False)
    return ScalarMappable(norm, _MAP)


def _place(scale: Scale, group: Group, rank: float, key: str) -> float:
    """Return the height of a setting's line at a parameter; lines of one category lie side by side, best lowest."""
    height = scale.part(group.settings[key])
    if len(scale.values) > 12 or len(scale.values) < 2:
        return height
    parts = [scale.part(value) for value in scale.values]
    return height + min(_BAND * float(min(np.diff(parts))), _WIDEST) * (rank - 0.5)


def _draw(axes: Axes, heights: Sequence[float], colour: Any, best: bool, far: bool) -> None:
    """Draw one line, level where it crosses an axis."""
    t = np.linspace(0, 1, 25)
    ease = t * t * (3 - 2 * t)
    xs = np.concatenate([i + t for i in range(len(heights) - 1)])
    ys = np.concatenate([a + (b - a) * ease for a, b in itertools.pairwise(heights)])
    effects = [patheffects.Stroke(linewidth=5.5, foreground=BLACK), patheffects.Normal()] if best else None
    axes.plot(
        xs,
        ys,
        color="#999999" if far else colour,
        linestyle=":" if far else "-",
        linewidth=3.4 if best else 1.5,
        alpha=1.0 if best else 0.75,
        zorder=4 if best else 2,
        path_effects=effects,
    )


def _axis(axes: Axes, x: float, ticks: Sequence[tuple[float, str]]) -> None:
    axes.plot([x, x], [0, 1], color=INK, linewidth=1.6, zorder=5)
    halo = [patheffects.withStroke(linewidth=4, foreground="white")]
    for y, label in ticks:
        axes.plot(x, y, marker="_", color=INK, markersize=9, zorder=5)
        axes.annotate(
            label, (x, y), (8, 0), textcoords="offset points", va="center", fontsize=LETTERS, color=INK,
            path_effects=halo, zorder=6, annotation_clip=False,
        )  # fmt: skip
