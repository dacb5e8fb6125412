"""What configs can compute: ``${steps:…}``, ``${rows:…}`` and ``${new_run_dir:…}``."""

from __future__ import annotations

import math

from omegaconf import OmegaConf

from genoseq.app.run_folder import new_run_dir


def steps(tokens: float, batch_size: int, seq_len: int) -> int:
    """Return the optimizer steps that read a number of tokens, rounded to the nearest, 1 at least."""
    return max(1, math.floor(float(tokens) / (int(batch_size) * int(seq_len)) + 0.5))


def rows(tokens: float, seq_len: int) -> int:
    """Return the windows that hold a number of tokens (those of one step), rounded to the nearest, 1 at least."""
    return steps(tokens, 1, seq_len)


def register() -> None:
    """Register the resolvers with OmegaConf."""
    for resolver in (steps, rows, new_run_dir):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
