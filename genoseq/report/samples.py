"""How samples of a model compare with held-out real sequence, and with samples of a count model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.spatial.distance import jensenshannon

from genoseq.baselines.markov import Seen, fit_markov
from genoseq.data.genes import open_frames
from genoseq.data.genome import Genome, Record
from genoseq.data.intervals import as_intervals
from genoseq.errors import UserError
from genoseq.evaluation.embeddings import gc_share
from genoseq.evaluation.haplotypes import COMPLEMENT
from genoseq.evaluation.sampling import longest_matches, longest_run, sample_markov, word_shares

if TYPE_CHECKING:
    from genoseq.app.model import Model

WINDOWS = 200
"""Held-out windows that samples are compared with, at most; half as many make the reference of the k-mers."""

Codes = NDArray[np.uint8]


def held_out_sequence(model: Model, length: int) -> Codes:
    """Return stretches of the test part without unknown letters, evenly spread, letter ids, (n, length).

    Raises
    ------
    UserError
        If there are not two, or the split holds nothing out.
    """
    data = model.training_data
    if data.parts.splits_windows:
        raise UserError("the checkpoint was trained on data/split=random_windows: no sequence is held out")
    codes = data.genome.codes.numpy()
    starts = [at for a, b in data.parts.test.tolist() for at in range(a, b - length + 1, length)]
    starts = [at for at in starts if codes[at : at + length].all()]
    if len(starts) < 2:
        raise UserError(f"the test part has no two stretches of length={length} known bases; lower length")
    chosen = np.unique(np.linspace(0, len(starts) - 1, WINDOWS).astype(int))
    return np.stack([codes[starts[i] : starts[i] + length] for i in chosen])


def compare(model: Model, samples: Codes, real: Codes, seed: int) -> list[dict[str, Any]]:
    """Return one row each of the model's samples, of held-out sequence, and of a Markov model's samples.

    k-mer divergences are from every other held-out stretch; the held-out row is of those between them, as many as there
    are samples, since fewer words diverge more by chance: it is what other real sequence of the genome has.
    """
    data, other = model.training_data, real[1::2]
    markov = fit_markov(Seen.of(data.genome.codes.numpy(), data.parts.train, data.parts.val))
    rows = {
        "samples": samples,
        "held-out sequence": other[np.unique(np.linspace(0, len(other) - 1, len(samples)).astype(int))],
        f"order-{min(markov.order, 9)} Markov model": sample_markov(markov, len(samples), samples.shape[1], seed),
    }
    reference = {k: word_shares(real[::2], k) for k in (3, 6)}
    return [{"sequence": name} | _measures(model, some, reference) for name, some in rows.items()]


def _measures(model: Model, some: Codes, reference: dict[int, NDArray[np.float64]]) -> dict[str, Any]:
    length, data = some.shape[1], model.training_data
    matches = longest_matches(data.genome.codes.numpy(), data.parts.train, some)
    out: dict[str, Any] = {"n": len(some), "gc": gc_share(some)}
    for k, shares in reference.items():
        out[f"{k}mer_divergence"] = float(jensenshannon(word_shares(some, k), shares, base=2) ** 2)
    out["longest_homopolymer"] = max(map(longest_run, some))
    out["reading_frames_per_kb"] = 1000 * sum(map(_frames, some)) / some.size
    records = tuple(Record(f"{i}", i * length, length) for i in range(len(some)))
    genome = Genome("samples", torch.from_numpy(some.flatten()), records, "", {}, ())
    total = count = 0.0
    for said in model.predict(genome, as_intervals([(record.start, record.end) for record in records])):
        own = said.log_probs.numpy()[np.arange(len(said.at)), some.flat[said.at] - 1]
        total, count = total - own.sum(dtype=float) / math.log(2), count + len(own)
    out["bits_per_base"] = total / count if count else math.nan
    return out | {"longest_match": int(matches.max()), "median_longest_match": float(np.median(matches))}


def _frames(codes: Codes) -> int:
    """Return how many open reading frames, ATG to a stop, both strands have."""
    return sum(len(open_frames(strand, starts=["ATG"])) for strand in (codes, COMPLEMENT[codes[::-1]]))


def print_comparison(rows: list[dict[str, Any]], folder: Path) -> None:
    """Print the table, a measure a line."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("")
    for row in rows:
        table.add_column(row["sequence"], justify="right")
    labels = {
        "n": "sequences",
        "gc": "GC share",
        "3mer_divergence": "3-mer divergence (bits)",
        "6mer_divergence": "6-mer divergence (bits)",
        "longest_homopolymer": "longest homopolymer",
        "reading_frames_per_kb": "reading frames per kb",
        "bits_per_base": "bits per base",
        "longest_match": "longest training match",
        "median_longest_match": "  median of sequences",
    }
    for key, label in labels.items():
        table.add_row(label, *(f"{row[key]:.4g}" for row in rows))
    console = Console(highlight=False)
    console.print(table)
    console.print(f"files: {folder}", soft_wrap=True)
