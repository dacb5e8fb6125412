"""Splits: which bases train, which choose, which test. All are intervals of the genome, made before any window.

Whatever window is drawn inside an interval lies, on both strands, on that interval's side.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from genoseq.data import hashing
from genoseq.data.genome import Genome
from genoseq.data.intervals import Intervals, as_intervals, bases, cut_tail, intersect, usable
from genoseq.errors import UserError

log = logging.getLogger(__name__)

STAGES = ("train", "val", "test")


@dataclass(frozen=True)
class Parts:
    """A genome cut into training, validation and test parts.

    Attributes
    ----------
    train, val, test : Intervals
        For ``random_windows`` all three are the whole genome, and `stage_of_start` tells the windows apart.
    hash_key : tuple of int or None
        Only for ``random_windows``: the key of the hash that gives each window start its stage.
    shares : tuple of float
        Only for ``random_windows``: the shares of windows in (val, test).
    window_stride : int
        Only for ``random_windows``: bases from one window's start to the next, counted from the interval's start.
    dropped : dict of str to int
        Bases of each part in pieces too short for one window.
    """

    train: Intervals
    val: Intervals
    test: Intervals
    hash_key: tuple[int, ...] | None = None
    shares: tuple[float, float] = (0.0, 0.0)
    window_stride: int = 1
    dropped: dict[str, int] = field(default_factory=dict)

    @property
    def splits_windows(self) -> bool:
        """Whether windows, not bases, are split: the same base may lie in windows of several parts."""
        return self.hash_key is not None

    def overlap(self, span: int) -> bool:
        """Return whether a test window of `span` bases may share bases with a training window."""
        return self.splits_windows and self.window_stride < span

    def of(self, stage: str) -> Intervals:
        """Return the intervals of ``train``, ``val`` or ``test``."""
        return {"train": self.train, "val": self.val, "test": self.test}[stage]

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
        mine = {"test": u < test, "val": (u >= test) & (u < test + val), "train": u >= test + val}[stage]
        if self.window_stride > 1:  # no window begins between two steps
            first = self.train[np.searchsorted(self.train[:, 0], starts, side="right") - 1, 0]
            mine &= (starts - first) % self.window_stride == 0
        return mine


class Split(ABC):
    """A way to cut a genome. Subclasses say which bases belong to which part; this class does the rest.

    Parameters
    ----------
    unknown_run : int
        Runs of at least this many unknown letters are cut out; a shorter run stays inside a window, where it is
        read as unknown tokens and never scored.
    """

    shared: ClassVar[bool] = False  # whether the three parts are the same bases

    def __init__(self, unknown_run: int = 10) -> None:
        if unknown_run < 1:
            raise UserError(f"data.split.unknown_run={unknown_run} is not a length in letters: give 1 or more")
        self.unknown_run = unknown_run

    @abstractmethod
    def assign(self, genome: Genome, gap: int, seed: int) -> dict[str, Intervals]:
        """Return each stage's intervals, parts at least `gap` bases apart, records' edges not yet considered."""

    def __call__(self, genome: Genome, span: int, seed: int = 0) -> Parts:
        """Cut `genome` for windows of `span` bases.

        Raises
        ------
        UserError
            If a part has no stretch as long as one window.
        """
        whole = usable(genome, self.unknown_run)
        parts, dropped = {}, {}
        for stage, intervals in self.assign(genome, span, seed).items():
            pieces = intersect(intervals, whole)
            fits = pieces[:, 1] - pieces[:, 0] >= span
            parts[stage], dropped[stage] = pieces[fits], bases(pieces[~fits])
            if not fits.any():
                longest = int((pieces[:, 1] - pieces[:, 0]).max(initial=0))
                raise UserError(
                    f"the {stage} part of genome '{genome.name}' ({genome.source}) has no stretch as long as a window:"
                    f" longest {longest:,} bases, a window needs {span:,}; lower data.seq_len or change data.split"
                )
        lost = max(dropped.values()) if self.shared else sum(dropped.values())
        if lost:
            log.warning("%s bases lie in pieces shorter than a window (%s bases) and are not used.", f"{lost:,}", span)
        return self.finish(parts, dropped, seed)

    def finish(self, parts: dict[str, Intervals], dropped: dict[str, int], seed: int) -> Parts:
        """Make the result; a split that tells windows apart in another way overrides this."""
        return Parts(parts["train"], parts["val"], parts["test"], dropped=dropped)


def check_shares(test: float, val: float) -> None:
    if not 0 < test < 1:
        raise UserError(f"data.split.test={test} is not a share: give a number between 0 and 1, such as 0.2")
    if not 0 < val < 1 - test:
        raise UserError(
            f"data.split.val={val} does not fit beside data.split.test={test}: give a share of the whole above 0, "
            "with val + test below 1"
        )


class ContiguousSplit(Split):
    """The last `test` share of the whole tests; validation is the stretch before it, inside what is left.

    Parameters
    ----------
    test, val : float
        Shares of the whole genome, in (0, 1).
    """

    def __init__(self, test: float = 0.2, val: float = 0.05, unknown_run: int = 10) -> None:
        super().__init__(unknown_run)
        check_shares(test, val)
        self.test, self.val = test, val

    def assign(self, genome: Genome, gap: int, seed: int) -> dict[str, Intervals]:
        n = len(genome)
        rest, test = cut_tail(as_intervals([(0, n)]), round(n * self.test), gap)
        train, val = cut_tail(rest, round(n * self.val), gap)
        return {"train": train, "val": val, "test": test}


class BlocksSplit(Split):
    """Contiguous blocks, each given to a part by a seeded draw, with gaps where neighbours differ.

    Parameters
    ----------
    test, val : float
        Shares of the blocks, in (0, 1).
    block_size : int
        Bases a block.
    """

    def __init__(self, test: float = 0.2, val: float = 0.05, block_size: int = 50_000, unknown_run: int = 10) -> None:
        super().__init__(unknown_run)
        check_shares(test, val)
        if block_size < 1:
            raise UserError(f"data.split.block_size={block_size} is not a length in bases: give 1 or more")
        self.test, self.val, self.block_size = test, val, block_size

    def assign(self, genome: Genome, gap: int, seed: int) -> dict[str, Intervals]:
        blocks = [
            (lo, min(lo + self.block_size, record.end))
            for record in genome.records
            for lo in range(record.start, record.end, self.block_size)
        ]
        n = len(blocks)
        n_test, n_val = max(1, round(n * self.test)), max(1, round(n * self.val))
        rank = hashing.permute((seed, 1), np.arange(n), n)
        names = ["test" if r < n_test else "val" if r < n_test + n_val else "train" for r in rank]
        out: dict[str, list[tuple[int, int]]] = {stage: [] for stage in STAGES}
        for i, (lo, hi) in enumerate(blocks):
            if i and names[i] != names[i - 1]:
                lo += gap
            if out[names[i]] and out[names[i]][-1][1] == lo:  # neighbours of one part are one stretch
                lo = out[names[i]].pop()[0]
            out[names[i]].append((lo, hi))
        return {stage: as_intervals(pairs) for stage, pairs in out.items()}


class RandomWindowsSplit(Split):
    """The report's split: every window start goes to a part by a hash of (seed, start). It leaks by design.

    Windows overlap, so nearly every test base also lies in a training window; the accuracy measures memory.

    Parameters
    ----------
    test, val : float
        Shares of the window starts, in (0, 1).
    window_stride : int
        Bases from one window's start to the next: 1 takes a window at every base. A window spans its inputs and its
        last target, so those of ``seq_len`` single-base tokens at every ``seq_len``-th base share one base with each
        neighbour, and none from ``seq_len + 1`` on.
    """

    shared = True

    def __init__(self, test: float = 0.2, val: float = 0.05, unknown_run: int = 10, window_stride: int = 1) -> None:
        super().__init__(unknown_run)
        check_shares(test, val)
        if not isinstance(window_stride, int) or window_stride < 1:
            raise UserError(f"data.split.window_stride={window_stride} is not a step in bases: give 1 or more")
        self.test, self.val, self.window_stride = test, val, window_stride

    def assign(self, genome: Genome, gap: int, seed: int) -> dict[str, Intervals]:
        whole = as_intervals([(0, len(genome))])
        return dict.fromkeys(STAGES, whole)

    def finish(self, parts: dict[str, Intervals], dropped: dict[str, int], seed: int) -> Parts:
        return Parts(
            parts["train"],
            parts["val"],
            parts["test"],
            hash_key=(seed, 2),
            shares=(self.val, self.test),
            window_stride=self.window_stride,
            dropped=dropped,
        )
