"""Splits: which bases train, validate and test. All are intervals of the genome, made before any window.

Whatever window is drawn inside an interval belongs, on both strands, to that interval's part.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from genoseq.data import hashing
from genoseq.data.genome import Genome
from genoseq.data.hashing import Stream
from genoseq.data.intervals import Intervals, as_intervals, bases, cut_tail, intersect, usable
from genoseq.errors import UserError
from genoseq.files import write_atomic

log = logging.getLogger(__name__)

STAGES = ("train", "val", "test")


@dataclass(frozen=True)
class Parts:
    """A genome cut into training, validation and test parts.

    For ``random_windows`` each part is the whole genome, and `accepts` gives each window start to one of them.
    """

    train: Intervals
    val: Intervals
    test: Intervals
    # only for random_windows:
    hash_key: tuple[int, ...] | None = None  # of the hash that gives each window start its part
    shares: tuple[float, float] = (0.0, 0.0)  # of windows in (val, test)
    window_stride: int = 1  # bases from one window's start to the next, counted from the interval's start

    @property
    def splits_windows(self) -> bool:
        """Whether windows, not bases, are split: the same base may lie in windows of several parts."""
        return self.hash_key is not None

    def overlap(self, span: int) -> bool:
        """Return whether a test window of `span` bases may share bases with a training window."""
        return self.splits_windows and self.window_stride < span

    def of(self, stage: str) -> Intervals:
        """Return the intervals of ``train``, ``val`` or ``test``."""
        intervals: Intervals = getattr(self, stage)
        return intervals

    def share(self, stage: str) -> float:
        """Return the share of the windows in ``of(stage)`` that belong to `stage`."""
        val, test = self.shares
        return 1.0 if self.hash_key is None else {"train": 1 - val - test, "val": val, "test": test}[stage]

    def accepts(self, stage: str, starts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which window `starts` (bases, any shape) belong to `stage`."""
        if self.hash_key is None:
            return np.ones(starts.shape, dtype=bool)
        u = hashing.uniform(self.hash_key, starts)
        val, test = self.shares
        accepted = {"test": u < test, "val": (u >= test) & (u < test + val), "train": u >= test + val}[stage]
        if self.window_stride > 1:  # windows start on the grid only
            first = self.train[np.searchsorted(self.train[:, 0], starts, side="right") - 1, 0]
            accepted &= (starts - first) % self.window_stride == 0
        return accepted


class Split(ABC):
    """A way to cut a genome. Subclasses say which bases belong to which part; this class does the rest.

    Parameters
    ----------
    unknown_run : int
        Runs of at least this many unknown letters are cut out; a shorter run stays inside a window, where it is
        read as unknown tokens and never scored.
    """

    same_bases: ClassVar[bool] = False  # whether the three parts are the same bases

    def __init__(self, unknown_run: int = 10) -> None:
        check_count("split.unknown_run", unknown_run)
        self.unknown_run = unknown_run

    @abstractmethod
    def assign(self, genome: Genome, gap: int, seed: int) -> dict[str, Intervals]:
        """Return each stage's intervals, parts at least `gap` bases apart, regardless of record edges."""

    def __call__(self, genome: Genome, span: int, seed: int = 0) -> Parts:
        """Cut `genome` for windows of `span` bases."""
        whole = usable(genome, self.unknown_run)
        parts, dropped = {}, []
        for stage, intervals in self.assign(genome, span, seed).items():
            pieces = intersect(intervals, whole)
            lengths = pieces[:, 1] - pieces[:, 0]
            fits = lengths >= span
            parts[stage] = pieces[fits]
            dropped.append(bases(pieces[~fits]))
            if not fits.any():
                raise UserError(
                    f"the {stage} part of genome '{genome.name}' ({genome.source}) has no interval as long as a window:"
                    f" longest {lengths.max(initial=0):,} bases, a window needs {span:,}; lower data.seq_len or change "
                    "data.split"
                )
        if lost := max(dropped) if self.same_bases else sum(dropped):
            log.warning("%s bases lie in pieces shorter than a window (%s bases) and are not used.", f"{lost:,}", span)
        return Parts(parts["train"], parts["val"], parts["test"])


def check_count(name: str, value: object, least: int = 1) -> None:
    """Raise ``UserError`` unless the setting ``data.NAME`` is a whole number of at least `least`."""
    if not isinstance(value, int) or value < least:
        raise UserError(f"data.{name} must be a whole number of at least {least}, got {value}")


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise UserError(f"data.split.{name} must be above 0 and below 1, got {value}")


class _SharesSplit(Split):
    """A split by shares, `test` and `val`, of the whole."""

    def __init__(self, test: float = 0.2, val: float = 0.05, unknown_run: int = 10) -> None:
        super().__init__(unknown_run)
        _check_share("test", test)
        if not 0 < val < 1 - test:
            raise UserError(f"data.split.val must be above 0 and below 1 - data.split.test={test}, got {val}")
        self.test, self.val = test, val


class ContiguousSplit(_SharesSplit):
    """The last `test` share of the whole genome tests; validation is a `val` share of the whole, before it."""

    def assign(self, genome: Genome, gap: int, seed: int) -> dict[str, Intervals]:
        n = len(genome)
        rest, test = cut_tail(as_intervals([(0, n)]), round(n * self.test), gap)
        train, val = cut_tail(rest, round(n * self.val), gap)
        return {"train": train, "val": val, "test": test}


class BlocksSplit(_SharesSplit):
    """Blocks of `block_size` bases, each given to a part by a seeded draw, with gaps where neighbours differ.

    Parameters
    ----------
    test, val : float
        Shares of the blocks; with a fold, `test` has no say.
    fold : int, optional
        Which of the `folds` tests: each block lies in the test part of exactly one. The draw depends on `seed` alone,
        and gaps are taken from training and validation only.
    seed : int, optional
        Of the draw; by default the run's, with a fold 0.
    """

    def __init__(
        self,
        test: float = 0.2,
        val: float = 0.05,
        block_size: int = 50_000,
        unknown_run: int = 10,
        fold: int | None = None,
        folds: int = 5,
        seed: int | None = None,
    ) -> None:
        super().__init__(test, val, unknown_run)
        check_count("split.block_size", block_size)
        check_count("split.folds", folds, least=2)
        if fold is not None and not (isinstance(fold, int) and 0 <= fold < folds):
            raise UserError(f"data.split.fold must be a whole number from 0 to {folds - 1}, got {fold}")
        if not isinstance(seed, int | None):
            raise UserError(f"data.split.seed must be a whole number, got {seed}")
        self.block_size, self.fold, self.folds, self.seed = block_size, fold, folds, seed

    def assign(self, genome: Genome, gap: int, seed: int) -> dict[str, Intervals]:
        blocks: list[tuple[int, int]] = []
        for record in genome.records:
            starts = list(range(record.start, record.end, self.block_size))
            if self.fold is not None and len(starts) > 1 and record.end - starts[-1] < gap:
                starts.pop()  # too short for a window: the last block has it, so that it is tested
            blocks += pairwise([*starts, record.end])
        n = len(blocks)
        n_test, n_val = max(1, round(n * self.test)), max(1, round(n * self.val))
        drawn = self.seed if self.seed is not None else seed if self.fold is None else 0
        rank = hashing.permute((drawn, Stream.BLOCKS), np.arange(n), n)
        if self.fold is not None:
            if n < self.folds:
                raise UserError(
                    f"data.split.folds={self.folds} needs as many blocks, and genome '{genome.name}' has {n} of "
                    f"data.split.block_size={self.block_size:,} bases"
                )
            tested = rank % self.folds == self.fold
            n_test = int(tested.sum())
            rank = np.argsort(np.argsort(np.where(tested, rank - n, rank)))  # those that test first
        stages = ["test" if r < n_test else "val" if r < n_test + n_val else "train" for r in rank]
        rows = []
        for i, ((lo, hi), stage) in enumerate(zip(blocks, stages, strict=True)):
            before, after = (stages[j] if 0 <= j < n else stage for j in (i - 1, i + 1))
            spared = self.fold is not None and stage == "test"
            lo += gap * (before != stage and not spared)
            hi -= gap * (after != stage and not spared and self.fold is not None and after == "test")
            rows.append((lo, max(lo, hi), stage))
        return _by_stage(rows)


class RandomWindowsSplit(_SharesSplit):
    """The report's split: every window start goes to a part by a hash of (seed, start). It leaks by design.

    Windows overlap, so nearly every test base also lies in a training window; the accuracy measures memory.
    `test` and `val` are shares of the windows, which start every `window_stride` bases. A window spans its inputs and
    its last target, so those of ``seq_len`` single-base tokens share one base with each neighbour at a stride of
    ``seq_len``, and none from ``seq_len + 1`` on.
    """

    same_bases = True

    def __init__(self, test: float = 0.2, val: float = 0.05, unknown_run: int = 10, window_stride: int = 1) -> None:
        super().__init__(test, val, unknown_run)
        check_count("split.window_stride", window_stride)
        self.window_stride = window_stride

    def assign(self, genome: Genome, gap: int, seed: int) -> dict[str, Intervals]:
        return dict.fromkeys(STAGES, as_intervals([(0, len(genome))]))

    def __call__(self, genome: Genome, span: int, seed: int = 0) -> Parts:
        parts = super().__call__(genome, span, seed)
        return replace(
            parts,
            hash_key=(seed, Stream.RANDOM_WINDOWS),
            shares=(self.val, self.test),
            window_stride=self.window_stride,
        )


class RecordsSplit(Split):
    """Named records (chromosomes, plasmids) test; others may be named for validation.

    Parameters
    ----------
    test : sequence of str
        Names of test records; a number, which a command line makes of ``[2]``, is the record called 2.
    val : sequence of str or float
        Names of validation records, or the share of the remaining bases to take off their end.
    """

    def __init__(
        self,
        test: Sequence[str | int] | str | int,
        val: Sequence[str | int] | str | float = 0.05,
        unknown_run: int = 10,
    ) -> None:
        super().__init__(unknown_run)
        if not (isinstance(test, int) or test):
            raise UserError("data/split=records needs the names of the test records: add data.split.test=[NAME,...]")
        self.val_share = val if isinstance(val, (int, float)) else None
        if self.val_share is not None:
            _check_share("val", self.val_share)
        self.names = {
            stage: [str(name) for name in ([given] if isinstance(given, (str, int)) else given)]
            for stage, given in {"test": test, "val": () if isinstance(val, (int, float)) else val}.items()
        }

    def assign(self, genome: Genome, gap: int, seed: int) -> dict[str, Intervals]:
        known = {record.name: record for record in genome.records}
        for stage, names in self.names.items():
            if unknown := [name for name in names if name not in known]:
                some = ", ".join(list(known)[:8]) + (", ..." if len(known) > 8 else "")
                raise UserError(
                    f"data.split.{stage} names the record '{unknown[0]}', which genome '{genome.name}' does not have; "
                    f"its records are {some}"
                )
        if both := set(self.names["test"]) & set(self.names["val"]):
            raise UserError(f"the record '{min(both)}' is named both in data.split.test and in data.split.val")
        stages = {name: stage for stage, names in self.names.items() for name in names}
        out = {
            stage: as_intervals([(r.start, r.end) for r in genome.records if stages.get(r.name, "train") == stage])
            for stage in STAGES
        }
        return out if self.val_share is None else _with_validation(out, self.val_share, gap)


class BedSplit(Split):
    """A BED file says: columns record, start, end, part (train, val or test); what it does not name is unused.

    Parameters
    ----------
    file : str
        Tab-separated, 0-based half-open coordinates; ``#``, ``track`` and ``browser`` lines are skipped.
    val : float
        Without a ``val`` line: the share of the training part to take off its end.
    """

    def __init__(self, file: str, val: float = 0.05, unknown_run: int = 10) -> None:
        super().__init__(unknown_run)
        _check_share("val", val)
        self.file, self.val = Path(file), val

    def assign(self, genome: Genome, gap: int, seed: int) -> dict[str, Intervals]:
        known = {record.name: record for record in genome.records}
        rows: list[tuple[int, int, str, int]] = []  # start and end in the genome, part, line number
        try:
            lines = self.file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"the split file {self.file} cannot be read ({error})") from error
        for number, line in enumerate(lines, start=1):
            # by the whole first word: a record may be called track7
            if not line.strip() or line.startswith("#") or line.split()[0] in ("track", "browser"):
                continue
            where, row = f"{self.file}, line {number}", line.split("\t")
            if len(row) < 4 or row[3].strip() not in STAGES or not (row[1].isdecimal() and row[2].isdecimal()):
                raise UserError(f"{where}: expected record, start, end and train, val or test, separated by tabs")
            if row[0] not in known:
                raise UserError(f"{where}: genome '{genome.name}' has no record '{row[0]}'")
            record, start, end = known[row[0]], int(row[1]), int(row[2])
            if not start < end <= record.length:
                raise UserError(f"{where}: {start}-{end} is not inside '{row[0]}', which has {record.length:,} bases")
            rows.append((record.start + start, record.start + end, row[3].strip(), number))
        rows.sort()
        for (_, end, _, first), (start, _, _, second) in pairwise(rows):
            if start < end:
                raise UserError(f"{self.file}: the parts on lines {first} and {second} overlap; make them disjoint")
        out = _by_stage(row[:3] for row in rows)
        for stage in ("train", "test"):
            if not len(out[stage]):
                raise UserError(f"{self.file} has no {stage} line: name at least one train and one test region")
        return out if len(out["val"]) else _with_validation(out, self.val, gap)


def _by_stage(rows: Iterable[tuple[int, int, str]]) -> dict[str, Intervals]:
    """Return the intervals of each stage from sorted (start, end, stage); touching ones of a stage become one."""
    pairs: dict[str, list[tuple[int, int]]] = {stage: [] for stage in STAGES}
    for start, end, stage in rows:
        if pairs[stage] and pairs[stage][-1][1] == start:
            start = pairs[stage].pop()[0]
        pairs[stage].append((start, end))
    return {stage: as_intervals(held) for stage, held in pairs.items()}


def _with_validation(parts: dict[str, Intervals], share: float, gap: int) -> dict[str, Intervals]:
    """Return the parts with `share` of the training bases taken off their end for validation."""
    train, val = cut_tail(parts["train"], round(bases(parts["train"]) * share), gap)
    return parts | {"train": train, "val": val}


def write_bed(path: Path, parts: Parts, genome: Genome, span: int) -> None:
    """Write the parts of `genome` as BED, which `BedSplit` reads: record, start, end, part.

    For ``random_windows``, whose parts are the same bases, each interval is one line, its part ``random_windows``, and
    a comment says where windows of `span` bases start.
    """
    lines = [f"# genome {genome.name} sha256 {genome.sha256}"]
    if parts.window_stride > 1:
        lines.append(f"# windows of {span} bases start at every {parts.window_stride} bases of a line")
    stages = {"train": "random_windows"} if parts.splits_windows else {stage: stage for stage in STAGES}
    rows = sorted((start, end, name) for stage, name in stages.items() for start, end in parts.of(stage).tolist())
    records = iter(genome.records)
    record = next(records)
    for start, end, name in rows:
        while start >= record.end:
            record = next(records)
        lines.append(f"{record.name}\t{start - record.start}\t{end - record.start}\t{name}")
    write_atomic(path, "\n".join(lines) + "\n")
