"""Checkpoints: what is written beside the weights, how they are loaded, and whether a run may resume from one."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from genoseq.data.datamodule import GenomeData
from genoseq.data.sources import absolute_spec
from genoseq.data.split import Split
from genoseq.data.tokenizer import Tokenizer, Vocabulary
from genoseq.errors import UserError
from genoseq.training.module import NextToken
from genoseq.trust import instantiate_trusted

log = logging.getLogger(__name__)
_TOKENS = ("size", "first", "num_classes", "unknown", "k", "stride")  # of a vocabulary
_PLACES = {"tokenizer": Tokenizer, "split": Split}  # arguments of GenomeData that are objects


def checkpoint_metadata(cfg: DictConfig, data: GenomeData) -> dict[str, Any]:
    """Return what goes into every checkpoint beside the weights: config, vocabulary, genome; plain containers only."""
    config: dict[str, Any] = {"seed": cfg.seed, "scheduler": None}
    for key in ("data", "model", "optimizer", "scheduler"):
        config |= {key: OmegaConf.to_container(cfg[key], resolve=True)} if cfg.get(key) is not None else {}
    # a later command may run in another folder
    config |= {key: _absolute(config[key]) for key in ("data", "model")}
    config["data"]["genome"] = absolute_spec(data.spec)
    return {
        "format": 1,
        "config": config,
        "vocabulary": {name: getattr(data.vocabulary, name) for name in _TOKENS},
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
    """Return a genoseq checkpoint, read without trusting it (plain tensors and containers only).

    Raises
    ------
    UserError
        If the file is missing, damaged, or not one that genoseq wrote.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"there is no checkpoint at ckpt={path}; a run's are in its checkpoints/ folder")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the sentence below says it
            checkpoint: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"ckpt={path} cannot be read as a checkpoint of tensors and plain containers") from error
    if not isinstance(checkpoint, dict) or not _is_complete(checkpoint):
        raise UserError(f"ckpt={path} was not written by genoseq: it does not say which tokens and genome it is for")
    return checkpoint


def _is_complete(checkpoint: dict[str, Any]) -> bool:
    """Return whether a file has the parts of a checkpoint that are read here, each of its type."""
    try:
        metadata, weights = checkpoint["genoseq"], checkpoint["state_dict"]
        config, genome = metadata["config"], metadata["genome"]
        tensors = [weight for weight in weights.values() if isinstance(weight, Tensor)]
        return bool(
            metadata["format"] == 1
            and all(isinstance(config[group], dict) for group in ("data", "model", "optimizer"))
            and isinstance(config["scheduler"], dict | None)
            and "seed" in config
            and all(isinstance(metadata["vocabulary"][name], int) for name in _TOKENS)
            and isinstance(metadata["tokenizer"], str)
            and all(isinstance(genome[name], str) for name in ("name", "sha256"))
            and isinstance(checkpoint["global_step"], int)
            and all(isinstance(name, str) for name in weights)
            and all(tensor.layout == torch.strided and tensor.device.type == "cpu" for tensor in tensors)
        )
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RuntimeError):  # a part of another type
        return False


def restore_data(metadata: dict[str, Any], trust: Sequence[str] = (), **given: Any) -> GenomeData:
    """Build the data that a checkpoint was trained on, with some arguments given anew.

    Raises
    ------
    UserError
        If the checkpoint names a class that is not trusted, or its arguments are refused.
    """
    config = metadata["config"]["data"]
    # folders of the machine that trained are searched where they exist, never written to
    recorded = [config.get(name) for name in ("genome_dir", "cache_dir")]
    folder = next((path for path in recorded if isinstance(path, str) and Path(path).is_dir()), None)
    given = {"genome_dir": folder, "cache_dir": None} | given
    return instantiate_trusted(config | given, GenomeData, trust, _PLACES)


def restore_module(checkpoint: dict[str, Any], data: GenomeData, trust: Sequence[str] = ()) -> NextToken:
    """Build the module of a checkpoint, weights included, for scoring `data`.

    Raises
    ------
    UserError
        If `data` has other tokens than the checkpoint, the network's class is not trusted, or the weights are not those
        of the network that the checkpoint describes.
    """
    metadata = checkpoint["genoseq"]
    had, has = ({name: v[name] for name in _TOKENS} for v in (metadata["vocabulary"], asdict(data.vocabulary)))
    if had != has:
        raise UserError(f"the checkpoint reads other tokens ({had}) than the data has ({has})")
    net = _restore_network(metadata["config"]["model"], _weights(checkpoint), data.vocabulary, trust)
    return NextToken(net, data.vocabulary, groups=len(data.genome.records), metadata=metadata)


def _weights(checkpoint: dict[str, Any]) -> dict[str, Any]:
    return {k.removeprefix("net."): v for k, v in checkpoint["state_dict"].items() if k.startswith("net.")}


def _restore_network(
    node: dict[str, Any], weights: dict[str, Any], vocabulary: Vocabulary, trust: Sequence[str]
) -> nn.Module:
    """Build a network from weights that are known to be its own before memory is taken for them."""

    def build() -> nn.Module:
        return instantiate_trusted(node, nn.Module, trust, vocab_size=vocabulary.size)

    spare = iter(range(4 * len(weights) + 100))  # a parameter may be registered twice, as in weight_norm

    def count(*_: Any) -> None:
        if next(spare, None) is None:
            raise UserError("the checkpoint describes a network of more parameters than it holds")

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            described = build().state_dict(keep_vars=True)
    except UserError as error:
        if error.__cause__ is None or str(node["_target_"]).startswith("genoseq."):
            raise
        log.warning("The size of %s is not checked before it is built: %s.", node["_target_"], error)
        described = build().state_dict(keep_vars=True)
    finally:
        hook.remove()
    if other := _other_weights(weights, described):
        raise UserError(f"the checkpoint's weights are not those of the network that it describes ({other})")
    # a view of a small storage can have any shape
    storages = {v.untyped_storage()._cdata: v.untyped_storage() for v in weights.values() if isinstance(v, Tensor)}
    held = sum(storage.nbytes() for storage in storages.values())
    needed = sum(v.nbytes for v in {id(v): v for v in described.values() if isinstance(v, Tensor)}.values())
    if needed > 8 * held:  # 8: a file may hold shorter numbers, or tied weights once
        raise UserError(f"the checkpoint describes a network of {needed:,} bytes and holds {held:,}")
    net = build()
    net.load_state_dict(weights)
    return net


def _other_weights(had: dict[str, Any], has: dict[str, Any]) -> str | None:
    """Return the first difference in names or shapes between a file's weights and a network's."""
    for name in dict.fromkeys([*has, *had]):
        one, two = (str(tuple(getattr(state[name], "shape", ()))) if name in state else "" for state in (had, has))
        if one != two:
            return f"{name} is {one or 'absent'} in the file, {two or 'absent'} in the network"
    return None


def resumed_step(cfg: DictConfig, module: NextToken, folder: Path) -> int | None:
    """Return the optimizer step that ``cfg.ckpt`` resumes from, None without one.

    A run whose training is complete resumes only in its own folder, at the test that it was stopped before.

    Raises
    ------
    UserError
        If the checkpoint has another tokenizer, network, genome or schedule than the config, or no steps left.
    """
    if not cfg.ckpt:
        return None
    checkpoint = load_checkpoint(cfg.ckpt)
    _check_same(cfg.ckpt, checkpoint, module)
    had, has = checkpoint["genoseq"]["config"], module.metadata["config"]
    step, last = int(checkpoint["global_step"]), int(cfg.trainer.max_steps)
    own = Path(cfg.ckpt).resolve().is_relative_to(folder.resolve()) and not (folder / "result.json").exists()
    if step > last or (step == last and not own):
        raise UserError(f"ckpt={cfg.ckpt} is at step {step:,} already; raise trainer.max_steps={last:,} to resume")
    total = (had["scheduler"] or {}).get("total_steps", last)
    if total != last:
        raise UserError(
            f"ckpt={cfg.ckpt} follows a schedule (one-cycle, warm-up and cosine) laid out for {total:,} steps; "
            f"give trainer.max_steps={total}"
        )
    changed = [
        f"{group}.{key}"
        for group in ("data", "optimizer", "scheduler")
        for key in _changed(had[group] or {}, has[group] or {})
        if key not in ("genome_dir", "cache_dir")
    ]
    changed += ["seed"] if cfg.seed != had["seed"] else []
    if changed:
        log.warning("Resuming with other settings than the checkpoint's: %s.", ", ".join(sorted(changed)))
    return step


def _check_same(ckpt: str, checkpoint: dict[str, Any], module: NextToken) -> None:
    """Check that a checkpoint matches the configured network, tokenizer and genome."""
    had, has = checkpoint["genoseq"], module.metadata
    one, two = had["vocabulary"], has["vocabulary"]
    if (one, had["tokenizer"]) != (two, has["tokenizer"]):
        raise UserError(
            f"ckpt={ckpt} was trained on other tokens ({had['tokenizer']}, k={one['k']}, stride={one['stride']}) than "
            f"the config has ({has['tokenizer']}, k={two['k']}, stride={two['stride']}). Use the same data= and data.k="
        )
    if had["genome"]["sha256"] != has["genome"]["sha256"]:
        raise UserError(
            f"ckpt={ckpt} was trained on genome '{had['genome']['name']}', whose sequence is not that of "
            f"'{has['genome']['name']}'; resume on the same genome, or score another with python -m genoseq.evaluate"
        )
    model = had["config"]["model"]
    if changed := _changed(model, has["config"]["model"]):
        told = ", ".join(f"model.{key}={model.get(key)}" for key in changed)
        raise UserError(
            f"ckpt={ckpt} holds a different network (trained with {told}). Use the same model settings to resume."
        )
    if other := _other_weights(_weights(checkpoint), module.net.state_dict()):
        raise UserError(f"ckpt={ckpt} holds a different network ({other}); resume with the code that it was trained by")


def _changed(had: dict[str, Any], has: dict[str, Any]) -> list[str]:
    return sorted(key for key in {*had, *has} if had.get(key) != has.get(key))
