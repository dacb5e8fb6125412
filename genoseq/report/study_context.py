"""The study ``context``: what a token's context is worth, by the tokens that were read before it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from genoseq.errors import UserError
from genoseq.files import read_metrics, write_csv
from genoseq.report import study_common as common
from genoseq.report.figures import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION
from genoseq.sweeps.groups import Run, Stat

_STYLES = [(ORANGE, "o"), (SKY, "s"), (GREEN, "^"), (PURPLE, "D"), (VERMILLION, "v"), (BLUE, "P"), (BLACK, "X")]
_A_DECADE = 7  # stretches that the curves are averaged over
_LEAST = 0.003  # share of a window's predictions that a stretch needs to be drawn: fewer are too noisy


@dataclass(frozen=True)
class Scored:
    """A run and its test figures by position: known tokens and bits per base after 1, 2, … tokens."""

    run: Run
    n: NDArray[np.float64]
    bits: NDArray[np.float64]

    @property
    def seq_len(self) -> int:
        """Tokens a window."""
        return len(self.n)

    @property
    def last(self) -> float:
        """Bits per base of the last tenth of the window."""
        return self.mean(self.seq_len - max(1, self.seq_len // 10) + 1, self.seq_len + 1)

    def mean(self, low: int, high: int) -> float:
        """Return bits per base of positions low … high − 1, counted from 1."""
        n, bits = self.n[low - 1 : high - 1], self.bits[low - 1 : high - 1]
        known = n > 0
        return float((n * bits)[known].sum() / n[known].sum()) if known.any() else math.nan


@dataclass(frozen=True)
class Window:
    """The runs of one window length, which differ in their seed only."""

    seq_len: int
    members: tuple[Scored, ...]

    def stat(self, values: Sequence[float | None]) -> Stat:
        """Return mean and standard error over the seeds."""
        return Stat.of([value for value in values if value is not None and math.isfinite(value)])

    @property
    def test(self) -> Stat:
        """Bits per base of the whole window, over the windows that tile the test part."""
        return self.stat([one.run.test for one in self.members])

    @property
    def last(self) -> Stat:
        """Bits per base of the last tenth of the window."""
        return self.stat([one.last for one in self.members])


def write_study(folder: Path, out: Path) -> None:
    """Write results.csv, positions.csv and figure.png of the study's runs, and print its table.

    Parameters
    ----------
    folder : Path
        Where the runs are.
    out : Path
    """
    sweep = common.read_study(folder)
    runs = common.tested(sweep)
    windows = by_window([_read(run) for run in runs])
    files = [out / "results.csv", out / "positions.csv", out / "figure.png"]
    write_csv(files[0], [_row(one) for window in windows for one in window.members])
    points = [point for window in windows for point in curve(window, windows[-1].seq_len)]
    write_csv(files[1], points)
    _draw(windows, points, files[2])
    heads = ("window", "windows\na step", "steps", "test\nbits/base", "last tenth\nbits/base", "seconds")
    rows = [_cells(window) for window in windows]
    levels = [(level.label, "", "", f"{level.bits:.4f}", "", "") for level in common.baselines(runs).values()]
    common.print_study(sweep, _scale(windows), heads, rows, levels, files)


def _read(run: Run) -> Scored:
    file = run.folder / "positions.csv"
    if not file.is_file():
        raise UserError(f"there is no {file}: train the study's runs with experiment=context, or add positions=10")
    columns = read_metrics(file)
    n, bits = (np.array([math.nan if x is None else x for x in columns[key]]) for key in ("n", "bits_per_base"))
    return Scored(run, n, bits)


def by_window(scored: Sequence[Scored]) -> list[Window]:
    """Return the runs by the length of their windows, the shortest first."""
    ordered = sorted(scored, key=lambda one: (one.seq_len, one.run.result.get("seed") or 0))
    groups = itertools.groupby(ordered, key=lambda one: one.seq_len)
    return [Window(seq_len, tuple(members)) for seq_len, members in groups]


def curve(window: Window, longest: int) -> list[dict[str, Any]]:
    """Return bits per base by stretches of positions, equally wide on a logarithmic axis, the same for all windows."""
    number = max(2, round(_A_DECADE * math.log10(longest + 1)) + 1)
    edges = [int(edge) for edge in np.unique(np.geomspace(1, longest + 1, number).round()) if edge <= window.seq_len]
    rows = []
    for low, high in itertools.pairwise([*edges, window.seq_len + 1]):
        n = sum(float(one.n[low - 1 : high - 1].sum()) for one in window.members)
        stat = window.stat([one.mean(low, high) for one in window.members])
        named = {"data.seq_len": window.seq_len, "first": low, "last": high - 1, "n": round(n)}
        rows.append(named | {"bits_per_base": stat.mean, "standard_error": stat.se})
    return rows


def _row(one: Scored) -> dict[str, Any]:
    run = one.run
    return {
        "name": run.name,
        "data.seq_len": one.seq_len,
        "seed": run.result.get("seed"),
        "data.batch_size": common.configured(run, "data.batch_size"),
        "train/steps": run.step,
        "train/tokens": common.training_tokens(run),
        **{key: run.figure(key) for key in ("val/bits_per_base", "test/bits_per_base")},
        "last_tenth/bits_per_base": one.last,
        **{f"{name}/bits_per_base": run.figure(f"{name}/bits_per_base") for name in common.OPPONENTS},
        **{key: run.figure(key) for key in ("train/tokens_per_second", "seconds")},
    }


def _cells(window: Window) -> list[str]:
    first = window.members[0].run
    seconds = window.stat([one.run.figure("seconds") for one in window.members])
    return [
        f"{window.seq_len:,}",
        f"{common.configured(first, 'data.batch_size'):,}",
        f"{first.step or 0:,}",
        common.told(window.test),
        common.told(window.last),
        "–" if seconds.mean is None else f"{seconds.mean:.0f}",
    ]


def _scale(windows: Sequence[Window]) -> str:
    return common.scale_line([[one.run for one in window.members] for window in windows])


def _draw(windows: Sequence[Window], points: Sequence[dict[str, Any]], out: Path) -> None:
    runs = [one.run for window in windows for one in window.members]
    title = f"What more context is worth: {runs[0].result.get('genome/name')}, windows from the zero state"
    figure, axes = common.canvas(title, _scale(windows), "tokens (bases) read since the zero state")
    for i, window in enumerate(windows):
        colour, marker = _STYLES[i % len(_STYLES)]
        mine = [point for point in points if point["data.seq_len"] == window.seq_len]
        least = _LEAST * sum(point["n"] for point in mine)
        mine = [point for point in mine if point["n"] >= least]
        x = [math.sqrt(point["first"] * point["last"]) for point in mine]
        y = [math.nan if point["bits_per_base"] is None else point["bits_per_base"] for point in mine]
        axes.plot(x, y, color=colour, marker=marker, markersize=8, linewidth=2, label=f"{window.seq_len:,}")
    common.draw_levels(axes, common.baselines(runs))
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if windows[-1].seq_len <= 1000 else (1, 3)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    common.save(figure, "window (tokens)", out)
