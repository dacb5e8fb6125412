"""The count models beside a run: learnt from the same part, scored on the same bases."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from genoseq.data.coverage import covered_positions
from genoseq.data.datamodule import GenomeData
from genoseq.data.leakage import shared_kmers
from genoseq.models.markov import Blend, CountTable, Score, fit_blend, fit_table


@dataclass(frozen=True)
class Opponents:
    """What a network has to beat.

    Attributes
    ----------
    table : CountTable
        The best order-k table; order and smoothing chosen on the validation part.
    blend : Blend
        Backoff blend of orders up to 16, both strands.
    data : GenomeData
        What they learnt from the training part of.
    """

    table: CountTable
    blend: Blend
    data: GenomeData
    _scores: dict[str, dict[str, Score]] = field(default_factory=dict)

    @classmethod
    def fit(cls, data: GenomeData) -> Opponents:
        """Learn both from the training part of `data`."""
        codes, parts = data.genome.codes.numpy(), data.parts
        table = fit_table(codes, parts.train, parts.val)
        blend = fit_blend(codes, parts.train, parts.val)
        return cls(table, blend, data)

    @property
    def names(self) -> dict[str, str]:
        """Labels for tables and plots."""
        return {"baseline": f"baseline (order-{self.table.order} table)", "blend": "blend (orders to 16)"}

    def score(self, stage: str) -> dict[str, Score]:
        """Return both models' scores on a part of their own genome; each part is measured once."""
        if stage not in self._scores:
            codes, part = self.data.genome.codes.numpy(), self.data.parts.of(stage)
            self._scores[stage] = {"baseline": self.table.score(codes, part), "blend": self.blend.score(codes, part)}
        return self._scores[stage]


def chance(data: GenomeData) -> dict[str, float]:
    """Return what guessing gives: accuracy (share of tokens) and bits per base of equally likely words."""
    v = data.vocabulary
    return {
        "chance/accuracy": 1 / 4**v.new_bases,  # what overlaps the token before is known
        "chance/bits_per_base": math.log2(4),
    }


def level_lines(data: GenomeData, opponents: Opponents | None, stage: str) -> dict[str, dict[str, float]]:
    """Return chance and the count models on a part, as values for the tags of the curves they belong to.

    Training curves get the validation part's lines: their own would be those of what the tables have learnt by heart.
    """
    guess = chance(data)
    curves = ("train", "val") if stage == "val" else (stage,)
    values = {"chance": (guess["chance/bits_per_base"], guess["chance/accuracy"])}
    for name, score in (opponents.score(stage) if opponents else {}).items():
        values[name] = (score.bits_per_base, score.accuracy)
    return {
        name: {f"{c}/{tag}": value for c in curves for tag, value in zip(("bits_per_base", "accuracy"), v, strict=True)}
        for name, v in values.items()
    }


def leakage(data: GenomeData) -> dict[str, float]:
    """Return the leakage figures of a split, shares of test positions."""
    codes, parts = data.genome.codes.numpy(), data.parts
    return {
        "leakage/positions": covered_positions(parts, data.span),
        "leakage/shared_kmers": shared_kmers(codes, parts.train, parts.test),
    }
