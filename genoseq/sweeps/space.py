"""Read an Optuna search space from Hydra's sweep grammar (``choice``, ``range``, ``interval``)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, RangeSweep, Transformer, ValueType
from hydra.errors import HydraException
from optuna.distributions import CategoricalDistribution as Categorical
from optuna.distributions import FloatDistribution, IntDistribution

from genoseq.errors import UserError
from genoseq.overrides import Override, key_of, parse, quote, settings

Distribution = Categorical | FloatDistribution | IntDistribution
# a text that Hydra reads as itself without quotes
_PLAIN = re.compile(r"(?!(true|false|null|nan|inf)$)[a-z_][\w./-]*", re.ASCII | re.IGNORECASE)
HOW_TO = (
    "write one as key=interval(low,high), key=tag(log,interval(low,high)), key=int(interval(low,high)), "
    "key=range(start,stop,step) or key=a,b,c"
)


@dataclass(frozen=True)
class Space:
    """What a search varies and what all of its trials share.

    Attributes
    ----------
    distributions : dict of Distribution
        By override key (with its ``+`` or ``++``), sorted, so that the order of a command's arguments changes no draw.
        A categorical distribution's choices are texts, as an override has them.
    constants : list of str
        The other overrides.
    settings : dict of str
        What makes trials comparable: the value or values of each key, as written.
    """

    distributions: dict[str, Distribution]
    constants: list[str]
    settings: dict[str, str]

    def varied(self, params: Mapping[str, Any]) -> list[str]:
        """Return the overrides of what varies, for a trial's `params`."""
        return [f"{key}={_text(params[key], distribution)}" for key, distribution in self.distributions.items()]

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        """Return all overrides of a trial with these `params`."""
        return [*self.constants, *self.varied(params)]

    def examples(self) -> list[list[str]]:
        """Return the overrides of a few trials that together hold every option of the config groups."""
        varied = self.distributions.items()
        first = {key: d.choices[0] if isinstance(d, Categorical) else d.low for key, d in varied}
        groups = {key: d.choices for key, d in varied if isinstance(d, Categorical) and "." not in key}
        rows = range(max(map(len, groups.values()), default=1))
        return [self.overrides(first | {key: c[i % len(c)] for key, c in groups.items()}) for i in rows]


def read_space(params: Mapping[str, object], arguments: Sequence[str]) -> Space:
    """Read a search space.

    Parameters
    ----------
    params : Mapping
        The preset's values or sweeps, by key; None removes a key.
    arguments : Sequence of str
        The command's overrides, which take precedence over the preset's.

    Raises
    ------
    UserError
        If nothing varies, or a sweep cannot be sampled.
    """
    given = parse(arguments)
    taken = {key_of(override) for override in given}
    preset = parse(f"{key}={value}" for key, value in params.items() if value is not None and key not in taken)
    overrides = {override.get_key_element(): override for override in [*preset, *given]}
    varied = {key: override for key, override in sorted(overrides.items()) if override.is_sweep_override()}
    if not varied:
        raise UserError(f"the sweep varies nothing: {HOW_TO}")
    return Space(
        {key: _distribution(override) for key, override in varied.items()},
        [str(override.input_line) for key, override in overrides.items() if key not in varied],
        settings(str(override.input_line) for override in overrides.values()),
    )


def _distribution(override: Override) -> Distribution:
    sweep: Any = override.value()
    if override.value_type is ValueType.GLOB_CHOICE_SWEEP:
        raise UserError(f"{override.input_line}: glob(…) cannot be sampled; name the options: {key_of(override)}=a,b,c")
    if sweep.tags and not (sweep.tags == {"log"} and isinstance(sweep, IntervalSweep)):
        raise UserError(f"{override.input_line}: the only tag is log, and only for an interval")
    try:
        if isinstance(sweep, IntervalSweep):
            return _interval(sweep.start, sweep.end, log="log" in sweep.tags)
        if isinstance(sweep, RangeSweep):
            return _range(sorted(sweep.range()), abs(sweep.step))
    except (ValueError, HydraException) as error:
        raise UserError(f"{override.input_line}: {error}") from error
    return Categorical(tuple(dict.fromkeys(_choice(value) for value in override.sweep_iterator())))


def _interval(low: Any, high: Any, log: bool) -> Distribution:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("an interval needs two finite ends")
    return IntDistribution(low, high, log) if isinstance(low, int) else FloatDistribution(low, high, log)


def _range(values: Sequence[float], step: float) -> Distribution:
    if not values:
        raise ValueError("the range is empty; its stop is not part of it")
    if isinstance(values[0], int):
        return IntDistribution(values[0], int(values[-1]), step=int(step))
    # Hydra sums in binary; Optuna drops the last value if it is a hair too small
    return FloatDistribution(values[0], float(f"{values[-1]:.10g}"), step=float(step))


def _choice(value: Any) -> str:
    """Return a choice as an override has it; Hydra has removed the quotes of ``choice('a,b')``."""
    if type(value) is str:
        return value if _PLAIN.fullmatch(value) else quote(value)
    return str(Transformer.str(value))


def _text(value: Any, distribution: Distribution) -> str:
    """Return a sampled value as an override has it: 4 significant digits, so that folder names stay short."""
    if not isinstance(distribution, FloatDistribution):
        return str(value)
    low, high, step = distribution.low, distribution.high, distribution.step
    narrow = high - low < 0.1 * max(abs(low), abs(high))  # there 4 digits would leave few values
    digits = 10 if step else 17 if narrow else 4
    return repr(min(max(float(f"{value:.{digits}g}"), low), high))
