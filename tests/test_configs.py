"""Every option of every config group composes and builds; the experiments are the report's recipes."""

import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from composed import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch.optim.lr_scheduler import LRScheduler

from genoseq.app import build, resolvers
from genoseq.app.checkpoint import checkpoint_metadata
from genoseq.app.cli import conf_dir
from genoseq.data.datamodule import GenomeData
from genoseq.data.tokenizer import CharTokenizer, KmerTokenizer

resolvers.register()
CONF = conf_dir()
FILES = Path(__file__).parent / "data" / "files"
ROOTS = sorted(path.name for path in CONF.glob("*.yaml"))

# What an option needs on the small genome below.
NEEDS = {
    "data/split": {
        "bed": ("data.split.file=parts.bed",),
        "records": ("data.split.test=[two]",),
        "blocks": ("data.split.block_size=500",),
    }
}


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


GROUPS = sorted({str(path.parent.relative_to(CONF)) for path in CONF.rglob("*.yaml")} - {".", "local"})
EACH = [(group, option) for group in GROUPS for option in options(group)]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts.bed").write_text("one\t0\t3000\ttrain\none\t3000\t4000\tval\none\t4000\t6000\ttest\n")
    text = (FILES / "hpylori_start.txt").read_text()
    (tmp_path / "one.fa").write_text(f">one\n{text}\n>two\n{text[:1000]}\n")
    GlobalHydra.instance().clear()
    yield
    GlobalHydra.instance().clear()


def checked(cfg: DictConfig) -> DictConfig:
    """Resolve everything; what is left without a value is an error."""
    OmegaConf.resolve(cfg)
    assert not OmegaConf.missing_keys(cfg)
    return cfg


def override(group: str, option: str) -> list[str]:
    return [f"{group}={option}", *NEEDS.get(group, {}).get(option, ())]


def build_all(cfg: DictConfig, *, trainer: bool) -> None:
    """Build what a run builds, on a small genome."""
    cfg.data.genome = "one.fa"
    cfg.data.seq_len = min(cfg.data.seq_len, 100)
    cfg.model.embed_dim, cfg.model.hidden_size = 8, 8  # the sizes are checked in the table below
    data = build.build_data(cfg.data)
    assert isinstance(data, GenomeData)
    data.setup("fit")
    for stage in ("train", "val", "test"):
        assert len(data.parts.of(stage))
    module = build.build_module(cfg, data)
    v = data.vocabulary
    logits, _ = module(torch.zeros(2, 5, dtype=torch.int64))
    assert logits.shape == (2, 5, v.size)
    optimizer = module._optimizer(module.net.parameters())
    assert optimizer.param_groups[0]["lr"] > 0
    if cfg.scheduler is not None:
        assert isinstance(module._scheduler(optimizer), LRScheduler)
        assert 0 < optimizer.param_groups[0]["lr"] <= cfg.optimizer.lr
    for callback in build.instantiate(cfg.callbacks).values():
        assert isinstance(callback, Callback)
    if trainer:
        built = build.build_trainer(cfg, Path.cwd(), [])
        assert isinstance(built, Trainer) and built.max_steps == cfg.trainer.max_steps


@pytest.mark.parametrize(("group", "option"), EACH, ids=[f"{g}={o}" for g, o in EACH])
def test_each_option_composes_and_builds(group: str, option: str) -> None:
    cfg = compose(*override(group, option), root="train" if group != "hydra" else "evaluate")
    if group.startswith("hydra"):
        return  # composed; test_plugins_take_their_configs builds them
    checked(cfg)
    runs_here = cfg.trainer.accelerator in ("cpu", "auto") and cfg.trainer.strategy == "auto"
    build_all(cfg, trainer=runs_here)


@pytest.mark.parametrize(("kind", "option"), [(g, o) for g, o in EACH if g.startswith("hydra/")])
def test_plugins_take_their_configs(kind: str, option: str) -> None:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("train", [f"{kind}={option}"], return_hydra_config=True)
    node = OmegaConf.to_container(OmegaConf.select(cfg, kind.replace("/", ".")), resolve=True)
    assert isinstance(node, dict)
    built = Plugins.instance().class_name_to_class[node.pop("_target_")](**node)
    assert isinstance(built, Launcher if kind == "hydra/launcher" else Sweeper)


@pytest.mark.parametrize("option", options("hparams_search"))
def test_sweeps_run_by_themselves_and_their_jobs_do_not(option: str) -> None:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        swept = hydra.compose("train", [f"hparams_search={option}"], return_hydra_config=True)
        job = hydra.compose("train", [f"hparams_search={option}", "hydra.mode=RUN"], return_hydra_config=True)
    assert (swept.hydra.mode, job.hydra.mode) == (RunMode.MULTIRUN, RunMode.RUN)
    assert swept.hydra.launcher._target_.endswith("LocalPool")


def test_the_report_s_values_are_swept() -> None:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("train", ["hparams_search=report"], return_hydra_config=True)
    assert dict(cfg.hydra.sweeper.params) == {
        "data.seq_len": "10,50,100,200",
        "optimizer.lr": "0.1,0.01,0.001",
        "model.embed_dim": "32,128,512",
    }


@pytest.mark.parametrize("seq_len", [10, 50, 100, 200])
def test_a_sweep_over_windows_reads_as_many_tokens_each(seq_len: int) -> None:
    cfg = checked(compose("experiment=sweep", f"data.seq_len={seq_len}"))
    read = cfg.trainer.max_steps * cfg.data.batch_size * seq_len
    assert cfg.scheduler.total_steps == cfg.trainer.max_steps
    assert abs(read - cfg.tokens) <= cfg.data.batch_size * seq_len / 2


@pytest.mark.parametrize(("data", "split"), product(("char", "kmer"), options("data/split")))
def test_data_by_split(data: str, split: str) -> None:
    build_all(checked(compose(f"data={data}", *override("data/split", split))), trainer=False)


def test_several_callbacks_drop_no_default() -> None:
    defaults = set(compose().callbacks)
    assert defaults == {"checkpoints", "step_metrics", "progress", "graceful_stop"}
    assert set(compose("callbacks=[ema,early_stopping]").callbacks) == defaults | {"ema", "early_stopping"}
    assert set(compose("callbacks=ema").callbacks) == defaults | {"ema"}


def test_a_machine_s_own_settings(tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "default.yaml").write_text("# @package _global_\npaths:\n  outputs: /scratch\n")
    cfg = compose(f"hydra.searchpath=[file://{tmp_path}]")
    assert cfg.paths.outputs == "/scratch" and cfg.sweep.dir.startswith("/scratch/sweeps/")


def test_evaluate_composes() -> None:
    cfg = compose("ckpt=best.ckpt", root="evaluate")
    checked(cfg)
    assert set(cfg) == {"ckpt", "data", "trainer", "mixer", "baseline", "sweep", "paths", "trust"}
    assert OmegaConf.missing_keys(compose(root="evaluate")) == {"ckpt"}


def test_score_composes() -> None:
    checked(compose("ckpt=[a.ckpt,b.ckpt]", "variants=calls.vcf", root="score"))
    assert OmegaConf.missing_keys(compose(root="score")) == {"ckpt", "variants"}


@pytest.mark.parametrize("verb", ["embed", "sample"])
def test_embed_and_sample_compose(verb: str) -> None:
    checked(compose("ckpt=a.ckpt", root=verb))
    assert OmegaConf.missing_keys(compose(root=verb)) == {"ckpt"}


def test_loggers_build_or_say_what_to_install() -> None:
    made = build.instantiate(checked(compose("logger=tensorboard")).logger.tensorboard)
    assert isinstance(made, Logger) and Path(made.log_dir).parent == Path.cwd()
    assert not checked(compose("logger=none")).logger


# ---- what the defaults promise --------------------------------------------------------------------------------------


def test_the_bare_command_is_the_demo() -> None:
    cfg = checked(compose())
    assert cfg.scale == "demo" and cfg.data.genome == "hpylori" and cfg.data.split._target_.endswith("ContiguousSplit")
    assert cfg.data.split.test == 0.2 and cfg.seed == 0 and cfg.ckpt is None and cfg.baseline is True
    assert cfg.trainer.precision == "auto"


def test_every_stable_name_can_be_overridden() -> None:
    given = {
        "data.genome": "x.fa",
        "data.seq_len": 77,
        "data.batch_size": 3,
        "data.k": 5,
        "data.stride": 2,
        "data.reverse_complement": False,
        "model.embed_dim": 9,
        "model.hidden_size": 11,
        "model.num_layers": 2,
        "model.dropout": 0.25,
        "optimizer.lr": 0.125,
        "trainer.max_steps": 17,
        "trainer.precision": "64-true",
        "trainer.devices": 2,
        "trainer.strategy": "ddp",
        "seed": 13,
        "ckpt": "x.ckpt",
    }
    cfg = checked(compose("data=kmer", *(f"{name}={value}" for name, value in given.items())))
    assert {name: OmegaConf.select(cfg, name) for name in given} == given
    # and what follows from them follows
    assert cfg.data.seed == 13
    assert cfg.scheduler.max_lr == 0.125 and cfg.scheduler.total_steps == 17


@pytest.mark.parametrize("name", options("scheduler"))
def test_schedules_over_a_run(name: str) -> None:
    cfg = checked(compose(f"scheduler={name}", "optimizer=sgd", "optimizer.lr=0.5", "trainer.max_steps=300"))
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = build.instantiate(cfg.optimizer)([weight])
    if cfg.scheduler is None:
        assert name == "none"
        return
    scheduler = build.instantiate(cfg.scheduler)(optimizer)
    rates = []
    for _ in range(300):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(1.0) if name == "plateau" else scheduler.step()
    highest = max(rates)
    assert highest == pytest.approx(0.5, rel=1e-3)
    if name in ("onecycle", "warmup_cosine"):
        assert rates[0] < 0.1 * highest and rates[-1] < 0.01 * highest and rates.index(highest) in range(85, 105)
    else:  # plateau: the value never falls
        assert rates[:5] == [0.5] * 5 and rates[-1] < 0.01


# ---- the report's recipes -------------------------------------------------------------------------------------------

REPORT: dict[str, dict[str, Any]] = {
    "model1": {
        "embed_dim": 128,
        "hidden_size": 1024,
        "num_layers": 1,
        "dropout": 0.0,
        "lr": 0.001,
        "batch_size": 512,
        "max_steps": 10_000,
        "tokenizer": CharTokenizer,
        "num_classes": 4,
        "parameters": 5 * 128 + 4 * 1024 * (128 + 1024 + 2) + 5 * 1025,
    },
    "model2": {
        "embed_dim": 512,
        "hidden_size": 1024,
        "num_layers": 1,
        "dropout": 0.0,
        "lr": 0.001,
        "batch_size": 512,
        "max_steps": 15_000,
        "tokenizer": KmerTokenizer,
        "num_classes": 256,
        "parameters": 257 * 512 + 4 * 1024 * (512 + 1024 + 2) + 257 * 1025,
    },
    "model3": {
        "embed_dim": 512,
        "hidden_size": 1024,
        "num_layers": 3,
        "dropout": 0.5,
        "lr": 0.01,
        "batch_size": 256,
        "max_steps": 1_000,
        "tokenizer": KmerTokenizer,
        "num_classes": 256,
        "parameters": 257 * 512 + 4 * 1024 * (512 + 1024 + 2) + 2 * 4 * 1024 * (2 * 1024 + 2) + 257 * 1025,
    },
}


@pytest.mark.parametrize("name", REPORT)
def test_experiments_are_the_report_s(name: str) -> None:
    want = REPORT[name]
    cfg = checked(compose(f"experiment={name}"))
    for key in ("embed_dim", "hidden_size", "num_layers", "dropout"):
        assert cfg.model[key] == want[key], key
    assert cfg.optimizer._target_ == "torch.optim.Adam" and cfg.optimizer.lr == want["lr"]
    assert cfg.data.batch_size == want["batch_size"] and cfg.data.seq_len == 200
    assert cfg.trainer.max_steps == want["max_steps"]
    assert cfg.trainer.gradient_clip_val is None and cfg.trainer.accumulate_grad_batches == 1
    assert cfg.data.split._target_ == "genoseq.data.split.RandomWindowsSplit" and cfg.data.split.test == 0.2
    # zero initial state for each window, one strand, PyTorch's own first biases, one learning rate throughout
    assert not cfg.data.carry_tokens and not cfg.data.reverse_complement and cfg.model.forget_bias == 0
    assert cfg.scheduler is None
    assert cfg.scale == "report"
    tokenizer = build.instantiate(cfg.data.tokenizer)(k=cfg.data.k, stride=cfg.data.stride)
    v = tokenizer.vocabulary
    assert isinstance(tokenizer, want["tokenizer"]) and v.num_classes == want["num_classes"] and v.stride == 1
    assert v.k == round(math.log(want["num_classes"], 4))
    with torch.device("meta"):  # shapes without memory
        net = build.build_network(cfg.model, v)
    assert sum(p.numel() for p in net.parameters()) == want["parameters"]
    lstm = next(m for m in net.modules() if isinstance(m, torch.nn.LSTM))
    assert (lstm.num_layers, lstm.dropout, lstm.batch_first) == (want["num_layers"], want["dropout"], True)


def test_an_experiment_s_figures_can_be_overridden() -> None:
    cfg = checked(compose("experiment=model3", "trainer.max_steps=5", "model.hidden_size=32", "data/split=contiguous"))
    assert (cfg.trainer.max_steps, cfg.model.hidden_size, cfg.model.num_layers) == (5, 32, 3)
    assert cfg.data.split._target_.endswith("ContiguousSplit")


def test_checkpoints_config_is_plain() -> None:
    cfg = checked(compose("data.genome=one.fa", "model.hidden_size=8", "model.embed_dim=8"))
    metadata = checkpoint_metadata(cfg, build.build_data(cfg.data))

    def kinds(node: Any) -> set[type]:
        if isinstance(node, dict):
            return {dict}.union(*(kinds(value) for value in node.values()))
        return {list}.union(*(kinds(value) for value in node)) if isinstance(node, list) else {type(node)}

    assert kinds(metadata) <= {dict, list, str, int, float, bool, type(None)}
    assert metadata["config"]["data"]["genome"] == [str(Path("one.fa").resolve())]


PRESETS = [(group, name) for group in ("experiment", "hparams_search") for name in options(group) if name != "record"]


@pytest.mark.parametrize(("group", "name"), PRESETS)
def test_only_the_bare_command_mixes(group: str, name: str) -> None:
    assert compose(f"{group}={name}").mixer is None
    assert compose().mixer._target_ == "genoseq.training.mixing.ExpertMixer"
