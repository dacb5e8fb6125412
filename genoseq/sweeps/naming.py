"""Names for a sweep's runs, from what varies: ``seq_len=50,lr=0.01``; the same settings always have the same folder."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from omegaconf import DictConfig

from genoseq.overrides import key_of, parse, short_names, value_text

_LONGEST = 150  # letters; file systems take 255 bytes


def varied_keys(config: DictConfig) -> list[str]:
    """Return the override keys that a sweep's command and sweeper give several values."""
    params = config.hydra.sweeper.get("params") or {}
    texts = [f"{key}={value}" for key, value in params.items()] + list(config.hydra.overrides.task)
    varied: dict[str, None] = {}
    for override in parse(texts):
        key = key_of(override)
        if override.is_sweep_override():
            varied[key] = None
        else:  # the command's one value takes the place of a sweeper's many
            varied.pop(key, None)
    return list(varied)


def run_name(overrides: Sequence[str], varied: Sequence[str]) -> str:
    """Return the name of a run's folder: what varies, short, safe in every file system.

    A name that had to leave letters out ends in a few digits of its settings' hash, so that two never meet.
    """
    # ckpt too: a checkpoint is what evaluations vary
    settings = {key_of(override): value_text(override) for override in parse(overrides)}
    short = short_names(varied)
    full = ",".join(f"{short[key]}={settings[key]}" for key in varied if key in settings)
    if not full:
        return "run"
    safe = re.sub(r"[^\w.=+,-]", "_", full, flags=re.ASCII)[:_LONGEST]
    return safe if safe == full else f"{safe}-{hashlib.sha256(full.encode()).hexdigest()[:6]}"
