"""What is said of a sweep in words, on the console and in its picture."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from genoseq.overrides import short_names
from genoseq.sweeps.groups import Group, Run, Sweep, Value

_ROUNDS = 0.0005  # bits per base: what differs by less is the same at three decimals


class Level(NamedTuple):
    """What every run of a sweep must beat: bits per base of the test part, and accuracy (fraction) if known."""

    label: str
    bits: float
    accuracy: float | None


def shown(value: Value) -> str:
    """Return a setting's value as short as it can be read."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def setting(settings: Mapping[str, Value]) -> str:
    """Return a setting in short names, as in ``seq_len=50, lr=0.01``."""
    names = short_names(settings)
    return ", ".join(f"{names[key]}={shown(value)}" for key, value in settings.items()) or "the one setting"


def bits(value: float) -> str:
    """Return bits per base as text: four decimals, fewer digits where training has diverged."""
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.3g}"


def words(group: Group) -> str:
    """Return the overrides of a setting, to be pasted after a command; the seed is left out where seeds were folded."""
    run = next((run for run in group.runs if run.val is not None), group.runs[0])
    folded = group.seeds > 1
    given = [word for word in run.words if not (folded and word.lstrip("+").startswith("seed="))]
    have = {word.lstrip("+").partition("=")[0] for word in given}
    told = [f"{key}={shown(value)}" for key, value in group.settings.items() if key not in have and value is not None]
    return shlex.join(given + told)


def count_line(sweep: Sweep) -> str:
    """Return how many runs are in which state."""
    told = [f"{n} {state}" for state, n in sweep.counts.items() if n]
    return f"{len(sweep.runs)} run{'s' * (len(sweep.runs) != 1)}: {', '.join(told)}"


def genomes(sweep: Sweep) -> list[str]:
    """Return the names of the genomes that runs were trained on."""
    return sorted({str(run.result["genome/name"]) for run in sweep.done if run.result.get("genome/name") is not None})


def levels(sweep: Sweep) -> list[Level]:
    """Return the count models and chance, so far as every finished run tells the same of them."""
    order = _agreed(sweep.done, "baseline/order")
    labels = {
        "baseline": "table of counts" if order is None else f"order-{order:.0f} table",
        "imm": "imm of tables",
        "chance": "chance",
    }
    found = {name: _agreed(sweep.done, f"{name}/bits_per_base") for name in labels}
    return [
        Level(label, bits, _agreed(sweep.done, f"{name}/accuracy"))
        for name, label in labels.items()
        if (bits := found[name]) is not None
    ]


def _agreed(runs: Sequence[Run], key: str) -> float | None:
    values = [value for run in runs if (value := run.figure(key)) is not None]
    return min(values) if values and max(values) - min(values) <= _ROUNDS else None


def how_sure(groups: Sequence[Group]) -> str | None:
    """Return whether the best setting can be told from the second; None if there are not two to compare."""
    ranked = [group for group in groups if group.val.mean is not None]
    if len(ranked) < 2:
        return None
    one, two = ranked[0].val, ranked[1].val
    gap = (two.mean or 0.0) - (one.mean or 0.0)
    if max(group.seeds for group in groups) == 1:
        return (
            f"How sure: best and second differ by {gap:.4f} bits per base, and with one seed each nothing tells such a "
            "difference from luck; sweep=replicate repeats the best settings with other seeds."
        )
    if one.se is None or two.se is None:
        return "How sure: best or second has fewer than two finished seeds, which cannot tell a difference from luck."
    both = math.hypot(one.se, two.se)
    needed = t_quantile(one.n + two.n - 2)
    apart = gap > needed * both
    told = "are clearly apart" if apart else "cannot be told apart"
    return (
        f"How sure: best and second {told}: they differ by {gap:.4f} bits per base, {'more' if apart else 'not more'} "
        f"than {needed:.1f} times their combined standard error ({both:.4f}; {one.n} and {two.n} seeds)."
    )


def t_quantile(df: int) -> float:
    """Return Student's t that 95 % of differences by luck stay below, for a few degrees of freedom (two-sided)."""
    table = (math.inf, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)
    return table[df] if df < len(table) else 2.2


def cautions(sweep: Sweep) -> list[str]:
    """Return what must be known before the runs are compared."""

    def differ(*keys: str) -> bool:
        return len({tuple(run.result.get(key) for key in keys) for run in sweep.done}) > 1

    out = []
    if leaks(sweep):
        out.append("The split leaks: these figures measure memory, not what the models have learnt about DNA.")
    if differ("genome/sha256", "genome/name", "split/name"):
        out.append("Not all runs were validated on the same bases: their figures differ by the data as well.")
    if differ("tokens/k", "tokens/stride", "tokens/new_bases"):
        out.append("The runs' tokens differ: compare their bits per base, not their accuracies, which are per token.")
    if blank := sum(run.val is None for run in sweep.done):
        out.append(f"{blank} finished run{'s' * (blank > 1)} without a finite validation figure: ranked last.")
    return out


def leaks(sweep: Sweep) -> bool:
    """Whether a run's test windows overlap its training windows."""
    return any(run.result.get("split/leaks") is True for run in sweep.done)
