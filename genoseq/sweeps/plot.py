"""The picture of a sweep: what each parameter is worth, and which settings are best."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from genoseq.files import write_atomic
from genoseq.overrides import short_names
from genoseq.report.figures import BLACK, BLUE, INK, ORANGE, SKY, VERMILLION
from genoseq.sweeps.groups import Group, Sweep, fold
from genoseq.sweeps.report_panels import (
    LETTERS,
    Dot,
    heat_map,
    line_style,
    mean_line,
    scatter_map,
    star,
    strip_panel,
    turn_labels,
)
from genoseq.sweeps.report_parallel import HIGHLIGHTED, MAP_BEST, parallel_panel
from genoseq.sweeps.report_scales import MANY, Scale, View, view_of
from genoseq.sweeps.report_words import Level, genomes, leaks, levels

_WIDTH = 13.0  # inches, at 100 dots each
_MOST = 8  # parameters drawn
_BITS = "validation bits per base"


def draw_sweep(sweep: Sweep, out_png: Path) -> None:
    """Draw a sweep as a PNG, 1300 pixels wide.

    Parameters
    ----------
    sweep : Sweep
        At least one run has a validation figure.
    out_png : Path
    """
    png = io.BytesIO()
    sweep_figure(sweep).savefig(png, format="png")
    write_atomic(out_png, png.getvalue())


def sweep_figure(sweep: Sweep) -> Figure:
    """Draw a sweep: dots over one parameter, a map of two, parallel coordinates of more."""
    groups = fold(sweep)
    keys = sweep.parameters[:_MOST]
    names = {key: name for key, name in short_names(sweep.parameters).items() if key in keys}
    drawn = _one if len(keys) < 2 else _two if len(keys) == 2 else _more
    figure = Figure(dpi=100, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08, hspace=0.03, wspace=0.03)  # type: ignore[union-attr, call-arg]
    handles, view = drawn(figure, sweep, groups, names)
    if view.beyond:
        n, worst = len(view.beyond), view.beyond[-1]
        notes = ["not in the means"] if any(str(h.get_label()).startswith("mean") for h in handles) else []
        notes += ["dotted below"] if drawn is _more else []
        label = ", ".join([f"{n} beyond this scale (up to {worst:,.2f})", *notes])
        handles.append(_mark("^", VERMILLION, label))
    handles += [_line(level, style, view) for level, style in line_style(levels(sweep))]
    _legend(figure, handles)
    figure.suptitle(_title(sweep), x=0.012, ha="left", fontsize=15, color=INK, weight="bold")
    turn_labels(figure)
    return figure


def _legend(figure: Figure, handles: list[Line2D]) -> None:
    """Put the legend under the picture, in as many columns as there is room for."""
    legend = None
    for columns in (3, 2, 1):
        if legend is not None:
            legend.remove()
        legend = figure.legend(
            handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=LETTERS
        )
        if legend.get_window_extent().width <= 0.98 * figure.bbox.width:
            return


def _title(sweep: Sweep) -> str:
    counts = sweep.counts
    rest = ", ".join(f"{n} {state}" for state, n in counts.items() if n and state != "done")
    done = f"{counts['done']} of {len(sweep.runs)} runs done" + (f" ({rest})" if rest else "")
    hidden = len(sweep.parameters) - _MOST
    what = ", ".join(short_names(sweep.parameters).values())
    what = what if len(what) <= 80 else f"{len(sweep.parameters)} parameters"
    about = "; ".join([*genomes(sweep)[:3], *([f"sweep of {what}"] if what else []), done])
    notes = [f"{_BITS}, lower is better"]
    notes += ["this split leaks: the figures measure memory"] if leaks(sweep) else []
    notes += [f"{hidden} more parameters not drawn"] if hidden > 0 else []
    whole = "; ".join([about, *notes])
    return whole if len(whole) <= 100 else "\n".join(textwrap.fill(part, 100) for part in (about, "; ".join(notes)))


def _mark(marker: str, colour: str, label: str, edge: str | None = None) -> Line2D:
    return Line2D(
        [], [], linestyle="", marker=marker, color=colour, markeredgecolor=edge or colour, markersize=10, label=label
    )


def _line(level: Level, style: dict[str, object], view: View) -> Line2D:
    out = "" if level in view.levels else ", off this scale"
    part = "" if level.label == "chance" else ", on the test part"
    return Line2D([], [], label=f"{level.label}{part}: {level.bits:.3f}{out}", **style)  # type: ignore[arg-type]


def _dots(groups: Sequence[Group], key: str) -> list[Dot]:
    best = groups[0]
    return [Dot(g.settings[key], g.val.mean, g is best) for g in groups if g.val.mean is not None]


def _handles(groups: Sequence[Group], spread: str) -> list[Line2D]:
    repeated = max(group.seeds for group in groups) > 1
    out = [_mark("o", SKY, "one setting, mean over its seeds" if repeated else "one setting", BLUE)]
    out += [_mark("*", ORANGE, "the best", BLACK)]
    return [*out, Line2D([], [], color=BLACK, marker="o", markersize=5, label=spread)] if spread else out


def _one(figure: Figure, sweep: Sweep, groups: Sequence[Group], names: dict[str, str]) -> tuple[list[Line2D], View]:
    """Draw every run over the values of the one parameter."""
    figure.set_size_inches(_WIDTH, 7.2)
    axes = figure.add_subplot()
    key = next(iter(names), "")
    runs = [(run.settings.get(key), run.val) for group in groups for run in group.runs]
    dots = [Dot(value if key else "all runs", bits) for value, bits in runs if bits is not None]
    scale = Scale.of(value if key else "all runs" for value, _ in runs)
    view = view_of((dot.bits for dot in dots), levels(sweep))
    strip_panel(axes, dots, scale, names.get(key, "one setting"), view, levels(sweep))
    axes.set_ylabel(_BITS, fontsize=LETTERS + 1, color=INK)
    handles = [_mark("o", SKY, "one run", BLUE)]
    if key:
        star(axes, scale.at(groups[0].settings[key]), groups[0].val.mean or view.low)
        handles.append(_mark("*", ORANGE, "the best setting", BLACK))
    if not scale.continuous:
        mean_line(axes, dots, scale, view, standard_error=True)
    if not scale.continuous and max(group.val.n for group in groups) > 1:
        handles.append(Line2D([], [], color=BLACK, marker="o", markersize=5, label="mean ± standard error over seeds"))
    return handles, view


def _two(figure: Figure, sweep: Sweep, groups: Sequence[Group], names: dict[str, str]) -> tuple[list[Line2D], View]:
    """Draw the map of both parameters, and beside it what each is worth."""
    figure.set_size_inches(_WIDTH, 7.8)
    grid = figure.add_gridspec(2, 2, width_ratios=(1.25, 1))
    view = view_of((g.val.mean for g in groups if g.val.mean is not None), levels(sweep))
    scales = {key: Scale.of(group.settings[key] for group in groups) for key in names}
    down, along = sorted(names, key=lambda key: len(scales[key].values))
    pair = (down, along)
    board = figure.add_subplot(grid[:, 0])
    draw = scatter_map if any(len(scale.values) > MANY for scale in scales.values()) else heat_map
    bar = figure.colorbar(draw(board, groups, pair, names, view), ax=board, pad=0.02, aspect=32)
    _name_bar(bar.ax)
    handles = _effect_panels([figure.add_subplot(grid[i, 1]) for i in range(2)], sweep, groups, names, view)
    return handles, view


def _more(figure: Figure, sweep: Sweep, groups: Sequence[Group], names: dict[str, str]) -> tuple[list[Line2D], View]:
    """Draw what each parameter is worth, and under that every setting across all of them."""
    rows = math.ceil(len(names) / 4)
    columns = math.ceil(len(names) / rows)
    figure.set_size_inches(_WIDTH, 3.4 * rows + 6.2)
    grid = figure.add_gridspec(2, 1, height_ratios=(3.4 * rows, 4.9))
    top = grid[0].subgridspec(rows, columns)
    view = view_of((g.val.mean for g in groups if g.val.mean is not None), levels(sweep))
    places = [figure.add_subplot(top[i // columns, i % columns]) for i in range(len(names))]
    handles = _effect_panels(places, sweep, groups, names, view)
    for i, axes in enumerate(places):
        if i % columns:
            axes.set_ylabel("")
            axes.tick_params(labelleft=False)
    lines = figure.add_subplot(grid[1])
    bar = figure.colorbar(parallel_panel(lines, groups, names, view), ax=lines, pad=0.01, aspect=24)
    _name_bar(bar.ax)
    best = Line2D([], [], color=MAP_BEST, linewidth=5, label=f"the best {HIGHLIGHTED}, outlined (below)")
    return [*handles, best], view


def _name_bar(axes: Axes) -> None:
    axes.set_ylabel(_BITS, fontsize=LETTERS, color=INK)
    axes.tick_params(labelsize=LETTERS - 1)


def _effect_panels(
    places: Sequence[Axes], sweep: Sweep, groups: Sequence[Group], names: dict[str, str], view: View
) -> list[Line2D]:
    """Draw one panel a parameter; return the entries of their legend."""
    few = False
    for axes, (key, name) in zip(places, names.items(), strict=True):
        dots = _dots(groups, key)
        scale = Scale.of(group.settings[key] for group in groups)
        strip_panel(axes, dots, scale, name, view, levels(sweep))
        if not scale.continuous:
            few = True
            mean_line(axes, dots, scale, view, standard_error=False)
        axes.set_ylabel("val bits per base", fontsize=LETTERS, color=INK)
    return _handles(groups, "mean ± sd over all the rest" if few else "")
