"""Learning-rate schedules that PyTorch does not have as one class, counted in optimizer steps."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(optimizer: Optimizer, total_steps: int, warmup_steps: int = 100, min_ratio: float = 0.0) -> LambdaLR:
    """Return a linear warm-up followed by half a cosine.

    Parameters
    ----------
    optimizer : Optimizer
    total_steps, warmup_steps : int
        Optimizer steps of the whole run and of the warm-up.
    min_ratio : float
        Learning rate at the end, as a share of the highest.
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        done = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return min_ratio + (1 - min_ratio) * (1 + math.cos(math.pi * done)) / 2

    return LambdaLR(optimizer, factor)
