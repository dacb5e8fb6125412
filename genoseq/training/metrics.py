"""Loss, accuracy, bits per base and perplexity, from three sums over tokens."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class TokenMetrics(Metric):
    """Sum code lengths and correct predictions over scored tokens, in total and by group (record).

    Parameters
    ----------
    new_bases : int
        Bases a token adds to those before it.
    groups : int
        Number of groups.
    """

    full_state_update = False
    nats: Tensor
    correct: Tensor
    count: Tensor

    def __init__(self, new_bases: int, groups: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.new_bases, self.groups = new_bases, groups
        # Apple's GPUs have no float64
        wide = torch.float32 if torch.backends.mps.is_available() else torch.float64
        for name, dtype in {"nats": wide, "correct": torch.int64, "count": torch.int64}.items():
            self.add_state(name, torch.zeros(groups, dtype=dtype), dist_reduce_fx="sum")

    def update(self, nats: Tensor, correct: Tensor, scored: Tensor, group: Tensor | None = None) -> None:
        """Add one batch.

        Parameters
        ----------
        nats : Tensor
            Code length of each token, 0 where not scored, (B, L).
        correct, scored : Tensor
            Correct predictions among the scored tokens, and the scored tokens, bool (B, L).
        group : Tensor, optional
            Group of each row, int64 (B,).
        """
        rows = nats.sum(1, dtype=self.nats.dtype), correct.sum(1), scored.sum(1)
        for total, row in zip((self.nats, self.correct, self.count), rows, strict=True):
            if group is None or self.groups == 1:
                total[0] += row.sum()
            else:
                total.index_add_(0, group, row)

    def compute(self) -> dict[str, Tensor]:
        """Return loss (nats a token), accuracy, bits_per_base and perplexity over all groups."""
        return self._means(self.nats.sum(), self.correct.sum(), self.count.sum())

    def by_group(self) -> list[dict[str, float]]:
        """Return the same and the number of ``tokens`` of each group; nan for a group without a scored token.

        Every rank must call it: the sums are those of all ranks.
        """
        with self.sync_context():
            sums = torch.stack([self.nats, self.correct.double(), self.count.double()], dim=1).cpu()
        return [
            {key: float(value) for key, value in self._means(*row).items()} | {"tokens": int(row[2])} for row in sums
        ]

    def load_sums(self, sums: dict[str, Tensor]) -> None:
        """Continue from the ``metric_state`` of another such metric."""
        for name, value in sums.items():
            setattr(self, name, value.to(self.device))

    def _means(self, nats: Tensor, correct: Tensor, count: Tensor) -> dict[str, Tensor]:
        loss = nats / count
        return {
            "loss": loss,
            "accuracy": correct / count,
            "bits_per_base": loss / math.log(2) / self.new_bases,
            "perplexity": loss.exp(),
        }
