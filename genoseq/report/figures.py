"""Colours that the colour-blind tell apart (Okabe and Ito), of the lettering and of the grid; curves of the studies."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
INK, FAINT = "#222222", "#D9D9D9"


class Curve(NamedTuple):
    """Points of one metric: optimizer steps and values."""

    steps: list[float]
    values: list[float]


def points(metrics: Mapping[str, Sequence[float | None]], column: str) -> Curve:
    """Return the finite points of a column in the order of their steps; none if there is no such column."""
    pairs = zip(metrics.get("step", []), metrics.get(column, []), strict=False)
    known = sorted((s, v) for s, v in pairs if s is not None and v is not None and math.isfinite(v))
    return Curve([s for s, _ in known], [v for _, v in known])
