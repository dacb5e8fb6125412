"""Build the data, module, loggers and trainer that a composed config describes."""

from __future__ import annotations

import atexit
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra.utils
import torch
from hydra.errors import InstantiationException
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from genoseq.app.checkpoint import checkpoint_metadata
from genoseq.app.runtime import quiet_libraries
from genoseq.data.datamodule import GenomeData
from genoseq.data.tokenizer import Vocabulary
from genoseq.errors import UserError, user_mistakes
from genoseq.sweeps.process import LIMIT
from genoseq.training.callbacks import AtomicCheckpointIO
from genoseq.training.loggers import MetricsTable
from genoseq.training.mixing import ExpertMixer
from genoseq.training.module import NextToken
from genoseq.training.progress import Progress

log = logging.getLogger(__name__)


def plain(cfg: Any) -> Any:
    """Return a config as plain containers, interpolations resolved."""
    return OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else cfg


def instantiate(node: Any, kind: type = object, **extra: Any) -> Any:
    """Build what the user's own config describes, as Hydra does: any ``_target_`` that Python can import.

    What a checkpoint names goes through `genoseq.trust` instead.

    Raises
    ------
    UserError
        If the class cannot be imported or refuses its arguments, or if what it gives is not a `kind`.
    """
    node = plain(node)
    try:
        built = hydra.utils.instantiate(node, _convert_="all", **extra)
    except InstantiationException as error:
        cause = error.__cause__ or error
        if "HYDRA_FULL_ERROR" in os.environ:
            raise
        if isinstance(cause, UserError):
            raise UserError(str(cause)) from error
        target, reason = re.search(r"'([\w.]+)'", str(error)), " ".join(str(cause).split()).rstrip(".")
        raise UserError(
            f"{target[1] if target else 'an object'} cannot be built as the config says: {reason} "
            "(HYDRA_FULL_ERROR=1 shows where)"
        ) from cause
    if not isinstance(built, kind):
        target = node.get("_target_") if isinstance(node, dict) else node
        raise UserError(f"'{target}' gives a {type(built).__name__}, but a {kind.__name__} is needed here")
    return built


def build_data(cfg: Any) -> GenomeData:
    """Build the DataModule of a config's ``data`` node."""
    data: GenomeData = instantiate(cfg, GenomeData)
    return data


def build_mixer(cfg: Any) -> ExpertMixer | None:
    """Build the mixer of a config's ``mixer`` node, None for an empty one."""
    if isinstance(cfg, str):
        raise UserError(f"mixer must be experts or none, got {cfg}")
    mixer: ExpertMixer | None = instantiate(cfg, ExpertMixer) if cfg else None
    return mixer


def build_network(cfg: Any, vocabulary: Vocabulary) -> torch.nn.Module:
    """Build the network of a config's ``model`` node for a vocabulary."""
    network: torch.nn.Module = instantiate(cfg, torch.nn.Module, vocab_size=vocabulary.size)
    return network


def build_module(cfg: DictConfig, data: GenomeData) -> NextToken:
    """Build the LightningModule; the network's first weights are a function of ``seed``."""
    torch.manual_seed(cfg.seed)
    net = build_network(cfg.model, data.vocabulary)
    return NextToken(
        net,
        data.vocabulary,
        optimizer=instantiate(cfg.optimizer),
        scheduler=instantiate(cfg.get("scheduler")),
        seed=cfg.seed,
        has_unknown=bool(data.genome.unknown),
        blocks=len(data.blocks),
        compile=cfg.compile,
        metadata=checkpoint_metadata(cfg, data),
    )


MACS_A_THREAD = 32_000_000
"""Multiply-adds of one token of each row that are worth a CPU thread."""


@contextmanager
def few_threads(net: torch.nn.Module, rows: int) -> Iterator[None]:
    """Give a small network fewer CPU threads, by its size alone, unless ``OMP_NUM_THREADS`` says how many.

    The threads of a recurrent network wait for each other at every token. Where there is little to do in between they
    buy nothing, and beside another busy process they cost most of the speed.
    """
    threads = torch.get_num_threads()
    chosen = "OMP_NUM_THREADS" in os.environ and LIMIT not in os.environ
    if not chosen and any(isinstance(module, torch.nn.RNNBase) for module in net.modules()):
        macs = rows * sum(p.numel() for p in net.parameters())
        torch.set_num_threads(max(1, min(threads, macs // MACS_A_THREAD)))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def precision(wanted: str, accelerator: str) -> str:
    """Return what ``trainer.precision`` means here: ``auto`` is bf16 where the hardware has it, else 32 bits."""
    if wanted != "auto":
        return wanted
    if accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    # oneDNN refuses to train an LSTM in bf16 on a CPU without the instructions
    supported = accelerator in ("cpu", "auto") and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bf16-mixed" if supported else "32-true"


def trainer_options(cfg: Any) -> dict[str, Any]:
    """Return a config's ``trainer`` node, ``_target_`` included, with its precision chosen and our defaults."""
    quiet_libraries()
    atexit.register(_leave_process_group)
    options = plain(cfg)
    options["precision"] = precision(str(options.get("precision", "auto")), str(options.get("accelerator", "auto")))
    return {
        "use_distributed_sampler": False,
        "enable_model_summary": False,
        "enable_progress_bar": Console().is_terminal,
        **options,
    }


def _leave_process_group() -> None:
    """Leave the ranks' group: a process that ends in one of gloo's may abort. Lightning leaves only NCCL's itself."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def instantiate_trainer(options: dict[str, Any], **ours: Any) -> Trainer:
    """Build the Trainer of `trainer_options` with objects of ours, which no config can hold."""
    trainer: Trainer = instantiate(options | {"_partial_": True})(**ours)
    return trainer


def check_steps(cfg: Any) -> None:
    """Raise `UserError` if a number of steps in a config's ``trainer`` node cannot be one."""
    for key in ("max_steps", "log_every_n_steps", "accumulate_grad_batches"):
        if not isinstance(value := cfg.get(key, 1), int) or value < 1:
            raise UserError(f"trainer.{key} must be a whole number of 1 or more, got {value}")
    if not isinstance(every := cfg.get("val_every", 1), (int, float)) or every <= 0:
        raise UserError(f"trainer.val_every must be a number of steps or a share of them, got {every}")


def build_trainer(cfg: DictConfig, folder: Path, loggers: list[Logger]) -> Trainer:
    """Build the Trainer of a config, counted in optimizer steps."""
    options = trainer_options(cfg.trainer)
    steps, every = int(options["max_steps"]), options.pop("val_every")
    interval = max(1, round(every * steps) if isinstance(every, float) and every <= 1 else int(every))
    callbacks = list(instantiate(cfg.get("callbacks") or {}).values())
    # Progress prints lines where there is no terminal
    options["enable_progress_bar"] |= any(isinstance(callback, Progress) for callback in callbacks)
    options["log_every_n_steps"] = min(options["log_every_n_steps"], steps)
    with user_mistakes("the trainer"):
        return instantiate_trainer(
            options,
            max_epochs=-1,
            val_check_interval=min(interval, steps) * options["accumulate_grad_batches"],
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            default_root_dir=folder,
            logger=loggers,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO(), *_slurm()],
        )


def _slurm() -> list[SLURMEnvironment]:
    """Return SLURM's ranks where it gives them, without Lightning's own way to queue a job again: our launcher does."""
    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return []
    return [SLURMEnvironment(auto_requeue=False)]


def build_loggers(cfg: DictConfig, folder: Path, resumed_step: int | None) -> list[Logger]:
    """Build metrics.csv's logger and those of the config.

    A resumed run's metrics.csv keeps the rows up to `resumed_step`. TensorBoard drops the points after it, or,
    where a run starts over in its folder, all points.
    """
    loggers: list[Logger] = [MetricsTable(folder, resumed_step)]
    for name, node in (plain(cfg.get("logger")) or {}).items():
        if node is None:
            continue
        if node["_target_"].endswith("TensorBoardLogger"):
            node = node | {"purge_step": 0 if resumed_step is None else resumed_step + 1}
        try:
            loggers.append(instantiate(node))
        except UserError as error:
            if not isinstance(error.__cause__, ModuleNotFoundError):
                raise
            raise UserError(f"logger={name} needs a package that is missing: pip install 'genoseq[{name}]'") from error
    return loggers
