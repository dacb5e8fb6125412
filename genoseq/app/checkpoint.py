"""Checkpoints: what is written beside the weights, how they are loaded, and whether a run may resume from one."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from genoseq.data.datamodule import GenomeData
from genoseq.errors import UserError
from genoseq.training.module import NextToken

log = logging.getLogger(__name__)
ABOUT = {"config", "vocabulary", "tokenizer", "genome"}  # what a checkpoint says of itself


def checkpoint_metadata(cfg: DictConfig, data: GenomeData) -> dict[str, Any]:
    """Return what goes into every checkpoint beside the weights: config, vocabulary, genome; plain containers only."""
    v, g = data.vocabulary, data.genome
    whole: Any = OmegaConf.to_container(cfg, resolve=True)
    config = {key: whole[key] for key in ("data", "model", "optimizer", "scheduler", "seed")}
    spec = [data.spec] if isinstance(data.spec, str) else data.spec
    # a later command may run in another folder
    config["data"]["genome"] = [str(Path(s).resolve()) if Path(s).exists() else s for s in spec]
    return {
        "format": 1,
        "config": config,
        "vocabulary": {name: getattr(v, name) for name in ("size", "first", "num_classes", "unknown", "k", "stride")},
        "tokenizer": type(data.tokenizer).__name__,
        "genome": {"name": g.name, "bases": len(g), "sha256": g.sha256},
    }


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
    about = checkpoint.get("genoseq") if isinstance(checkpoint, dict) else None
    if not isinstance(about, dict) or about.get("format") != 1 or not about.keys() >= ABOUT:
        raise UserError(f"ckpt={path} was not written by genoseq: it does not say which tokens and genome it is for")
    return checkpoint


def restore_module(checkpoint: dict[str, Any], data: GenomeData) -> NextToken:
    """Build the module of a checkpoint, weights included, for scoring `data`.

    Raises
    ------
    UserError
        If `data` has other tokens than the checkpoint, or the weights do not fit the network that it describes.
    """
    from genoseq.app.build import build_network

    about = checkpoint["genoseq"]
    has = {name: getattr(data.vocabulary, name) for name in about["vocabulary"]}
    if about["vocabulary"] != has:
        raise UserError(f"the checkpoint reads other tokens ({about['vocabulary']}) than the data has ({has})")
    net = build_network(about["config"]["model"], data.vocabulary)
    weights = {k.removeprefix("net."): v for k, v in checkpoint["state_dict"].items() if k.startswith("net.")}
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError("the checkpoint's weights do not fit the network that it describes; it is damaged") from error
    return NextToken(net, data.vocabulary, groups=len(data.genome.records), metadata=about)


def check_vocabulary(ckpt: str, about: dict[str, Any], module: NextToken) -> None:
    """Raise `UserError` if a checkpoint reads other tokens than `module`."""
    had, has = about["vocabulary"], module.metadata["vocabulary"]
    was, now = about["tokenizer"], module.metadata["tokenizer"]
    if (had, was) != (has, now):
        raise UserError(
            f"ckpt={ckpt} was trained on other tokens ({was}, k={had['k']}, stride={had['stride']}) than this "
            f"config has ({now}, k={has['k']}, stride={has['stride']}); use the same data= and data.k="
        )


def resumed_step(cfg: DictConfig, module: NextToken, folder: Path) -> int | None:
    """Return the optimizer step that ``cfg.ckpt`` goes on from, ``None`` without one.

    A run whose training is complete goes on only in its own folder, to the test that it was stopped before.

    Raises
    ------
    UserError
        If the checkpoint is of another tokeniser, network, genome or schedule, or has no steps left.
    """
    if not cfg.ckpt:
        return None
    checkpoint = load_checkpoint(cfg.ckpt)
    about, now = checkpoint["genoseq"], module.metadata
    check_vocabulary(cfg.ckpt, about, module)
    if about["genome"]["sha256"] != now["genome"]["sha256"]:
        raise UserError(
            f"ckpt={cfg.ckpt} was trained on genome '{about['genome']['name']}', whose sequence is not that of "
            f"'{now['genome']['name']}'; resume on the same genome, or score another with python -m genoseq.evaluate"
        )
    had, has = about["config"], now["config"]
    other = {k for k in {*had["model"], *has["model"]} if had["model"].get(k) != has["model"].get(k)}
    if other:
        told = ", ".join(f"model.{k}={had['model'].get(k)}" for k in sorted(other))
        raise UserError(f"ckpt={cfg.ckpt} is of another network: it was trained with {told}; give the same")
    step, last = int(checkpoint["global_step"]), int(cfg.trainer.max_steps)
    own = Path(cfg.ckpt).resolve().is_relative_to(folder.resolve()) and not (folder / "result.json").exists()
    if step > last or (step == last and not own):
        raise UserError(f"ckpt={cfg.ckpt} is at step {step:,} already; raise trainer.max_steps={last:,} to go on")
    total = (had["scheduler"] or {}).get("total_steps", last)
    if total != last:
        raise UserError(
            f"ckpt={cfg.ckpt} follows a schedule (one-cycle, warm-up and cosine) laid out for {total:,} steps; "
            f"give trainer.max_steps={total}"
        )
    changed = [
        f"{group}.{key}"
        for group in ("data", "optimizer", "scheduler")
        for key in {*(had[group] or {}), *(has[group] or {})} - {"genome_dir", "cache_dir"}
        if (had[group] or {}).get(key) != (has[group] or {}).get(key)
    ]
    changed += ["seed"] if cfg.seed != had["seed"] else []
    if changed:
        log.warning("Going on with other settings than the checkpoint's: %s.", ", ".join(sorted(changed)))
    return step
