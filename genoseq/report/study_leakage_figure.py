"""The figure of the study of the split: accuracy by order of table, and by how far apart windows start."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from genoseq.files import write_atomic
from genoseq.report.figures import BLACK, BLUE, FAINT, GREEN, INK, ORANGE, PURPLE, SKY, VERMILLION
from genoseq.report.study_leakage_read import Measured, largest, scale, trained

_COLOURS = (VERMILLION, ORANGE, PURPLE, SKY, GREEN)
_MARKERS = "os^Dv"
_BESIDE = 19.5  # where the LSTM stands on the axis of orders
_LETTERS = 13


def draw_leakage(runs: Sequence[Measured], out_png: Path) -> None:
    """Draw the study as a PNG of 1200 × 750 pixels."""
    png = io.BytesIO()
    leakage_figure(runs).savefig(png, format="png")
    write_atomic(out_png, png.getvalue())


def leakage_figure(runs: Sequence[Measured]) -> Figure:
    """Draw accuracy over the order of the table, and the best accuracies over the split."""
    figure = Figure(figsize=(12, 7.5), dpi=100, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(h_pad=0.1, w_pad=0.12)  # type: ignore[union-attr, call-arg]
    left, right = figure.subplots(1, 2, sharey=True)
    for axes in (left, right):
        axes.tick_params(labelsize=_LETTERS, labelcolor=INK, labelleft=True)
        axes.grid(color=FAINT, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    _by_order(left, runs)
    _by_split(right, runs)
    left.set_ylim(0, 103)
    for axes, columns, title in ((left, 2, "windows start"), (right, 1, None)):
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.16),
            ncols=columns,
            frameon=False,
            fontsize=_LETTERS,
            title=title,
            title_fontsize=_LETTERS,
            alignment="left",
            handlelength=3,
        )
    figure.suptitle(
        f"{largest(runs)[0].genome}: accuracy of tables of counts and of an LSTM, by split\n{scale(runs)}",
        fontsize=15,
        color=INK,
    )
    return figure


def _styles(runs: Sequence[Measured]) -> dict[int | None, dict[str, Any]]:
    """Return the colour, marker and dashes of each stride; honest splits are black."""
    strides = sorted({one.stride for one in runs if one.stride is not None})
    styles: dict[int | None, dict[str, Any]] = {
        # lines that coincide show by their markers' sizes
        stride: {"color": _COLOURS[i % 5], "marker": _MARKERS[i % 5], "markersize": max(6, 14 - 2 * i)}
        for i, stride in enumerate(strides)
    }
    return styles | {None: {"color": BLACK, "marker": "X", "markersize": 6, "linestyle": "--"}}


def _by_order(axes: Axes, runs: Sequence[Measured]) -> None:
    styles, shown, networks = _styles(runs), largest(runs), trained(runs)
    for one in shown:
        percent = [100 * score.accuracy for score in one.tables]
        axes.plot(range(len(percent)), percent, label=one.label, linewidth=2, **styles[one.stride])
    for i, one in enumerate(networks):
        style = styles[one.stride] | {"linestyle": "none", "markersize": 10, "markeredgecolor": INK}
        axes.plot(_BESIDE + 0.6 * (i - (len(networks) - 1) / 2), 100 * one.others["LSTM"].accuracy, **style)
    axes.axhline(100 * shown[0].others["chance"].accuracy, color=INK, linewidth=1.5, linestyle=":", label="chance")
    orders = list(range(0, max(len(one.tables) for one in shown), 4))
    names = [str(order) for order in orders]
    if networks:
        axes.axvline((orders[-1] + _BESIDE) / 2 - 0.5, color=FAINT, linewidth=1.5)
        orders, names = [*orders, _BESIDE], [*names, f"LSTM,\n{_short(networks[0])}"]  # type: ignore[list-item]
        axes.set_xlim(-0.8, _BESIDE + 2.5)
    axes.set_xticks(orders, names)
    axes.set_xlabel("bases before the predicted one (order k of the table)", fontsize=14, color=INK)
    axes.set_ylabel("accuracy on the test part (%)", fontsize=14, color=INK)
    axes.set_title(f"Tables of counts on {_short(shown[0])}", fontsize=14, color=INK)


def _by_split(axes: Axes, runs: Sequence[Measured]) -> None:
    places = list(dict.fromkeys(one.stride for one in sorted(runs, key=lambda r: (r.stride is None, r.stride or 0))))
    whole, networks = largest(runs), trained(runs)

    def line(group: Sequence[Measured], value: Callable[[Measured], float], label: str, **style: Any) -> None:
        at = [places.index(one.stride) for one in group]
        axes.plot(at, [100 * value(one) for one in group], label=label, linewidth=2, markersize=8, **style)

    def best(one: Measured) -> float:
        return one.tables[one.best_order].accuracy

    line(whole, _seen, "test positions seen in training", color=BLACK, marker="s", linestyle=":")
    line(whole, best, f"best table, {_short(whole[0])}", color=BLUE, marker="o")
    if networks:
        if networks[0].bases != whole[0].bases:
            line(networks, best, f"best table, {_short(networks[0])}", color=SKY, marker="D", linestyle="--")
        label = f"LSTM, {_short(networks[0])}"
        line(networks, lambda one: one.others["LSTM"].accuracy, label, color=VERMILLION, marker="^", linestyle="-.")
    names = ["contiguous" if stride is None else str(stride) for stride in places]
    axes.set_xticks(range(len(places)), names)
    axes.set_xlabel("bases from one window's start to the next", fontsize=14, color=INK)
    axes.set_ylabel("accuracy, or share seen (%)", fontsize=14, color=INK)
    axes.set_title("Best accuracy, and what was seen in training", fontsize=14, color=INK)


def _seen(one: Measured) -> float:
    value = one.run.figure("leakage/positions")
    return float("nan") if value is None else value


def _short(one: Measured) -> str:
    """Return the length of a run's genome."""
    return f"{one.bases / 1e6:.2f} Mb" if one.bases >= 1e6 else f"{one.bases / 1e3:.3g} kb"
