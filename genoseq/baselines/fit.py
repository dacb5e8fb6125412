"""The count models beside a run: learnt from the same part, scored on the same bases."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genoseq.baselines.counts import LONGEST
from genoseq.baselines.markov import (
    InterpolatedMarkov,
    MarkovModel,
    Score,
    fit_all_orders,
    fit_interpolated,
    fit_markov,
)
from genoseq.baselines.scoring import CountModel
from genoseq.data.coverage import covered, covered_positions, windows_over, with_context
from genoseq.data.datamodule import GenomeData
from genoseq.data.intervals import Intervals
from genoseq.evaluation.leakage import shared_kmers
from genoseq.files import write_csv


@dataclass(frozen=True)
class Baselines:
    """What a network has to beat.

    Attributes
    ----------
    table : MarkovModel
        The best order-k table; order and smoothing chosen on the validation part.
    blend : InterpolatedMarkov
        Backoff blend of orders up to 16, both strands.
    data : GenomeData
        What they learnt from the training part of: where windows are split, from what training windows cover.
    """

    table: MarkovModel
    imm: InterpolatedMarkov
    data: GenomeData
    _scores: dict[str, dict[str, Score]] = field(default_factory=dict)

    @classmethod
    def fit(cls, data: GenomeData) -> Baselines:
        """Learn both from the training part of `data`."""
        codes, train, val = _learn_from(data)
        return cls(fit_markov(codes, train, val), fit_interpolated(codes, train, val), data)

    @property
    def names(self) -> dict[str, str]:
        """Labels for tables and plots."""
        return {"baseline": f"baseline (order-{self.table.order} table)", "imm": "imm (orders to 16)"}

    def score(self, stage: str) -> dict[str, Score]:
        """Return both models' scores on a part of their own genome; each part is measured once."""
        if stage not in self._scores:
            models: dict[str, CountModel] = {"baseline": self.table, "imm": self.imm}
            self._scores[stage] = {
                name: sum(stage_scores(model, self.data, stage), Score()) for name, model in models.items()
            }
        return self._scores[stage]


def _learn_from(data: GenomeData) -> tuple[NDArray[np.uint8], Intervals, Intervals]:
    """Return the genome's letters and the bases to learn from and to choose on."""
    train, val = (covered(data.parts, stage, data.span) for stage in ("train", "val"))
    return data.genome.codes.numpy(), train, val


def scored_on(data: GenomeData, stage: str) -> Intervals:
    """Return the stretches that models of counts are scored on; where windows are split, with context before them."""
    return with_context(data.parts, covered(data.parts, stage, data.span), LONGEST)


def stage_scores(model: CountModel, data: GenomeData, stage: str) -> list[Score]:
    """Score a model of counts on each stretch of `scored_on`.

    Where windows are split, a base counts once for every window of the stage over it, as it does for a network.
    """
    weight = partial(windows_over, data.parts, stage, data.span) if data.parts.splits_windows else None
    return model.score_each(data.genome.codes.numpy(), scored_on(data, stage), weight=weight)


def write_orders(data: GenomeData, path: Path) -> None:
    """Write accuracy (fraction) and bits per base of the table of every order to 16 on the test part, as CSV."""
    rows: list[dict[str, Any]] = []
    for table in fit_all_orders(*_learn_from(data)):
        score = sum(stage_scores(table, data, "test"), Score())
        rows.append({"order": table.order, "accuracy": score.accuracy, "bits_per_base": score.bits_per_base})
    write_csv(path, rows)


def chance(data: GenomeData) -> dict[str, float]:
    """Return what guessing gives: accuracy (share of tokens) and bits per base of equally likely words."""
    v = data.vocabulary
    return {
        "chance/accuracy": 1 / 4**v.new_bases,  # what overlaps the token before is known
        "chance/bits_per_base": math.log2(4),
    }


def baseline_lines(data: GenomeData, baselines: Baselines | None, stage: str) -> dict[str, dict[str, float]]:
    """Return chance and the count models on a part, as values for the tags of the curves they belong to.

    Training curves get the validation part's lines: their own would be those of what the tables have learnt by heart.
    """
    guess = chance(data)
    curves = ("train", "val") if stage == "val" else (stage,)
    values = {"chance": (guess["chance/bits_per_base"], guess["chance/accuracy"])}
    for name, score in (baselines.score(stage) if baselines else {}).items():
        values[name] = (score.bits_per_base, score.accuracy)
    return {
        name: {f"{c}/{tag}": value for c in curves for tag, value in zip(("bits_per_base", "accuracy"), v, strict=True)}
        for name, v in values.items()
    }


def leakage(data: GenomeData) -> dict[str, float]:
    """Return the leakage figures of a split, shares of test positions.

    A 24-mer counts once, and only where windows of one part cover the whole of it.
    """
    codes, parts = data.genome.codes.numpy(), data.parts
    train, test = (covered(parts, stage, data.span) for stage in ("train", "test"))
    return {
        "leakage/positions": covered_positions(parts, data.span),
        "leakage/shared_kmers": shared_kmers(codes, train, test),
    }
