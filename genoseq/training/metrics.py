"""Loss a token; accuracy, bits and perplexity a base; from sums over tokens."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class TokenMetrics(Metric):
    """Sum code lengths and correct predictions over scored tokens, in total and by group (block of the genome).

    Parameters
    ----------
    stride : int
        Bases a token adds to those before it.
    groups : int
        Number of groups.
    """

    full_state_update = False
    nats: Tensor  # of tokens
    base_nats: Tensor  # of the bases that they add
    correct: Tensor  # bases
    count: Tensor  # tokens

    def __init__(self, stride: int, groups: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stride, self.groups = stride, groups
        # Apple's GPUs have no float64
        wide = torch.float32 if torch.backends.mps.is_available() else torch.float64
        states = dict.fromkeys(("nats", "base_nats"), wide) | dict.fromkeys(("correct", "count"), torch.int64)
        for name, dtype in states.items():
            self.add_state(name, torch.zeros(groups, dtype=dtype), dist_reduce_fx="sum")

    def update(
        self, nats: Tensor, base_nats: Tensor, correct: Tensor, scored: Tensor, group: Tensor | None = None
    ) -> None:
        """Add one batch.

        Parameters
        ----------
        nats : Tensor
            Code length of each token, 0 where not scored, (B, L).
        base_nats : Tensor
            Code length of each base that it adds, 0 where not scored, (B, L, stride).
        correct : Tensor
            Correct predictions among the scored bases, bool (B, L, stride).
        scored : Tensor
            The scored tokens, bool (B, L).
        group : Tensor, optional
            Group of each token, int64 (B, L).
        """
        sums = self.nats, self.base_nats, self.correct, self.count
        for total, values in zip(sums, (nats, base_nats, correct, scored), strict=True):
            if group is None or self.groups == 1:
                total[0] += values.sum(dtype=total.dtype)
            else:
                total.index_add_(0, group.flatten(), values.reshape(group.numel(), -1).sum(1, dtype=total.dtype))

    def compute(self) -> dict[str, Tensor]:
        """Return loss (nats a token) and, of the bases, accuracy, bits_per_base and perplexity over all groups."""
        return self._means(self.nats.sum(), self.base_nats.sum(), self.correct.sum(), self.count.sum())

    def by_group(self) -> Tensor:
        """Return the sums of each group: nats of tokens, nats of bases, correct bases, tokens; float64 (groups, 4).

        Every rank must call it: the sums are those of all ranks.
        """
        with self.sync_context():
            return torch.stack([self.nats, self.base_nats, self.correct, self.count], dim=1).double().cpu()

    def load_sums(self, sums: dict[str, Tensor]) -> bool:
        """Continue from the ``metric_state`` of another such metric; return False if it has other sums."""
        if sums.keys() != self.metric_state.keys():
            return False
        for name, value in sums.items():
            setattr(self, name, value.to(self.device))
        return True

    def _means(self, nats: Tensor, base_nats: Tensor, correct: Tensor, count: Tensor) -> dict[str, Tensor]:
        bases = count * self.stride
        cost = base_nats / bases
        return {
            "loss": nats / count,
            "accuracy": correct / bases,
            "bits_per_base": cost / math.log(2),
            "perplexity": cost.exp(),
        }
