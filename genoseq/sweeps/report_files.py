"""What a sweep leaves in its folder: ``sweep.csv``, ``sweep.json`` and ``sweep.png``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from genoseq.files import write_csv, write_json
from genoseq.sweeps.collect import collect
from genoseq.sweeps.groups import Group, Run, Sweep, effects, fold
from genoseq.sweeps.report_words import words
from genoseq.sweeps.table import print_sweep

_FIGURES = (
    "val/bits_per_base",
    "test/bits_per_base",
    "test/accuracy",
    "baseline/bits_per_base",
    "imm/bits_per_base",
)
_WORK = ("train/tokens_per_second", "seconds")


def write_sweep(folder: Path | str, console: Console | None = None) -> Sweep:
    """Gather a sweep, write its table, figures and picture into its folder, and print how it went.

    Parameters
    ----------
    folder : Path or str
        The sweep's folder; its runs may still be at work.
    console : Console, optional
        Standard output if left out.

    Returns
    -------
    Sweep

    Raises
    ------
    UserError
        If there is no such folder, or no run in it.
    """
    sweep = collect(folder)
    groups = fold(sweep)
    write_csv(sweep.folder / "sweep.csv", [_row(sweep, run) for run in sweep.runs])
    write_json(sweep.folder / "sweep.json", sweep_result(sweep, groups))
    if any(group.val.mean is not None for group in groups):
        from genoseq.sweeps.plot import draw_sweep  # matplotlib is slow to import

        draw_sweep(sweep, sweep.folder / "sweep.png")
    print_sweep(sweep, console)
    return sweep


def _row(sweep: Sweep, run: Run) -> dict[str, Any]:
    row: dict[str, Any] = {"name": run.name, "state": run.state, "why": run.why}
    row |= {key: run.settings.get(key) for key in sweep.varied}
    row |= {key: run.figure(key) for key in _FIGURES}
    return row | {"train/steps": run.step} | {key: run.figure(key) for key in _WORK}


def sweep_result(sweep: Sweep, groups: Sequence[Group]) -> dict[str, Any]:
    """Return what ``sweep.json`` says; bits are per base, accuracies fractions."""
    best = groups[0] if groups and groups[0].val.mean is not None else None
    return {
        "objective": sweep.objective,
        "varied": sweep.varied,
        "counts": sweep.counts,
        "best": None if best is None else {**_group(best), "overrides": words(best)},
        "groups": [_group(group) for group in groups],
        "effects": {key: [asdict(effect) for effect in effects(groups, key)] for key in sweep.parameters},
        "failed": [{"name": run.name, "why": run.why} for run in sweep.runs if run.state == "failed"],
        "unfinished": [_progress(run) for run in sweep.runs if run.state not in ("done", "failed")],
    }


def _group(group: Group) -> dict[str, Any]:
    return {
        "settings": group.settings,
        "runs": [run.name for run in group.runs],
        "seeds": group.seeds,
        "done": group.done,
        "val/bits_per_base": asdict(group.val),
        "test/bits_per_base": asdict(group.test),
        "test/accuracy": asdict(group.accuracy),
    }


def _progress(run: Run) -> dict[str, Any]:
    steps = {"step": run.step, "max_steps": run.max_steps, "latest": run.latest}
    return {"name": run.name, "state": run.state, "why": run.why} | steps
