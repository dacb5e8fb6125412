"""Axes of a sweep's picture: what of the figures is in view, and where a setting's value stands."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from matplotlib.ticker import MaxNLocator

from genoseq.sweeps.groups import Value, in_order, same
from genoseq.sweeps.report_words import Level, shown

MANY = 12  # distinct numbers beyond which a parameter is drawn as a continuous one
_WIDE = 30.0  # ratio of largest to smallest from which numbers are drawn on a logarithmic axis
_CHANCE = 2.0  # bits per base


class View(NamedTuple):
    """Bits per base in view: figures from `low` to `high`, axes from `bottom` to `top`; `beyond` is what is above."""

    low: float
    high: float
    bottom: float
    top: float
    beyond: tuple[float, ...]
    levels: tuple[Level, ...]

    def holds(self, value: float) -> bool:
        """Whether a figure is in view."""
        return value <= self.high


def view_of(values: Iterable[float], levels: Sequence[Level]) -> View:
    """Choose a range that a run gone astray does not squash.

    What lies far above the better half, or far above chance when others are below it, is left out of view. A level
    line is in view if it lies no farther off than the figures themselves spread.
    """
    values = sorted(values)
    if not values:
        return View(_CHANCE, _CHANCE, _CHANCE - 0.1, _CHANCE + 0.1, (), ())
    low, middle = values[0], statistics.median(values)
    fence = middle + 5 * (middle - low)
    if low < _CHANCE:
        fence = min(fence, _CHANCE + max(_CHANCE - low, 0.2))
    fence = max(fence, low + 0.15)
    shown_values = [value for value in values if value <= fence]
    high = shown_values[-1]
    reach = max(high - low, 0.02)
    near = tuple(level for level in levels if low - reach <= level.bits <= high + reach)
    ends = [low, high, *(level.bits for level in near)]
    pad = 0.07 * max(max(ends) - min(ends), 0.01)
    return View(low, high, min(ends) - pad, max(ends) + pad, tuple(values[len(shown_values) :]), near)


@dataclass(frozen=True)
class Scale:
    """Where the values of a parameter stand: as categories, or as numbers on a linear or logarithmic axis.

    Attributes
    ----------
    kind : str
    values : tuple
        The distinct values in order.
    """

    kind: Literal["categories", "linear", "log"]
    values: tuple[Value, ...]

    @classmethod
    def of(cls, values: Iterable[Value], few: Literal["categories", "log"] = "categories") -> Scale:
        """Choose the scale; `few` says how a handful of numbers that span a wide range is drawn."""
        distinct = tuple(value for _, value in sorted({same(v) for v in values}, key=lambda pair: in_order(pair[1])))
        numbers = [float(v) for v in distinct if isinstance(v, (int, float)) and not isinstance(v, bool)]
        if len(numbers) < max(len(distinct), 2):
            return cls("categories", distinct)
        wide = numbers[0] > 0 and numbers[-1] >= _WIDE * numbers[0]
        # drawn evenly from 0 to 1, numbers span as wide but do not crowd at the low end
        wide = wide and statistics.median(numbers) - numbers[0] < 0.25 * (numbers[-1] - numbers[0])
        if len(numbers) > MANY:
            return cls("log" if wide else "linear", distinct)
        return cls("log" if wide and few == "log" else "categories", distinct)

    @property
    def continuous(self) -> bool:
        """Whether values are drawn by their size."""
        return self.kind != "categories"

    def at(self, value: Value) -> float:
        """Return where a value stands: its size, or its place among the categories."""
        if self.continuous:
            return float(value)  # type: ignore[arg-type]
        return float([same(v) for v in self.values].index(same(value)))

    def part(self, value: Value) -> float:
        """Return where a value stands between the ends of its axis, 0 to 1."""
        return self._part(self.at(value))

    def _part(self, x: float) -> float:
        low, high = self.at(self.values[0]), self.at(self.values[-1])
        if low == high:
            return 0.5
        if self.kind == "log":
            return math.log(x / low) / math.log(high / low)
        return (x - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Return up to about eight (share of the axis, label)."""
        if len(self.values) <= MANY:
            return [(self.part(value), shown(value)) for value in self.values]
        if self.kind == "categories":
            step = math.ceil(len(self.values) / 20)
            return [(self.part(value), shown(value)) for value in self.values[::step]]
        low, high = self.at(self.values[0]), self.at(self.values[-1])
        return [(self._part(x), shown(x)) for x in self.marks() if low <= x <= high]

    def marks(self) -> list[float]:
        """Return round numbers along a continuous axis."""
        low, high = self.at(self.values[0]), self.at(self.values[-1])
        if self.kind == "linear":
            return [float(x) for x in MaxNLocator(5).tick_values(low, high)]
        tens = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1, 3) if math.log10(high / low) < 3 else (1,)
        return [step * 10.0**ten for ten in tens for step in steps if low <= step * 10.0**ten <= high]
