"""What a sweep is: its runs, the settings they share but for the seed, what each setting's value is worth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Value = int | float | str | bool | None
OBJECTIVE = "val/bits_per_base"
STATES = ("done", "failed", "stopped", "running", "waiting")


@dataclass(frozen=True)
class Run:
    """One run of a sweep.

    Attributes
    ----------
    name : str
    folder : Path
    settings : dict
        Value by override key, of the keys that differ between the sweep's runs.
    words : tuple of str
        Every override it was given, as typed; not its checkpoint and folders.
    state : str
        One of `STATES`.
    why : str or None
        Why it failed or stopped, if known.
    step, max_steps : int or None
        Optimizer steps done and asked for.
    latest : float or None
        Last validation bits per base that it logged, if it isn't done.
    result : dict
        Content of ``result.json``; empty unless done.
    """

    name: str
    folder: Path
    settings: dict[str, Value]
    words: tuple[str, ...] = ()
    state: str = "waiting"
    why: str | None = None
    step: int | None = None
    max_steps: int | None = None
    latest: float | None = None
    result: dict[str, Any] = field(default_factory=dict)

    def figure(self, key: str) -> float | None:
        """Return a number of the result, None if it is missing or not finite."""
        return number(self.result.get(key))

    @property
    def val(self) -> float | None:
        """Validation bits per base."""
        return self.figure(OBJECTIVE)

    @property
    def test(self) -> float | None:
        """Test bits per base."""
        return self.figure("test/bits_per_base")


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep in the order they were asked for.

    Attributes
    ----------
    folder : Path
    runs : tuple of Run
    varied : tuple of str
        Override keys whose value differs between runs; ``seed`` may be among them.
    objective : str
        The figure that settings are ranked by; lower is better.
    """

    folder: Path
    runs: tuple[Run, ...]
    varied: tuple[str, ...]
    objective: str = OBJECTIVE

    @property
    def parameters(self) -> tuple[str, ...]:
        """What was varied but for the seed."""
        return tuple(key for key in self.varied if key != "seed")

    @property
    def counts(self) -> dict[str, int]:
        """Runs by state, every state named."""
        return {state: sum(run.state == state for run in self.runs) for state in STATES}

    @property
    def done(self) -> tuple[Run, ...]:
        """The runs that have a result."""
        return tuple(run for run in self.runs if run.state == "done")


def number(value: object) -> float | None:
    """Return a finite number, None for all else."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None  # type: ignore[arg-type]


def same(value: Value) -> tuple[bool, Value]:
    """Return what tells a value from others: to Python True is 1, to a setting it is not."""
    return isinstance(value, bool), value


def in_order(value: Value) -> tuple[int, float, str]:
    """Return a sort key: numbers by size, then words, then none."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return 0, float(value), ""
    return (2, 0.0, "") if value is None else (1, 0.0, str(value))


@dataclass(frozen=True)
class Stat:
    """Mean and its standard error (sd / √n; None below two values) of `n` values."""

    mean: float | None
    se: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Stat:
        """Return the figures of finite values."""
        n = len(values)
        se = statistics.stdev(values) / math.sqrt(n) if n > 1 else None
        return cls(statistics.fmean(values) if n else None, se, n)


@dataclass(frozen=True)
class Group:
    """The runs of one setting, which differ in their seed only.

    Attributes
    ----------
    settings : dict
        Value by override key, without the seed.
    runs : tuple of Run
    done : int
        Seeds with a finished run.
    val, test : Stat
        Bits per base.
    accuracy : Stat
        Test accuracy (fraction).
    seconds : Stat
    """

    settings: dict[str, Value]
    runs: tuple[Run, ...]
    done: int
    val: Stat
    test: Stat
    accuracy: Stat
    seconds: Stat

    @property
    def seeds(self) -> int:
        """Seeds asked for."""
        return len(_by_seed(self.runs))


def fold(sweep: Sweep) -> list[Group]:
    """Return the settings of a sweep, best validation figure first and those without one last."""
    members: dict[tuple[tuple[bool, Value], ...], list[Run]] = {}
    for run in sweep.runs:
        members.setdefault(tuple(same(run.settings.get(key)) for key in sweep.parameters), []).append(run)
    groups = [_group(sweep.parameters, runs) for runs in members.values()]

    def rank(group: Group) -> tuple[bool, float, list[tuple[int, float, str]]]:
        best = group.val.mean
        return best is None, best or 0.0, [in_order(value) for value in group.settings.values()]

    return sorted(groups, key=rank)


def _by_seed(runs: Iterable[Run]) -> dict[tuple[bool, Value], list[Run]]:
    out: dict[tuple[bool, Value], list[Run]] = {}
    for run in runs:
        out.setdefault(same(run.settings.get("seed")), []).append(run)
    return out


def _group(keys: Iterable[str], runs: Sequence[Run]) -> Group:
    runs = sorted(runs, key=lambda run: (in_order(run.settings.get("seed")), run.name))
    seeds = _by_seed(runs)

    def stat(key: str) -> Stat:
        # a seed that ran twice is one observation
        each = [[v for run in same_seed if (v := run.figure(key)) is not None] for same_seed in seeds.values()]
        return Stat.of([statistics.fmean(values) for values in each if values])

    return Group(
        settings={key: runs[0].settings.get(key) for key in keys},
        runs=tuple(runs),
        done=sum(any(run.state == "done" for run in same_seed) for same_seed in seeds.values()),
        val=stat(OBJECTIVE),
        test=stat("test/bits_per_base"),
        accuracy=stat("test/accuracy"),
        seconds=stat("seconds"),
    )


@dataclass(frozen=True)
class Effect:
    """Validation bits per base of the `n` settings that have one value of a parameter, whatever else they have."""

    value: Value
    n: int
    mean: float | None = None
    median: float | None = None
    sd: float | None = None
    min: float | None = None
    max: float | None = None


def effects(groups: Iterable[Group], key: str) -> list[Effect]:
    """Return what each value of a parameter is worth, the values in order."""
    by_value: dict[tuple[bool, Value], list[float]] = {}
    for group in groups:
        values = by_value.setdefault(same(group.settings.get(key)), [])
        values += [] if group.val.mean is None else [group.val.mean]
    return [
        _effect(value, sorted(values))
        for (_, value), values in sorted(by_value.items(), key=lambda item: in_order(item[0][1]))
    ]


def _effect(value: Value, found: Sequence[float]) -> Effect:
    if not found:
        return Effect(value, 0)
    sd = statistics.stdev(found) if len(found) > 1 else None
    return Effect(value, len(found), statistics.fmean(found), statistics.median(found), sd, found[0], found[-1])
