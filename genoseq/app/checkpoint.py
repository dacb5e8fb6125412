"""Checkpoints: what is written beside the weights, how they are loaded, and whether a run may resume from one."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from genoseq.configs import flatten, resolved
from genoseq.data.datamodule import GenomeData
from genoseq.data.sources import absolute_spec
from genoseq.data.split import Split
from genoseq.data.tokenizer import Tokenizer, Vocabulary
from genoseq.errors import UserError
from genoseq.training.callbacks import AtomicCheckpointIO
from genoseq.training.mixing import ExpertMixer
from genoseq.training.module import NextToken
from genoseq.trust import instantiate_trusted, is_plain

log = logging.getLogger(__name__)
_PLACES = {"tokenizer": Tokenizer, "split": Split}  # arguments of GenomeData that are objects
_PARTS = {  # of a checkpoint, with their types
    "genoseq": {
        "format": int,
        "config": {"seed": object, "data": dict, "model": dict, "optimizer": dict, "scheduler": dict | None},
        "vocabulary": dict.fromkeys(("size", "first", "num_classes", "unknown", "k", "stride"), int),
        "tokenizer": str,
        "genome": {"name": str, "sha256": str},
    },
    "state_dict": dict,
    "global_step": int,
}


def checkpoint_metadata(cfg: DictConfig, data: GenomeData) -> dict[str, Any]:
    """Return what goes into every checkpoint beside the weights: config, vocabulary, genome; plain containers only."""
    groups = {"seed", "data", "model", "optimizer", "scheduler", "mixer"}
    config = {"scheduler": None, "mixer": None} | resolved(cfg, leave_out={*map(str, cfg)} - groups)
    # a later command may run in another folder
    config |= {key: _absolute(config[key]) for key in ("data", "model")}
    config["data"]["genome"] = absolute_spec(data.spec)
    return {
        "format": 1,
        "config": config,
        "vocabulary": asdict(data.vocabulary),
        "tokenizer": type(data.tokenizer).__name__,
        "genome": {"name": data.genome.name, "bases": len(data.genome), "sha256": data.genome.sha256},
    }


def _absolute(node: Any, key: str = "") -> Any:
    """Return a config with the files and folders that it names (``file``, ``cache_dir``, ...) by their whole paths."""
    if isinstance(node, dict):
        return {k: _absolute(v, str(k)) for k, v in node.items()}
    if isinstance(node, list):
        return [_absolute(v, key) for v in node]
    is_path = isinstance(node, str) and re.fullmatch(r"(.*_)?(files?|paths?|dirs?)", key)
    return str(Path(node).expanduser().absolute()) if is_path else node


def load_checkpoint(path: str) -> dict[str, Any]:
    """Return a genoseq checkpoint, read without trusting it: tensors and plain containers only."""
    if not Path(path).is_file():
        raise UserError(f"there is no checkpoint at ckpt={path}; a run's are in its checkpoints/ folder")
    size = Path(path).stat().st_size
    try:
        with ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > size:
                raise ValueError("it is compressed, and may unfold to gigabytes")
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"ckpt={path} cannot be read as a checkpoint of tensors and plain containers") from error
    if not _has(checkpoint, _PARTS) or not (
        checkpoint["genoseq"]["format"] == 1
        and is_plain(checkpoint["genoseq"]["config"])
        and all(isinstance(name, str) for name in checkpoint["state_dict"])
        and all(_is_dense(weight) for weight in checkpoint["state_dict"].values() if torch.is_tensor(weight))
    ):
        raise UserError(f"ckpt={path} was not written by genoseq: it does not say which tokens and genome it is for")
    return checkpoint | {"bytes": size}


def _has(value: Any, kind: Any) -> bool:
    """Return whether a value is of a type, or a dict that has values of types by key."""
    if isinstance(kind, dict):
        return isinstance(value, dict) and all(key in value and _has(value[key], kind[key]) for key in kind)
    return isinstance(value, kind)


def _is_dense(tensor: Tensor) -> bool:
    return tensor.is_cpu and tensor.layout == torch.strided and not tensor.is_quantized


def restore_data(metadata: dict[str, Any], trust: Sequence[str] = (), **given: Any) -> GenomeData:
    """Build the data that a checkpoint was trained on, with some arguments given anew."""
    config = metadata["config"]["data"]
    if config.get("_target_") == f"{GenomeData.__module__}.GenomeData":
        config = {"val_bases": None, "eval_bases": None} | config  # an earlier genoseq scored all
    # folders of the machine that trained are searched where they exist, never written to
    recorded = (config.get(name) for name in ("genome_dir", "cache_dir"))
    folder = next((path for path in recorded if isinstance(path, str) and Path(path).is_dir()), None)
    return instantiate_trusted(config | {"genome_dir": folder, "cache_dir": None} | given, GenomeData, trust, _PLACES)


def restore_module(checkpoint: dict[str, Any], data: GenomeData, trust: Sequence[str] = ()) -> NextToken:
    """Build the module of a checkpoint, weights included, for scoring `data`, which must have the same tokens."""
    had, has = checkpoint["genoseq"]["vocabulary"], asdict(data.vocabulary)
    if had != has:
        raise UserError(f"the checkpoint reads other tokens ({had}) than the data has ({has})")
    net = _restore_network(checkpoint, data.vocabulary, trust)
    return NextToken(net, data.vocabulary, blocks=len(data.blocks), metadata=checkpoint["genoseq"])


def restore_mixer(checkpoint: dict[str, Any], trust: Sequence[str] = ()) -> ExpertMixer | None:
    """Build the mixer of a checkpoint, weights included; None if it has none."""
    metadata = checkpoint["genoseq"]
    if metadata.get("mixer") is None or metadata["config"].get("mixer") is None:
        return None
    mixer: ExpertMixer = instantiate_trusted(metadata["config"]["mixer"], ExpertMixer, trust)
    mixer.load(metadata["mixer"])
    return mixer


def add_mixer(path: str, checkpoint: dict[str, Any], mixer: ExpertMixer) -> None:
    """Write the file of a checkpoint again, with the weights of a mixer."""
    content = {key: value for key, value in checkpoint.items() if key != "bytes"}
    content["genoseq"] = content["genoseq"] | {"mixer": mixer.state()}
    AtomicCheckpointIO().save_checkpoint(content, path)


def _weights(checkpoint: dict[str, Any]) -> dict[str, Any]:
    return {k.removeprefix("net."): v for k, v in checkpoint["state_dict"].items() if k.startswith("net.")}


def _restore_network(checkpoint: dict[str, Any], vocabulary: Vocabulary, trust: Sequence[str]) -> nn.Module:
    """Build a network of about the file's size, and no larger; on the meta device first, which takes no memory."""
    weights, config = _weights(checkpoint), checkpoint["genoseq"]["config"]["model"]
    build = functools.partial(instantiate_trusted, config, nn.Module, trust, vocab_size=vocabulary.size)
    spare = 8 * checkpoint["bytes"]  # 8: a file may hold half precision, or tied weights once

    def count(module: nn.Module, name: str, parameter: Tensor) -> None:
        nonlocal spare
        spare -= parameter.nbytes
        if spare < 0:
            raise UserError("the checkpoint describes a larger network than it holds weights for")

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            net = build()
    except UserError as error:
        if error.__cause__ is None or config["_target_"].startswith("genoseq."):
            raise
        net = build()  # a trusted network that computes with values as it is built
    finally:
        hook.remove()
    if other := _other_weights(weights, net.state_dict()):
        raise UserError(f"the checkpoint's weights are not those of the network that it describes ({other})")
    net = build()
    net.load_state_dict(weights)
    return net


def _other_weights(had: dict[str, Any], has: dict[str, Any]) -> str | None:
    """Return the first difference in names or shapes between a file's weights and a network's."""
    one, two = ({name: tuple(getattr(v, "shape", ())) for name, v in state.items()} for state in (had, has))
    for name in [*two, *one]:
        if one.get(name) != two.get(name):
            return f"{name} is {one.get(name, 'absent')} in the file, {two.get(name, 'absent')} in the network"
    return None


def resumed_step(cfg: DictConfig, module: NextToken, folder: Path) -> int | None:
    """Return the optimizer step that ``cfg.ckpt`` resumes from, None without one.

    The tokenizer, genome and network must be the config's; other settings that differ are logged. A run whose training
    is complete resumes only in its own folder, at the test that it was stopped before.
    """
    if not cfg.ckpt:
        return None
    ckpt, checkpoint = f"ckpt={cfg.ckpt}", load_checkpoint(cfg.ckpt)
    had, has = checkpoint["genoseq"], module.metadata
    one, two = had["vocabulary"], has["vocabulary"]
    if (one, had["tokenizer"]) != (two, has["tokenizer"]):
        raise UserError(
            f"{ckpt} was trained on other tokens ({had['tokenizer']}, k={one['k']}, stride={one['stride']}) than the "
            f"config has ({has['tokenizer']}, k={two['k']}, stride={two['stride']}). Use the same data= and data.k="
        )
    if had["genome"]["sha256"] != has["genome"]["sha256"]:
        raise UserError(
            f"{ckpt} was trained on genome '{had['genome']['name']}', whose sequence is not that of "
            f"'{has['genome']['name']}'; resume on the same genome, or score another with python -m genoseq.evaluate"
        )
    old, new = flatten(had["config"]), flatten(has["config"])
    keys = {*old, *new} - {"data.genome_dir", "data.cache_dir"}
    changed = sorted(key for key in keys if old.get(key) != new.get(key))
    if network := ", ".join(f"{key}={old.get(key)}" for key in changed if key.partition(".")[0] == "model"):
        raise UserError(f"{ckpt} holds a different network (trained with {network}). Use the same model settings.")
    if other := _other_weights(_weights(checkpoint), module.net.state_dict()):
        raise UserError(f"{ckpt} holds a different network ({other}); resume with the code that trained it")
    step, last = int(checkpoint["global_step"]), int(cfg.trainer.max_steps)
    own = Path(cfg.ckpt).resolve().is_relative_to(folder.resolve()) and not (folder / "result.json").exists()
    if step > last or (step == last and not own):
        raise UserError(f"{ckpt} is at step {step:,} already; raise trainer.max_steps={last:,} to resume")
    total = old.get("scheduler.total_steps", last)
    if total != last:
        raise UserError(f"{ckpt} follows a schedule laid out for {total} steps; give trainer.max_steps={total}")
    if changed:
        log.warning("Resuming with other settings than the checkpoint's: %s.", ", ".join(changed))
    return step
