"""Scores by block of the genome: metrics of a whole, or of a record, and their standard errors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genoseq.data.datamodule import GenomeData

if TYPE_CHECKING:
    from genoseq.training.mixing import ExpertMixer
    from genoseq.training.module import NextToken

Sums = NDArray[np.float64]
"""Nats, correct bases and bases of each block, (blocks, 3)."""


def network_sums(module: NextToken) -> Sums:
    """Return the sums of the network's last test; every rank must call it."""
    _, nats, correct, tokens = module.test_metrics.by_group().numpy().T
    return np.stack([nats, correct, tokens * module.vocabulary.stride], axis=1)


def mix(
    mixer: ExpertMixer, module: NextToken, data: GenomeData, training_data: GenomeData, models: dict[str, Sums]
) -> dict[str, Sums]:
    """Return the sums of the frozen and the adaptive mixture under ``test`` and ``adaptive``, and the network's."""
    frozen, adaptive = mixer.score(module, data, training_data)
    return {"test": frozen, "adaptive": adaptive, "network": models["test"]}


def base_metrics(sums: Sums) -> dict[str, float]:
    """Return accuracy, bits_per_base, perplexity and, of two blocks or more, the standard_error of bits_per_base.

    The error is that of a ratio of sums over blocks, each block one draw (Cochran, *Sampling Techniques*, 1977, 6.4).
    Accuracy, bits and perplexity are nan where nothing was scored.
    """
    sums = sums[sums[:, 2] > 0]
    nats, correct, bases = sums.sum(axis=0)
    cost = nats / bases if bases else math.nan
    out = {"accuracy": correct / bases if bases else math.nan, "bits_per_base": cost / math.log(2)}
    out["perplexity"] = float(np.exp(cost))  # infinite, not an error, where training went wrong
    if (n := len(sums)) > 1:
        square = ((sums[:, 0] - cost * sums[:, 2]) ** 2).sum() * n / (n - 1)
        out["standard_error"] = math.sqrt(square) / bases / math.log(2)
    return {key: float(value) for key, value in out.items()}


def prefixed(models: dict[str, Sums]) -> dict[str, float]:
    """Return the metrics of several models as they stand in result.json: ``MODEL/METRIC``."""
    return {f"{name}/{key}": value for name, sums in models.items() for key, value in base_metrics(sums).items()}


def block_rows(data: GenomeData, models: dict[str, Sums]) -> list[dict[str, Any]]:
    """Return one row a scored block: record, start in it, scored bases, and each model's bits per base of it."""
    blocks, records = data.blocks, data.genome.records
    scored = np.flatnonzero(np.min([sums[:, 2] for sums in models.values()], axis=0))  # k-mers straddle blocks
    return [
        {
            "record": records[blocks.record[i]].name,
            "start": int(blocks.start[i] - records[blocks.record[i]].start),
            "bases": int(next(iter(models.values()))[i, 2]),
            **{f"{name}/bits_per_base": sums[i, 0] / sums[i, 2] / math.log(2) for name, sums in models.items()},
        }
        for i in scored
    ]
