"""The study ``tokens``: characters against k-mers that overlap and k-mers that do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.ticker import FixedLocator

from genoseq.files import write_csv
from genoseq.report import study_common as common
from genoseq.report.figures import BLACK, BLUE, VERMILLION
from genoseq.sweeps.groups import Run, Stat

CHARACTERS, OVERLAPPING, DISJOINT = "characters", "overlapping", "disjoint"
_STYLES = {OVERLAPPING: (BLUE, "o", "-"), DISJOINT: (VERMILLION, "s", (0, (7, 2)))}


@dataclass(frozen=True)
class Kind:
    """The runs of one kind of token, which differ in their seed only.

    Attributes
    ----------
    name : str
        `CHARACTERS`, `OVERLAPPING`, `DISJOINT`, or the stride if it is neither 1 nor k.
    k : int
        Bases a token.
    runs : tuple of Run
    """

    name: str
    k: int
    runs: tuple[Run, ...]

    def stat(self, key: str) -> Stat:
        """Return mean and standard error of a figure over the seeds."""
        return Stat.of([value for run in self.runs if (value := run.figure(key)) is not None])


def write_study(folder: Path, out: Path) -> None:
    """Write results.csv and figure.png of the study's runs, and print its table.

    Parameters
    ----------
    folder : Path
        Where the runs are.
    out : Path
    """
    sweep = common.read_study(folder)
    runs = common.tested(sweep)
    kinds = by_kind(runs)
    files = [out / "results.csv", out / "figure.png"]
    write_csv(files[0], [_row(kind, run) for kind in kinds for run in kind.runs])
    _draw(kinds, files[1])
    heads = ("tokens", "words", "bits/base", "training\nbases", "accuracy\na token", "seconds")
    levels = [
        (
            level.label,
            "",
            f"{level.bits:.4f}",
            "",
            "" if level.accuracy is None else f"{100 * level.accuracy:.2f} %",
            "",
        )
        for level in common.baselines(runs).values()
    ]
    common.print_study(sweep, _scale(kinds), heads, [_cells(kind) for kind in kinds], levels, files)


def by_kind(runs: Sequence[Run]) -> list[Kind]:
    """Return the runs by their tokens: characters, then k-mers that overlap, then those that do not, by k."""
    members: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        members.setdefault((_name(run), int(run.result["tokens/k"])), []).append(run)
    order = {CHARACTERS: 0, OVERLAPPING: 1, DISJOINT: 2}
    kinds = [Kind(name, k, tuple(found)) for (name, k), found in members.items()]
    return sorted(kinds, key=lambda kind: (order.get(kind.name, 3), kind.name, kind.k))


def _name(run: Run) -> str:
    k, stride = int(run.result["tokens/k"]), int(run.result["tokens/stride"])
    named = {1: CHARACTERS if k == 1 else OVERLAPPING, k: DISJOINT} if k > 1 else {1: CHARACTERS}
    return named.get(stride, f"stride {stride}")


def _bases(run: Run) -> int:
    """Return the bases that a run's training tokens added, each counted as often as it was read."""
    return common.training_tokens(run) * int(run.result["tokens/new_bases"])


def _row(kind: Kind, run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "tokens": kind.name,
        "k": kind.k,
        "stride": run.result["tokens/stride"],
        "seed": run.result.get("seed"),
        "train/steps": run.step,
        "train/tokens": common.training_tokens(run),
        "train/bases": _bases(run),
        **{key: run.figure(key) for key in ("val/bits_per_base", "test/bits_per_base", "test/accuracy")},
        **{f"{name}/bits_per_base": run.figure(f"{name}/bits_per_base") for name in common.OPPONENTS},
        **{key: run.figure(key) for key in ("model/parameters", "train/tokens_per_second", "seconds")},
    }


def _cells(kind: Kind) -> list[str]:
    accuracy, seconds = kind.stat("test/accuracy").mean, kind.stat("seconds").mean
    return [
        kind.name if kind.name == CHARACTERS else f"{kind.k}-mers, {kind.name}",
        f"{4**kind.k:,}",
        common.told(kind.stat("test/bits_per_base")),
        f"{_bases(kind.runs[0]) / 1e6:.1f} M",
        "–" if accuracy is None else f"{100 * accuracy:.2f} %",
        "–" if seconds is None else f"{seconds:.0f}",
    ]


def _scale(kinds: Sequence[Kind]) -> str:
    return common.scale_line([kind.runs for kind in kinds])


def _draw(kinds: Sequence[Kind], out: Path) -> None:
    runs = [run for kind in kinds for run in kind.runs]
    title = f"Characters against k-mers: {runs[0].result.get('genome/name')}, test part"
    figure, axes = common.canvas(title, _scale(kinds), "k (bases a token)")
    single = [kind for kind in kinds if kind.name == CHARACTERS]
    for name, (colour, marker, dashes) in _STYLES.items():
        mine = [kind for kind in kinds if kind.name == name]
        if not mine:
            continue
        x, y, error = _points([*single, *mine])  # to both kinds a character is the case k = 1
        label = f"k-mers, {name}\n(stride {'1' if name == OVERLAPPING else 'k'})"
        style: dict[str, Any] = {
            "color": colour,
            "linewidth": 2.5,
            "linestyle": dashes,
            "marker": marker,
            "markersize": 11,
        }
        axes.plot(x, y, markevery=slice(len(single), None), label=label, **style)
        axes.errorbar(x, y, error, color=colour, linestyle="", capsize=6)
    if single:
        x, y, error = _points(single)
        axes.plot(x, y, color=BLACK, linestyle="", marker="D", markersize=12, zorder=3, label=CHARACTERS)
        axes.errorbar(x, y, error, color=BLACK, linestyle="", capsize=6, zorder=3)
    common.draw_levels(axes, common.baselines(runs))
    axes.xaxis.set_major_locator(FixedLocator(sorted({kind.k for kind in kinds})))
    common.save(figure, None, out)


def _points(kinds: Sequence[Kind]) -> tuple[list[int], list[float], list[float]]:
    """Return k, mean bits per base and its standard error (0 below two seeds) of each kind."""
    stats = [kind.stat("test/bits_per_base") for kind in kinds]
    means = [math.nan if stat.mean is None else stat.mean for stat in stats]
    return [kind.k for kind in kinds], means, [stat.se or 0.0 for stat in stats]
