"""Compare composed configs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from genoseq.errors import UserError

# what a run may be given differently each time it is started
_MAY_DIFFER = ("hydra", "sweep", "paths", "logger", "tags", "trust", "data.genome_dir", "data.cache_dir")


def check_same(folder: Path, config: DictConfig, remedy: str) -> None:
    """Raise `UserError`, naming what differs, if a folder holds a run of another composed config.

    The checkpoint is compared where it is what is measured, not where training starts from it.

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
    may_differ = [*_MAY_DIFFER, "ckpt"] if "optimizer" in config else _MAY_DIFFER
    try:
        had = _settings(OmegaConf.load(file), may_differ)
    except (OSError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{file} cannot be read ({error}); give another {remedy}") from None
    has = _settings(config, may_differ)
    other = sorted(key for key in {*had, *has} if had.get(key, "nothing") != has.get(key, "nothing"))
    if other:
        listed = ", ".join(f"{key}={had.get(key, 'nothing')} (now {has.get(key, 'nothing')})" for key in other[:4])
        more = f" and {len(other) - 4} more" if len(other) > 4 else ""
        raise UserError(
            f"the folder {folder} holds a run with other settings: {listed}{more}; give the same to resume it, or "
            f"another {remedy}"
        )


def _settings(config: Any, may_differ: Iterable[str]) -> dict[str, Any]:
    """Return a config as one level, interpolations resolved, without what may differ."""
    config = OmegaConf.create(_escaped(OmegaConf.to_container(config)))
    flat = flatten(OmegaConf.to_container(config, resolve=True))
    return {
        key: value
        for key, value in flat.items()
        if not any(key == name or key.startswith(f"{name}.") for name in may_differ)
    }


def _escaped(node: Any) -> Any:
    """Return plain containers in which what asks for the run's Hydra config (its folder) stays as it is written."""
    if isinstance(node, dict):
        return {key: _escaped(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_escaped(value) for value in node]
    return node.replace("${hydra:", r"\${hydra:") if isinstance(node, str) else node


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested plain containers as one level, ``{"data.seq_len": 32, …}``."""
    if not isinstance(config, dict) or not config:
        return {prefix: config}
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
