"""Datasets without data: a step number, or a place in the evaluation plan, becomes a batch of start positions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from genoseq.data.batch import Batch
from genoseq.data.sampler import Streams, WindowSampler


class TrainingSteps(Dataset[Batch]):
    """Maps a step number to that step's batch."""

    def __init__(self, sampler: WindowSampler, seq_len: int) -> None:
        self.sampler, self.seq_len = sampler, seq_len

    def __getitem__(self, step: int) -> Batch:
        starts, flip = self.sampler.batch(step)
        rows = torch.from_numpy(flip) if self.sampler.reverse_complement else None
        carry = step % self.sampler.chain > 0
        return Batch(torch.from_numpy(starts), self.seq_len, flip=rows, step=step, carry=carry)


class StepsFrom(Sampler[int]):
    """Counts steps up from `first`; its length is the whole run's, as Lightning counts a resumed epoch."""

    def __init__(self, first: int, total: int) -> None:
        self.first, self.total = first, total

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.total))

    def __len__(self) -> int:
        return self.total


class StreamChunks(Dataset[Batch]):
    """Evaluation batches: `rows` streams side by side, read in chunks of `chunk` predictions with the state carried.

    Streams are sorted by length so that rows end together; group g of rows goes to rank g mod world_size. Every rank
    gets at least one chunk: Lightning leaves a rank without any out of the epoch's end, where the others wait for it.
    """

    def __init__(
        self,
        streams: Streams,
        groups: np.ndarray[Any, np.dtype[np.int64]],
        rows: int,
        chunk: int,
        stride: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.streams, self.groups, self.stride = streams, groups, stride
        order = np.argsort(-(streams.warmup + streams.scored), kind="stable")
        self._plan: list[tuple[np.ndarray[Any, np.dtype[np.int64]], int, int]] = []
        # few streams: fewer side by side, so that each rank has some
        rows = min(rows, max(1, -(-len(order) // world_size)))
        for number, at in enumerate(range(0, len(order), rows)):
            if number % world_size == rank:
                row = order[at : at + rows]
                length = int((streams.warmup + streams.scored)[row].max())
                self._plan += [(row, lo, min(lo + chunk, length)) for lo in range(0, length, chunk)]
        if not self._plan and len(order):  # fewer streams than ranks: one position after a stream's end, never scored
            end = int((streams.warmup + streams.scored)[order[0]])
            self._plan = [(order[:1], end, end + 1)]

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: int) -> Batch:
        row, lo, hi = self._plan[index]
        s = self.streams
        position = np.arange(lo, hi)[None]
        begin, end = s.warmup[row][:, None], (s.warmup + s.scored)[row][:, None]
        scored = (position >= begin) & (position < end)
        return Batch(
            torch.from_numpy(s.start[row] + lo * self.stride),
            hi - lo,
            scored=None if scored.all() else torch.from_numpy(scored),
            group=torch.from_numpy(self.groups[row]),
            carry=lo > 0,
        )
