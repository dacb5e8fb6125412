"""Compare composed configs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from genoseq.errors import UserError
from genoseq.files import read_yaml

# what a run may be given differently each time it is started
_MAY_DIFFER = ("hydra", "sweep", "paths", "logger", "tags", "trust", "data.genome_dir", "data.cache_dir")


def check_same(folder: Path, config: DictConfig, remedy: str) -> None:
    """Raise `UserError`, naming what differs, if a folder holds a run of another composed config.

    `ckpt` is compared for evaluate, but not for train, where it is only the starting point.

    Parameters
    ----------
    folder : Path
        The run's.
    config : DictConfig
        As composed now.
    remedy : str
        The override that names another folder, for the message.
    """
    file = folder / ".hydra" / "config.yaml"
    if not file.is_file():
        return
    may_differ = (*_MAY_DIFFER, "ckpt") if "optimizer" in config else _MAY_DIFFER
    try:
        had = flatten(read_yaml(file))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file} cannot be read ({reason}); give another {remedy}") from None
    has = flatten(resolved(config, leave_out=may_differ))
    keys = sorted(key for key in {*had, *has} if not key.startswith(tuple(f"{name}." for name in may_differ)))
    other = [key for key in keys if key not in may_differ and had.get(key, "nothing") != has.get(key, "nothing")]
    if other:
        listed = ", ".join(f"{key}={had.get(key, 'nothing')} (now {has.get(key, 'nothing')})" for key in other[:4])
        more = f" and {len(other) - 4} more" if len(other) > 4 else ""
        raise UserError(
            f"the folder {folder} holds a run with other settings: {listed}{more}; give the same to resume it, or "
            f"another {remedy}"
        )


def resolved(config: DictConfig, leave_out: Iterable[str] = ()) -> dict[str, Any]:
    """Return a config as plain containers, interpolations resolved, without the nodes that are left out."""
    nodes = {str(key): config[key] for key in config if str(key) not in set(leave_out)}
    return {
        key: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
        for key, node in nodes.items()
    }


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested plain containers as one level, ``{"data.seq_len": 32, …}``."""
    if not isinstance(config, dict) or not config:
        return {prefix: config}
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def check_whole_numbers(cfg: DictConfig, **least: int) -> None:
    """Raise `UserError` unless settings, by name, are whole numbers of at least so much."""
    for key, lowest in least.items():
        if not isinstance(cfg[key], int) or cfg[key] < lowest:
            raise UserError(f"{key} must be a whole number of at least {lowest}, got {cfg[key]}")
