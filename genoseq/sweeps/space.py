"""A sweep's search space: what Hydra's override words (``interval``, ``choice``, ``range``) mean to a sampler."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    IntervalSweep,
    Override,
    Quote,
    QuotedString,
    RangeSweep,
    Sweep,
    Transformer,
    ValueType,
)
from hydra.errors import HydraException

from genoseq.errors import UserError
from genoseq.sweeps.axes import Axis, Choice, Numbers

if TYPE_CHECKING:
    from optuna import Trial

HOW_TO = (
    "write one as key=interval(low,high), key=tag(log,interval(low,high)), key=int(interval(low,high)), "
    "key=range(start,stop,step) or key=a,b,c"
)
# what says where and how a sweep runs, not what its trials are
_NOT_A_SETTING = ("sweep", "sweep.dir")


@dataclass(frozen=True)
class Space:
    """What a sweep varies, and what it leaves as it is.

    Parameters
    ----------
    axes : tuple of Axis
        One for each key that varies, by name, so that the order of a command's words changes no draw.
    constants : dict of str
        The overrides that every trial gets, by their keys.
    """

    axes: tuple[Axis, ...]
    constants: dict[str, str]

    def suggest(self, trial: Trial) -> None:
        """Give `trial` a value for each axis where it has none."""
        for axis in self.axes:
            axis.suggest(trial)

    def settings(self, values: Mapping[str, Any]) -> list[str]:
        """Return the overrides of what varies, for a trial's values."""
        return [f"{axis.key}={axis.text(values[axis.key])}" for axis in self.axes]

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Return all overrides of a trial, for its values."""
        return [*self.constants.values(), *self.settings(values)]

    def examples(self) -> list[list[str]]:
        """Return overrides of a few trials that compose if all do: each config group's options, one at a time."""
        first = {axis.key: axis.examples[0] for axis in self.axes}
        rows = [first] + [first | {axis.key: other} for axis in self.axes for other in axis.examples[1:]]
        return [[*self.constants.values(), *(f"{key}={value}" for key, value in row.items())] for row in rows]

    def described(self) -> dict[str, str]:
        """Return what makes trials comparable: each key's values, or the one value it has."""
        fixed = {key: line.partition("=")[2] for key, line in self.constants.items() if key not in _NOT_A_SETTING}
        return fixed | {axis.key: str(axis) for axis in self.axes}


def read_space(params: Mapping[str, object], arguments: Sequence[str]) -> Space:
    """Read a search space.

    Parameters
    ----------
    params : Mapping
        The preset: values, or sweeps in Hydra's words, by key; a value of None is none.
    arguments : Sequence of str
        The command's overrides. Each takes the place of the preset's for the same key.

    Returns
    -------
    Space
        With one axis at least.

    Raises
    ------
    UserError
        If nothing varies, or a sampler cannot draw from what is said.
    """
    parser = OverridesParser.create()
    said = parser.parse_overrides(list(arguments))
    taken = {_bare(override) for override in said}
    preset = parser.parse_overrides([f"{key}={value}" for key, value in params.items() if value is not None])
    axes: dict[str, Axis] = {}
    constants: dict[str, str] = {}
    for override in [*(o for o in preset if _bare(o) not in taken), *said]:
        key = override.get_key_element()
        axes.pop(key, None)
        constants.pop(key, None)
        if override.is_sweep_override():
            axes[key] = _axis(key, override)
        else:
            constants[key] = str(override.input_line)
    if not axes:
        raise UserError(f"the sweep varies nothing: {HOW_TO}")
    return Space(tuple(axes[key] for key in sorted(axes)), constants)


def _bare(override: Override) -> str:
    return override.get_key_element().lstrip("+~")


def _axis(key: str, override: Override) -> Axis:
    """Return what an override that is a sweep draws from."""
    sweep = override.value()
    line = override.input_line
    if override.value_type is ValueType.GLOB_CHOICE_SWEEP:
        raise UserError(f"{line}: a sampler cannot draw from glob(…); name the options, as {key}=a,b,c")
    tags = sweep.tags if isinstance(sweep, Sweep) else set()
    if tags - {"log"} or (tags and not isinstance(sweep, IntervalSweep)):
        raise UserError(f"{line}: the only tag is log, and only for an interval: {key}=tag(log,interval(low,high))")
    if isinstance(sweep, IntervalSweep):
        return _interval(key, sweep, str(line))
    if isinstance(sweep, RangeSweep):
        return _range(key, sweep, str(line))
    return Choice(key, tuple(dict.fromkeys(_word(value) for value in override.sweep_iterator())))


def _word(value: Any) -> str:
    """Return a value as an override says it; Hydra takes the quotes off what ``choice(…)`` is given."""
    text: str = Transformer.str(value)
    if type(value) is not str:
        return text
    try:
        if OverridesParser.create().parse_override(f"key={text}").value() == value:
            return text
    except HydraException:
        pass
    return QuotedString(value, Quote.single).with_quotes()


def _interval(key: str, sweep: IntervalSweep, line: str) -> Numbers:
    low, high, log = sweep.start, sweep.end, "log" in sweep.tags
    if low is None or high is None or not math.isfinite(high - low):
        raise UserError(f"{line}: an interval needs two finite ends")
    if low > high:
        raise UserError(f"{line}: the interval ends before it begins; write the smaller number first")
    if log and low <= 0:
        raise UserError(f"{line}: an interval with the tag log must begin above 0")
    return Numbers(key, low, high, log=log)


def _range(key: str, sweep: RangeSweep, line: str) -> Numbers:
    if not sweep.step:
        raise UserError(f"{line}: the step of a range cannot be 0")
    values = sorted(sweep.range())
    if not values:
        raise UserError(f"{line}: the range is empty; its stop is not part of it")
    low, step = values[0], abs(sweep.step)
    if isinstance(low, int):
        return Numbers(key, low, values[-1], step=step)
    # in decimal, as the ends are written: a binary sum would miss the last one
    high = Decimal(str(low)) + (len(values) - 1) * Decimal(str(step))
    return Numbers(key, low, float(high), step=float(step))
