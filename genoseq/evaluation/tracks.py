"""Per-base tracks along a genome, windows that are unusual under a model, and records beside their shuffles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from genoseq.data.genome import Genome, Record
from genoseq.data.intervals import Intervals, as_intervals
from genoseq.evaluation.sampling import sample, shuffled

if TYPE_CHECKING:
    from genoseq.app.model import Model

FIELDS = ("forward", "reverse", "entropy", "varentropy", "imm")
"""Surprise on each strand; entropy, its variance, and the count model's surprise, means of both strands. In bits."""
SAMPLED = (128, 8192)
"""Sequences, and bases of each, that the threshold of unusual windows is set on; as many that it is measured on."""
BLOCK = 1 << 20
"""Bases of a track in memory at a time."""
SHUFFLED = 100_000
"""Bases of a record that are shuffled, at most."""

Track = NDArray[np.float32]


@dataclass(frozen=True)
class Tracks:
    """Values of each base of a genome, nan where it has none; float32 (n_bases,) each, by the names of `FIELDS`."""

    values: dict[str, Track]

    @classmethod
    def empty(cls, n: int, folder: Path | None = None) -> Tracks:
        """Return tracks without values, in memory, or mapped to files in a folder, which take no memory."""
        out = {}
        for name in FIELDS:
            if folder is None:
                out[name] = np.empty(n, dtype=np.float32)
            else:
                out[name] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (n,))
            out[name][:] = np.nan
        return cls(out)

    def get(self, name: str, start: int, end: int) -> Track:
        """Return a track between two bases: surprise, entropy, imm_surprise, surprise_forward or surprise_reverse.

        The first three are means of both strands, and have values where both strands have.
        """
        forward, reverse = (self.values[strand][start:end] for strand in ("forward", "reverse"))
        if name in ("surprise_forward", "surprise_reverse"):
            return forward if name == "surprise_forward" else reverse
        surprise = (forward + reverse) / np.float32(2)
        if name == "surprise":
            return surprise
        own = self.values["entropy" if name == "entropy" else "imm"][start:end]
        return np.where(np.isnan(surprise), np.float32(np.nan), own)

    def mean(self, name: str, parts: Iterable[tuple[int, int]]) -> tuple[float, int]:
        """Return the mean of a track over stretches of bases, nan without a value, and how many bases have one."""
        total, count = 0.0, 0
        for low, high in parts:
            for start in range(low, high, BLOCK):
                own = self.get(name, start, min(start + BLOCK, high))
                total += float(np.nansum(own, dtype=float))
                count += int((~np.isnan(own)).sum())
        return total / count if count else math.nan, count

    def add(self, models: Sequence[Model], genome: Genome, intervals: Intervals) -> None:
        """Add what models say of both strands of intervals, the mean of several; those bases have no values yet."""
        n, other = len(genome), genome.reverse_complement()
        mirrored = (n - intervals[::-1, ::-1]).copy()
        for strand, text, asked in (("forward", genome, intervals), ("reverse", other, mirrored)):
            codes = text.codes.numpy()
            for model in models:
                for at, log_probs in _both(model, text, asked):
                    place = at if strand == "forward" else n - 1 - at
                    bits = -log_probs / math.log(2)
                    p = np.exp(log_probs)
                    entropy = (p * bits).sum(1)
                    own = np.take_along_axis(bits, (codes[at] - 1).astype(np.intp)[:, None], axis=1)[:, 0]
                    self._put(strand, place, own, 1 / len(models))
                    self._put("entropy", place, entropy, 0.5 / len(models))
                    self._put("varentropy", place, (p * (bits - entropy[:, None]) ** 2).sum(1), 0.5 / len(models))
        # both strands at once: the training part is counted once
        codes, asked = np.concatenate([genome.codes, other.codes]), np.concatenate([intervals, n + mirrored])
        for model in models:
            for at, log_probs in model.imm.log_probs(codes, asked):
                own = -log_probs[np.arange(len(at)), codes[at] - 1] / math.log(2)
                for some, place in ((at < n, at), (at >= n, 2 * n - 1 - at)):
                    self._put("imm", place[some], own[some], 0.5 / len(models))

    def _put(self, name: str, at: NDArray[np.int64], values: NDArray[Any], share: float) -> None:
        track = self.values[name]
        track[at] = np.nan_to_num(track[at]) + share * values


def _both(model: Model, genome: Genome, intervals: Intervals) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    for said in model.predict(genome, intervals):
        yield said.at, said.log_probs.numpy()


def window_scores(tracks: Tracks, records: Sequence[Record], window: int, step: int) -> list[tuple[Record, int, float]]:
    """Return record, start in it and z = sum(surprise - entropy) / sqrt(sum(varentropy)) of windows.

    A window in which fewer than half of the bases have values is left out.
    """
    out = []
    for record in records:
        part = slice(record.start, record.end)
        surprise = tracks.get("surprise", record.start, record.end)
        scored = ~np.isnan(surprise)
        excess = np.where(scored, surprise - tracks.values["entropy"][part], 0)
        spread = np.where(scored, tracks.values["varentropy"][part], 0)
        sums = [np.concatenate([[0.0], np.cumsum(each, dtype=np.float64)]) for each in (excess, spread, scored)]
        starts = np.arange(0, max(record.length - window, 0) + 1, step)
        ends = np.minimum(starts + window, record.length)
        gain, variance, count = (each[ends] - each[starts] for each in sums)
        for i in np.flatnonzero((2 * count >= window) & (variance > 0)).tolist():
            out.append((record, int(starts[i]), float(gain[i] / math.sqrt(variance[i]))))
    return out


def sampled_scores(model: Model, window: int, step: int, seed: int) -> tuple[NDArray[np.float64], int]:
    """Return the scores of windows of sequence drawn from the network itself, and how many bases were drawn."""
    rows, length = SAMPLED
    codes = sample(model.module, model.tokenizer, rows, length, seed).flatten()
    records = tuple(Record(f"sample{i}", i * length, length) for i in range(rows))
    genome = Genome("sample", torch.from_numpy(codes), records, "", {}, ())
    tracks = Tracks.empty(len(genome))
    tracks.add([model], genome, as_intervals([(record.start, record.end) for record in records]))
    return np.array([score for _, _, score in window_scores(tracks, records, window, step)]), codes.size


def shuffled_bits(models: Sequence[Model], genome: Genome, intervals: Intervals, seed: int) -> float:
    """Return the models' bits per base of a shuffle of the first of some intervals that keeps pairs of neighbours."""
    start, end = intervals[0].tolist()
    codes = genome.codes.numpy()[start : min(end, start + SHUFFLED)]
    codes = shuffled(codes[codes > 0], np.random.default_rng(seed))
    total = count = 0.0
    for model in models:
        text = Genome("shuffled", torch.from_numpy(codes), (Record("shuffled", 0, len(codes)),), "", {}, ())
        for at, log_probs in _both(model, text, as_intervals([(0, len(codes))])):
            total -= log_probs[np.arange(len(at)), codes[at] - 1].sum() / math.log(2)
            count += len(at)
    return total / count if count else math.nan


def in_record(record: Record, intervals: Intervals) -> Intervals:
    """Return the intervals that lie in a record."""
    return intervals[(intervals[:, 0] >= record.start) & (intervals[:, 1] <= record.end)]
