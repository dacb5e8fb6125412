"""A run that is stopped or killed, then resumed, ends as one that never stopped, bit for bit."""

import os
import shlex
import shutil
import signal
from pathlib import Path

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from lightning.pytorch import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from genoseq.app import build, resolvers
from genoseq.app.cli import conf_dir
from genoseq.files import read_metrics
from genoseq.training.callbacks import GracefulStop

GENOME = Path(__file__).parents[1] / "data" / "files" / "hpylori_start.txt"
STEPS = 14
# validation at 4, 8, 12 and metrics at 3, 6, 9, 12; both at 14, the end
SETTINGS = (
    f"data.genome={GENOME}",
    "data.carry_tokens=0",
    f"trainer.max_steps={STEPS}",
    "trainer.val_every=4",
    "trainer.log_every_n_steps=3",
)
# halved at each validation but the first, so that one that is missed or counted twice shows in the weights
PLATEAU = ("scheduler=plateau", "scheduler.patience=0", "+scheduler.threshold=0.5", "optimizer.lr=0.3")
DROPOUT = ("model=rnn3", "model.dropout=0.3")
CASES = {
    "plain": ("logger=tensorboard",),
    "accumulate": ("trainer.accumulate_grad_batches=2",),
    "ema": ("callbacks=ema",),
    "plateau": PLATEAU,
    "warmup_cosine": ("scheduler=warmup_cosine", "scheduler.warmup_steps=5"),
    "no_schedule": ("scheduler=none", "optimizer=sgd"),
    "kmer": ("data=kmer", "data.k=3", "data.stride=1"),
    # nothing falls by a bit: stops at the third validation, if none is missed or counted twice
    "early_stopping": (
        "callbacks=early_stopping",
        "callbacks.early_stopping.patience=2",
        "+callbacks.early_stopping.min_delta=1",
    ),
    "carried_state_dropout": ("data.carry_tokens=128", *DROPOUT),
    "everything": ("data.carry_tokens=128", *DROPOUT, *PLATEAU, "trainer.accumulate_grad_batches=3"),
}
# between validations and logged metrics, at logged metrics, at a validation, at both
STOPS = [(case, 7) for case in CASES] + [
    *(("plain", step) for step in (9, 8, 12)),
    *(("accumulate", step) for step in (9, 12)),
    ("plateau", 8),
    ("carried_state_dropout", 8),  # between two segments; 7 is within one
]


class Interrupt(Callback):
    """Sends this process a signal during one step. Not SIGINT: a shell's background process ignores that."""

    def __init__(self, step, number=signal.SIGTERM):
        self.step, self.number = step, number

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == self.step - 1:
            os.kill(os.getpid(), self.number)
            self.step = 0  # once: a second signal kills


class KeepCopies(Callback):
    """Leaves, after each validation, the run's folder as a process killed at the next step would leave it."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        folder = Path(trainer.default_root_dir)
        copy = folder.with_name(f"killed_at_{trainer.global_step}")
        if trainer.global_step % 4 == 0 and (folder / "checkpoints").exists() and not copy.exists():
            shutil.copytree(folder, copy)


@pytest.fixture(scope="module")
def train(tiny):
    """A function that trains in a folder, resumes from the checkpoint that is there, and returns the trainer."""
    resolvers.register()
    configs = {}
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        for case, overrides in CASES.items():
            configs[case] = hydra.compose("train", [*tiny, *SETTINGS, *overrides])
    GlobalHydra.instance().clear()

    def train(folder, case, *callbacks):
        cfg = configs[case].copy()
        cfg.paths.output_dir = str(folder)
        last = folder / "checkpoints" / "last.ckpt"
        if cfg.logger:
            cfg.logger.tensorboard.save_dir = str(folder)
        step = checkpoint(folder)["global_step"] if last.exists() else None
        data = build.build_data(cfg.data)
        module = build.build_module(cfg, data)
        trainer = build.build_trainer(cfg, folder, build.build_loggers(cfg, folder, step))
        trainer.callbacks[:0] = callbacks
        trainer.fit(module, datamodule=data, ckpt_path=last if step else None, weights_only=True)
        return trainer

    return train


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """A function from a case to the folder of its run without a stop; beside it are those of runs that were killed."""
    folders = {}

    def whole(case):
        if case not in folders:
            folders[case] = tmp_path_factory.mktemp(case) / "whole"
            train(folders[case], case, KeepCopies())
        return folders[case]

    return whole


def checkpoint(folder, name="last"):
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def differences(a, b, where=""):
    """Return the places where two trees of containers and tensors differ, bits compared."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [where]
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return [f"{where}: {sorted(map(str, a.keys() ^ b.keys()))}"]
        return [d for key in a for d in differences(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{where}/{i}")]
    if isinstance(a, str) and isinstance(b, str) and a.endswith(".ckpt"):
        return [] if Path(a).name == Path(b).name else [where]  # folders differ
    return [] if a == b else [f"{where}: {a} != {b}"]


def state(saved):
    """Return all of a checkpoint but Lightning's own counts of calls and the folders' names."""
    kept = {key: value for key, value in saved.items() if key != "loops"}
    kept["callbacks"] = {
        name.split("{")[0]: {k: v for k, v in value.items() if k not in ("dirpath", "best_k_models", "current_score")}
        for name, value in saved["callbacks"].items()
    }
    return kept


def rows(folder):
    """Return metrics.csv as rows of what is in them, by step."""
    table = read_metrics(folder / "metrics.csv")
    steps = table.pop("step")
    assert steps == sorted(set(steps)), "a step twice, or out of order"
    names = [name for name in table if name != "train/tokens_per_second" and not name.startswith("test/")]
    return {s: {n: table[n][i] for n in names if table[n][i] is not None} for i, s in enumerate(steps)}


def assert_same_end(whole, folder):
    for name in ("last", "best"):
        assert differences(state(checkpoint(whole, name)), state(checkpoint(folder, name)), name) == []
    assert rows(whole) == rows(folder)


def test_the_comparison_sees_one_bit():
    a = {"w": [torch.zeros(3), {"s": 1.0}]}
    b = {"w": [torch.tensor([0.0, 0.0, 1e-45]), {"s": 1.0}]}
    assert differences(a, a) == []
    assert differences(a, b) == ["/w/0"]
    assert differences({"a": (1, 2)}, {"a": (1, 3)}) == ["/a/1: 2 != 3"]


@pytest.mark.parametrize(("case", "step"), STOPS)
def test_stopped_and_resumed_is_never_stopped(case, step, whole, train, tmp_path):
    stopped = train(tmp_path, case, Interrupt(step))
    assert next(c.signal for c in stopped.callbacks if isinstance(c, GracefulStop)) == signal.SIGTERM
    assert checkpoint(tmp_path)["global_step"] == step
    train(tmp_path, case)
    assert_same_end(whole(case), tmp_path)


@pytest.mark.parametrize("case", ["plain", "ema", "plateau", "early_stopping", "everything"])
def test_killed_and_resumed_is_never_stopped(case, whole, train, tmp_path):
    shutil.copytree(whole(case).with_name("killed_at_8"), tmp_path, dirs_exist_ok=True)
    assert checkpoint(tmp_path)["global_step"] == 8
    train(tmp_path, case)
    assert_same_end(whole(case), tmp_path)


def test_the_cases_are_what_they_say(whole):
    assert checkpoint(whole("plain"))["global_step"] == STEPS
    assert sorted(rows(whole("plain"))) == [3, 4, 6, 8, 9, 12, 14]
    assert checkpoint(whole("early_stopping"))["global_step"] == 12
    rates = [row["train/lr"] for row in rows(whole("plateau")).values() if "train/lr" in row]
    assert rates[-1] < rates[0] == 0.3
    # last.ckpt is written after a validation that brought no new best too
    assert checkpoint(whole("plateau"))["global_step"] == STEPS > checkpoint(whole("plateau"), "best")["global_step"]
    averaged = checkpoint(whole("ema"))
    assert differences(averaged["state_dict"], averaged["current_model_state"]) != []


def curve(folder, tag):
    """Return what TensorBoard shows under a tag: (step, value)s."""
    events = EventAccumulator(str(folder / "tb"), size_guidance={"scalars": 0}).Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_steps_after_the_checkpoint_are_not_shown_twice(whole, train, tmp_path):
    # killed at the end, but the checkpoint is that of step 8: six steps are in the files that it does not know of
    shutil.copytree(whole("plain"), tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "checkpoints")
    shutil.copytree(whole("plain").with_name("killed_at_8") / "checkpoints", tmp_path / "checkpoints")
    train(tmp_path, "plain")
    assert_same_end(whole("plain"), tmp_path)
    for tag in ("val/bits_per_base", "train/loss", "train/lr"):
        assert curve(whole("plain"), tag) == curve(tmp_path, tag) != []
    assert [step for step, _ in curve(tmp_path, "val/loss")] == [4, 8, 12, 14]


def test_a_missing_best_checkpoint_is_said_and_chosen_anew(train, tmp_path, caplog):
    train(tmp_path, "kmer", Interrupt(9))
    (tmp_path / "checkpoints" / "best.ckpt").unlink()
    trainer = train(tmp_path, "kmer")
    assert "best.ckpt" in caplog.text
    assert trainer.checkpoint_callback.best_model_path == str(tmp_path / "checkpoints" / "best.ckpt")
    assert checkpoint(tmp_path, "best")["global_step"] in (12, 14)


def test_a_test_of_the_best_checkpoint_measures_the_average(train, tmp_path):
    trainer = train(tmp_path, "ema")
    best = tmp_path / "checkpoints" / "best.ckpt"
    trainer.test(trainer.lightning_module, datamodule=trainer.datamodule, ckpt_path=best, verbose=False)
    weights = dict(trainer.lightning_module.state_dict())
    assert differences(weights, dict(checkpoint(tmp_path, "best")["state_dict"])) == []


def test_ctrl_c_in_the_last_step_lets_the_run_end(train, tmp_path, monkeypatch):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        trainer = train(tmp_path, "plain", Interrupt(STEPS, signal.SIGINT))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert trainer.global_step == STEPS
    assert next(c.signal for c in trainer.callbacks if isinstance(c, GracefulStop)) is None


def test_an_ignored_ctrl_c_stays_ignored(train, tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert train(tmp_path, "plain", Interrupt(7, signal.SIGINT)).global_step == STEPS
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_stopped_command_says_how_to_resume(run_verb, tiny, tmp_path, monkeypatch):
    genome = shutil.copy(GENOME, tmp_path / "my genome.txt")
    settings = (*tiny, *SETTINGS, f"data.genome={genome}")
    whole = run_verb("train", tmp_path / "whole", *settings)
    build_trainer = build.build_trainer

    def interrupted(*args):
        trainer = build_trainer(*args)
        trainer.callbacks.insert(0, Interrupt(5))
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(build, "build_trainer", interrupted)
        ran = run_verb("train", tmp_path / "a", *settings)
    assert ran.code == 128 + signal.SIGTERM
    assert f"files:   {ran.folder}" in ran.out  # the summary
    assert (ran.folder / "curves.png").exists() and not (ran.folder / "result.json").exists()
    command = shlex.split(ran.out.split("Resume with: python -m genoseq.train ")[1])
    again = run_verb("train", ran.folder, *(word for word in command if not word.startswith("hydra.run.dir=")))
    assert again.code == 0 and f"hydra.run.dir={ran.folder}" in command
    assert_same_end(whole.folder, ran.folder)
    measured = ("val/bits_per_base", "test/loss", "test/accuracy", "train/steps")
    assert [again.json()[name] for name in measured] == [whole.json()[name] for name in measured]


def test_another_folder_gets_the_run_so_far(run_verb, tiny, whole, tmp_path):
    ckpt = whole("plain").with_name("killed_at_8") / "checkpoints" / "last.ckpt"
    assert run_verb("train", tmp_path / "b", *tiny, *SETTINGS, f"ckpt={ckpt}").code == 0
    assert_same_end(whole("plain"), tmp_path / "b")
    refused = run_verb("train", tmp_path / "c", *tiny, *SETTINGS, f"ckpt={ckpt}", "trainer.max_steps=20")
    assert refused.code == 2 and f"trainer.max_steps={STEPS}" in refused.err
