"""What one key of a search space draws from, and how a drawn value is written as an override."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna import Trial

_DIGITS = 4  # of a drawn number: more would only make the folders' names long
_STEP_DIGITS = 10  # of a number on a grid: enough to name it, few enough to hide that 3 · 0.1 is not 0.3
_ALL_DIGITS = 17


@dataclass(frozen=True)
class Choice:
    """Values without order.

    Parameters
    ----------
    key : str
        What an override of it starts with (with its ``+`` or ``++``).
    values : tuple of str
        The values, as an override says them.
    """

    key: str
    values: tuple[str, ...]

    @property
    def examples(self) -> tuple[str, ...]:
        """Values whose overrides must compose: each one of a config group's, any one of a number."""
        return self.values[:1] if "." in self.key else self.values

    def suggest(self, trial: Trial) -> None:
        """Give `trial` a value of this axis, unless it has one."""
        trial.suggest_categorical(self.key, self.values)

    def text(self, value: str) -> str:
        """Return a value of a trial as an override says it."""
        return value

    def __str__(self) -> str:
        return ", ".join(self.values)


@dataclass(frozen=True)
class Numbers:
    """Numbers from `low` to `high`, both inside.

    Parameters
    ----------
    key : str
        What an override of it starts with (with its ``+`` or ``++``).
    low, high : int or float
        The ends; whole numbers mean that only whole numbers are drawn.
    step : int or float, optional
        Distance of the numbers from one to the next; none for any number between.
    log : bool
        Draw evenly in the logarithm.
    """

    key: str
    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are drawn."""
        return isinstance(self.low, int)

    @property
    def digits(self) -> int:
        """Significant digits of a drawn number; more than usual where the interval is narrow for its height."""
        if self.step is not None:
            return _STEP_DIGITS
        if self.low == self.high:
            return _ALL_DIGITS
        height = max(abs(self.low), abs(self.high)) / (self.high - self.low)
        return min(_ALL_DIGITS, _DIGITS + max(0, math.floor(math.log10(height))))

    @property
    def examples(self) -> tuple[str, ...]:
        """A value whose override must compose."""
        return (self.text(self.low),)

    def suggest(self, trial: Trial) -> None:
        """Give `trial` a value of this axis, unless it has one."""
        if self.whole:
            trial.suggest_int(self.key, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        else:
            trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)

    def text(self, value: float) -> str:
        """Return a value of a trial as an override says it: short, and never outside the interval."""
        if self.whole:
            return str(int(value))
        return repr(min(max(float(f"{value:.{self.digits}g}"), self.low), self.high))

    def __str__(self) -> str:
        by = f" by {self.step}" if self.step else " (log)" if self.log else ""
        return f"{self.low} to {self.high}{by}"


Axis = Choice | Numbers
