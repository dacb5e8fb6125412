"""Blocks of a genome, and the metrics and standard errors of sums by block."""

import math

import numpy as np
import pytest

from genoseq.data import blocks
from genoseq.evaluation.blocks import base_metrics


def test_blocks_never_span_records(make_genome, letters, monkeypatch):
    monkeypatch.setattr(blocks, "SIZE", 100)
    genome = make_genome({"a": letters(250), "b": letters(30), "c": letters(200)})
    found = blocks.Blocks.of(genome)
    assert found.start.tolist() == [0, 100, 200, 250, 280, 380] and found.record.tolist() == [0, 0, 0, 1, 2, 2]
    assert found.index(np.array([[0, 99, 100], [249, 250, 279], [280, 479, 999]])).tolist() == [
        [0, 0, 1],
        [2, 3, 3],
        [4, 5, 5],
    ]


def test_the_standard_error_is_that_of_a_ratio_of_sums():
    rng = np.random.default_rng(0)
    bases = rng.integers(1, 100, 12)
    sums = np.stack([bases * rng.uniform(1, 2, 12), bases // 2, bases], axis=1).astype(float)
    got = base_metrics(np.concatenate([sums, np.zeros((3, 3))]))  # blocks that are not scored do not count
    mean = sums[:, 0].sum() / bases.sum()
    residual = sums[:, 0] - mean * bases
    error = math.sqrt(residual.var(ddof=1) / 12) / bases.mean() / math.log(2)  # residuals' mean is 0
    assert got["standard_error"] == pytest.approx(error) and got["perplexity"] == pytest.approx(math.exp(mean))
    assert got["bits_per_base"] == pytest.approx(mean / math.log(2))
    assert got["accuracy"] == (bases // 2).sum() / bases.sum()
    assert "standard_error" not in base_metrics(sums[:1])
    assert math.isnan(base_metrics(np.zeros((2, 3)))["bits_per_base"])
