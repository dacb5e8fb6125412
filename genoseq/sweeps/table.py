"""The lines that a sweep ends with: settings ranked on validation, how sure that is, and what each value is worth."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from genoseq.overrides import short_names
from genoseq.sweeps.groups import Effect, Group, Run, Stat, Sweep, effects, fold
from genoseq.sweeps.report_words import (
    bits,
    cautions,
    count_line,
    genomes,
    how_sure,
    leaks,
    levels,
    setting,
    shown,
    words,
)

SHOWN = 20  # rows of a table; sweep.csv has all
_MANY = 12  # distinct values of a parameter beyond which a table by value says nothing


def print_sweep(sweep: Sweep, console: Console | None = None) -> None:
    """Print how a sweep went, or how far it is.

    Parameters
    ----------
    sweep : Sweep
    console : Console, optional
        Standard output if left out.
    """
    console = console or Console()
    groups = fold(sweep)
    _say(console, "")
    _say(console, ", ".join([*genomes(sweep), count_line(sweep)]))
    if any(group.val.mean is not None for group in groups):
        console.print(_ranking(sweep, groups, console))
        if len(groups) > SHOWN:
            _say(console, f"… and {len(groups) - SHOWN} more, in sweep.csv")
        _say(console, "")
    _unfinished(console, sweep)
    for sentence in cautions(sweep):
        _say(console, sentence, "bold red" if leaks(sweep) else "yellow")
    _verdict(console, groups, bool(sweep.done))
    for key in sweep.parameters:
        _effect(console, sweep, key, effects(groups, key))
    _say(console, "")
    console.print(Text(f"files:   {sweep.folder}"), soft_wrap=True)
    console.print(Text(f"curves:  tensorboard --logdir {shlex.quote(str(sweep.folder))}"), soft_wrap=True)


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style=style))


def _table(*titles: str, left: int = 1) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, title in enumerate(titles):
        table.add_column(Text(title), justify="left" if i < left else "right", no_wrap=i >= left, overflow="fold")
    return table


def _mean(stat: Stat, form: str, dash: str, scale: float = 1.0) -> str:
    return dash if stat.mean is None else form.format(scale * stat.mean)


def _ranking(sweep: Sweep, groups: Sequence[Group], console: Console) -> Table:
    """Return the best settings, and under them what they must beat; a column a parameter if there is room for it."""
    wide = console.options.update(max_width=10_000)
    for keys in ([list(sweep.parameters)] if sweep.parameters else []) + [[]]:
        for timed in (True, False):
            table = _ranked(sweep, groups, console, keys, timed)
            needs = Measurement.get(console, wide, table)
            if needs.maximum <= console.width:
                return table
    return table


def _ranked(sweep: Sweep, groups: Sequence[Group], console: Console, keys: Sequence[str], timed: bool) -> Table:
    dash = "-" if console.options.ascii_only else "–"
    repeated = max(group.seeds for group in groups) > 1
    names = short_names(sweep.parameters)
    what = [names[key] for key in keys] or ["setting"]
    heads = [*(["seeds"] if repeated else []), "val\nbits/base", "test\nbits/base", "test\naccuracy (%)"]
    heads += ["seconds"] if timed else []
    table = _table("", *what, *heads, left=2 if not keys else 1)
    shown_groups = groups[:SHOWN]
    for rank, group in enumerate(shown_groups, start=1):
        known = group.val.mean is not None
        cells = [str(rank) if known else dash]
        cells += [shown(group.settings[key]) for key in keys] or [setting(group.settings).replace(", ", ",\n")]
        cells += [f"{group.val.n}/{group.seeds}"] if repeated else []
        error = "" if group.val.se is None else f" ± {bits(group.val.se)}"
        cells += [bits(group.val.mean) + error if group.val.mean is not None else _state(group)]
        cells += [
            dash if group.test.mean is None else bits(group.test.mean),
            _mean(group.accuracy, "{:.2f}", dash, 100),
        ]
        cells += [_mean(group.seconds, "{:,.0f}", dash)] if timed else []
        style = "bold" if rank == 1 and known else ""
        table.add_row(*map(Text, cells), style=style, end_section=group is shown_groups[-1])
    for level in levels(sweep):
        accuracy = dash if level.accuracy is None else f"{100 * level.accuracy:.2f}"
        blank = [""] * (len(what) - 1 + repeated + 1)
        table.add_row(*map(Text, ["", level.label, *blank, f"{level.bits:.4f}", accuracy, ""][: len(table.columns)]))
    return table


def _state(group: Group) -> str:
    states = [run.state for run in group.runs]
    return next((s for s in ("running", "waiting", "failed", "stopped") if s in states), "not finite")


def _unfinished(console: Console, sweep: Sweep) -> None:
    """Name every run that isn't done; of those that wait, the number is enough."""
    for state in ("failed", "stopped", "running"):
        runs = [run for run in sweep.runs if run.state == state]
        for run in runs[:SHOWN]:
            _say(console, f"{state}: {run.name}{_told(run)}", "red" if state == "failed" else "")
        if len(runs) > SHOWN:
            _say(console, f"… and {len(runs) - SHOWN} more {state}, in sweep.csv")


def _told(run: Run) -> str:
    told = [run.why] if run.why else []
    if run.step is not None:
        told.append(f"step {run.step:,}" + ("" if run.max_steps is None else f" of {run.max_steps:,}"))
    if run.latest is not None:
        told.append(f"{bits(run.latest)} bits per base on validation so far")
    return f" ({'; '.join(told)})" if told else ""


def _verdict(console: Console, groups: Sequence[Group], done: bool) -> None:
    """Say which setting is best, how to run it, and how sure that is."""
    best = groups[0] if groups else None
    if best is None or best.val.mean is None:
        _say(console, "No finished run has a validation figure." if done else "No run has finished yet.")
        return
    test = "" if best.test.mean is None else f"; on the test part, which chose nothing, {bits(best.test.mean)}"
    _say(console, f"Best on validation: {setting(best.settings)}, {bits(best.val.mean)} bits per base{test}.")
    if given := words(best):
        console.print(Text(f"Run it again with: {given}"), soft_wrap=True)
    if sentence := how_sure(groups):
        _say(console, sentence)


def _effect(console: Console, sweep: Sweep, key: str, rows: Sequence[Effect]) -> None:
    """Print what each value of a parameter is worth, all others varying."""
    if len(sweep.parameters) < 2 or not 2 <= len(rows) <= _MANY:
        return  # one parameter's effect is the ranking itself
    name = short_names(sweep.parameters)[key]
    table = _table(name, "settings", "best", "median", "mean", "sd", "worst", left=1)
    for row in rows:
        figures = (row.min, row.median, row.mean, row.sd, row.max)
        cells = [shown(row.value), str(row.n), *("–" if x is None else bits(x) for x in figures)]
        table.add_row(*map(Text, cells))
    _say(console, "")
    _say(console, f"validation bits per base by {name}, over all the rest")
    console.print(table)
