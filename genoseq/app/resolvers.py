"""What configs can compute: ``${steps:tokens,batch_size,seq_len}``, ``${rows:tokens,seq_len}``, ``${run_stamp:}``."""

from __future__ import annotations

import math

from omegaconf import OmegaConf

from genoseq.app.stamp import run_stamp


def steps(tokens: float, batch_size: int, seq_len: int) -> int:
    """Return the optimizer steps that read a number of tokens, rounded to the nearest, 1 at least."""
    return max(1, math.floor(float(tokens) / (int(batch_size) * int(seq_len)) + 0.5))


def rows(tokens: float, seq_len: int) -> int:
    """Return the windows that hold a number of tokens (those of one step), rounded to the nearest, 1 at least."""
    return steps(tokens, 1, seq_len)


def register() -> None:
    """Make them known to OmegaConf."""
    OmegaConf.register_new_resolver("steps", steps, replace=True)
    OmegaConf.register_new_resolver("rows", rows, replace=True)
    # cached with the config, as Hydra's own `now`: asked again, the time would be another
    OmegaConf.register_new_resolver("run_stamp", run_stamp, use_cache=True, replace=True)
