"""Read an Optuna search space from Hydra's sweep grammar (``choice``, ``range``, ``interval``)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, Override, Transformer
from hydra.errors import HydraException
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from genoseq.errors import UserError
from genoseq.overrides import is_setting, key_of, parse, quote

Distribution = CategoricalDistribution | FloatDistribution | IntDistribution
HOW_TO = (
    "write what varies as key=interval(low,high), key=tag(log,interval(low,high)), key=int(interval(low,high)), "
    "key=range(start,stop,step) or key=a,b,c"
)


@dataclass(frozen=True)
class Space:
    """What a search varies and what all of its trials share."""

    # by override key, sorted: the order of a command's arguments changes no draw; choices are texts
    distributions: dict[str, Distribution]
    constants: list[str]  # the other overrides
    settings: dict[str, str]  # what makes trials comparable: each key's distribution or value

    def varied(self, params: Mapping[str, Any]) -> list[str]:
        """Return the overrides of what varies, for a trial's `params`."""
        return [f"{key}={_text(params[key], distribution)}" for key, distribution in self.distributions.items()]

    def overrides(self, params: Mapping[str, Any]) -> list[str]:
        """Return all overrides of a trial with these `params`."""
        return [*self.constants, *self.varied(params)]

    def examples(self) -> list[list[str]]:
        """Return the overrides of a few trials that together hold every choice."""
        varied = self.distributions.items()
        options = {key: d.choices if isinstance(d, CategoricalDistribution) else (d.low,) for key, d in varied}
        rows = range(max(map(len, options.values())))
        return [self.overrides({key: o[i % len(o)] for key, o in options.items()}) for i in rows]


def read_space(params: Mapping[str, object], arguments: Sequence[str]) -> Space:
    """Read a search space; raise `UserError` if nothing varies, or a sweep cannot be sampled.

    Parameters
    ----------
    params : Mapping
        The preset's values or sweeps, by key; None removes a key.
    arguments : Sequence of str
        The command's overrides, which take precedence over the preset's.
    """
    given = parse(arguments)
    taken = {key_of(override) for override in given}
    preset = parse(f"{key}={value}" for key, value in params.items() if value is not None and key not in taken)
    distributions: dict[str, Distribution] = {}
    constants: list[str] = []
    settings: dict[str, str] = {}
    for key, override in {override.get_key_element(): override for override in [*preset, *given]}.items():
        if override.is_sweep_override():
            distributions[key] = _distribution(override)
            value = str(distributions[key])
        else:
            constants.append(str(override.input_line))
            value = "removed" if override.is_delete() else override.get_value_element_as_str()
        if is_setting(override):
            settings[key_of(override)] = value
    if not distributions:
        raise UserError(f"the sweep varies nothing: {HOW_TO}")
    return Space(dict(sorted(distributions.items())), constants, settings)


def _distribution(override: Override) -> Distribution:
    sweep: Any = override.value()
    tags: set[str] = getattr(sweep, "tags", set())
    reason = "this cannot be sampled"
    try:
        if override.is_interval_sweep() and tags <= {"log"} and math.isfinite(sweep.end - sweep.start):
            kind = IntDistribution if isinstance(sweep.start, int) else FloatDistribution
            return kind(sweep.start, sweep.end, log="log" in tags)
        if override.is_range_sweep() and not tags and (values := sorted(sweep.range())):
            if isinstance(values[0], int):
                return IntDistribution(values[0], values[-1], step=abs(sweep.step))
            # Hydra sums in binary; Optuna drops the last value if it is a hair too small
            return FloatDistribution(values[0], float(f"{values[-1]:.10g}"), step=float(abs(sweep.step)))
        if isinstance(sweep, ChoiceSweep) and not tags:
            return CategoricalDistribution(tuple(dict.fromkeys(map(_choice, sweep.list))))
    except (ValueError, HydraException) as error:
        reason = str(error)
    raise UserError(f"{override.input_line}: {reason}; {HOW_TO}")


def _choice(value: Any) -> str:
    """Return a choice as an override has it; Hydra has removed the quotes of ``choice('a,b')``."""
    if type(value) is str and not re.fullmatch(r"[a-zA-Z_][\w./-]*", value, re.ASCII):
        return quote(value)
    return str(Transformer.str(value))


def _text(value: Any, distribution: Distribution) -> str:
    """Return a sampled value as an override has it: 4 significant digits, so that folder names stay short."""
    if not isinstance(distribution, FloatDistribution):
        return str(value)
    digits = 10 if distribution.step else 4
    return repr(min(max(float(f"{value:.{digits}g}"), distribution.low), distribution.high))
