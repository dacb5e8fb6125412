"""Blocks of a genome: what scores are kept apart by, for records and for standard errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genoseq.data.genome import Genome

SIZE = 10_000
"""Bases in a block, at most. Within a gene errors go together; ten genes apart they hardly do."""


@dataclass(frozen=True)
class Blocks:
    """A genome's records cut into blocks of `SIZE` bases, each record's last one shorter."""

    start: NDArray[np.int64]
    """First base of each block, (blocks,)."""
    record: NDArray[np.int64]
    """Index of its record, (blocks,)."""

    @classmethod
    def of(cls, genome: Genome) -> Blocks:
        """Return the blocks of a genome."""
        each = [np.arange(record.start, record.end, SIZE) for record in genome.records]
        return cls(np.concatenate(each), np.repeat(np.arange(len(each)), [len(one) for one in each]))

    def __len__(self) -> int:
        return len(self.start)

    def index(self, position: ArrayLike) -> NDArray[np.int64]:
        """Return the block of each position, of the same shape; the last one for what lies beyond the genome."""
        return np.searchsorted(self.start, position, side="right") - 1
