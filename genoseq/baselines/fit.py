"""Baselines of a run: count models fitted to the model's training part and scored on the same bases."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genoseq.baselines.markov import (
    HIGHEST,
    InterpolatedMarkov,
    MarkovModel,
    Seen,
    fit_all_orders,
    fit_interpolated,
    fit_markov,
)
from genoseq.baselines.scoring import CountModel, Score, score_each
from genoseq.data.coverage import covered, windows_over, with_context
from genoseq.data.intervals import Intervals
from genoseq.data.split import STAGES
from genoseq.files import once, write_csv

if TYPE_CHECKING:
    from genoseq.data.datamodule import GenomeData

CHANCE = {"chance/accuracy": 1 / 4, "chance/bits_per_base": 2.0}  # four equally likely bases


@dataclass(frozen=True)
class Baselines:
    """The order-k Markov model and the interpolated Markov model, fitted to one genome's training part."""

    markov: MarkovModel
    imm: InterpolatedMarkov
    data: GenomeData
    shared: Path | None = None
    _scores: dict[str, dict[str, Score]] = field(default_factory=dict)

    @classmethod
    def fit(cls, data: GenomeData, shared: Path | None = None) -> Baselines:
        """Fit both to the training part of `data`; where windows are split, to what training windows cover.

        In a folder `shared`, settings and scores are kept for other runs on the same parts.
        """
        codes, train = data.genome.codes.numpy(), _covered(data, "train")

        def settings() -> dict[str, Any]:
            seen = Seen.of(codes, train, _covered(data, "val"))
            markov, imm = fit_markov(seen), fit_interpolated(seen)
            return {"order": markov.order, "smoothing": markov.smoothing, "strengths": imm.strengths.tolist()}

        found = once(shared_file(data, shared, "baselines"), settings)
        imm = InterpolatedMarkov(codes, train, np.array(found["strengths"], dtype=np.float32))
        return cls(MarkovModel(codes, train, found["order"], found["smoothing"]), imm, data, shared)

    @property
    def models(self) -> dict[str, CountModel]:
        """Both models by their prefix in result.json."""
        return {"baseline": self.markov, "imm": self.imm}

    @property
    def labels(self) -> dict[str, str]:
        """Labels for tables and plots, by the same prefixes."""
        return {"baseline": f"baseline, order-{self.markov.order} Markov model", "imm": "interpolated Markov model"}

    def score(self, stage: str) -> dict[str, Score]:
        """Return both models' scores on a part of their own genome; each part is scored once."""

        def sums() -> list[dict[str, float]]:
            each = score_parts(list(self.models.values()), self.data, stage)
            return [asdict(sum(scores, Score())) for scores in each]

        if stage not in self._scores:
            found = once(shared_file(self.data, self.shared, stage), sums)
            self._scores[stage] = {name: Score(**score) for name, score in zip(self.models, found, strict=True)}
        return self._scores[stage]


def shared_file(data: GenomeData, folder: Path | None, what: str) -> Path | None:
    """Return the file in `folder` of what is the same for all runs on the same parts of a genome."""
    if folder is None:
        return None
    parts = data.scored_parts
    rule = parts.hash_key, parts.shares, parts.window_stride
    lengths = [len(parts.of(stage)) for stage in STAGES]
    key = hashlib.sha256(f"{data.genome.sha256} {data.span} {rule} {lengths}".encode())
    for stage in STAGES:
        key.update(parts.of(stage).tobytes())
    return folder / f"{key.hexdigest()[:16]}-{what}.json"


def _covered(data: GenomeData, stage: str) -> Intervals:
    return covered(data.scored_parts, stage, data.span)


def scored_intervals(data: GenomeData, stage: str) -> Intervals:
    """Return the intervals that count models are scored on; where windows are split, with context before them."""
    return with_context(data.parts, _covered(data, stage), HIGHEST)


def score_parts(models: Sequence[CountModel], data: GenomeData, stage: str) -> list[list[Score]]:
    """Return the scores of count models of one training part, each on each of `scored_intervals`.

    Where windows are split, a base counts once for every window of the stage over it, as it does for a network.
    """
    weight = partial(windows_over, data.parts, stage, data.span) if data.parts.splits_windows else None
    return score_each(models, data.genome.codes.numpy(), scored_intervals(data, stage), weight)


def write_orders(data: GenomeData, path: Path) -> None:
    """Write accuracy (fraction) and bits per base of the Markov model of each order to 16 on the test part, as CSV."""
    models = fit_all_orders(Seen.of(data.genome.codes.numpy(), _covered(data, "train"), _covered(data, "val")))
    scores = score_parts(models, data, "test")
    pairs = zip(models, scores, strict=True)
    write_csv(path, [{"order": model.order} | sum(own, Score()).metrics for model, own in pairs])


def baseline_lines(baselines: Baselines | None, stage: str) -> dict[str, dict[str, float]]:
    """Return chance and the count models on a part, by name and by the tag of the curve that they belong to.

    Training curves get the validation part's lines: scores on the training part would be those of memory.
    """
    scores = {"chance": {key.removeprefix("chance/"): value for key, value in CHANCE.items()}}
    if baselines:
        scores |= {name: score.metrics for name, score in baselines.score(stage).items()}
    tags = ("train", "val") if stage == "val" else (stage,)
    return {
        name: {f"{tag}/{metric}": value for tag in tags for metric, value in metrics.items()}
        for name, metrics in scores.items()
    }
