"""A run that is stopped and gone on with ends as one that never stopped, bit for bit."""

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from genoseq.report.files import read_metrics
from genoseq.training.callbacks import Checkpoints
from genoseq.training.module import NextToken

GENOME = Path(__file__).parents[1] / "data" / "files" / "hpylori_start.txt"
STEPS = 14
# validation at 4, 8, 12 and a report at 3, 6, 9, 12 and 14: between both, at a report, at a validation, at both
PLACES = (7, 9, 8, 12)
SETTINGS = (
    f"data.genome={GENOME}",
    "data.carry_tokens=0",
    f"trainer.max_steps={STEPS}",
    "trainer.val_every=4",
    "trainer.log_every_n_steps=3",
)
CASES = {
    "plain": (),
    "dropout": ("model=rnn3", "model.dropout=0.3"),
    "accumulate": ("trainer.accumulate_grad_batches=2",),
    "chain": ("data.carry_tokens=128",),
    "ema": ("callbacks=ema",),
    # a learning rate that falls at once, so that a validation missed or counted twice shows in the weights
    "plateau": ("scheduler=plateau", "scheduler.patience=0", "optimizer.lr=0.3"),
    "warmup_cosine": ("scheduler=warmup_cosine", "scheduler.warmup_steps=5"),
    "no_schedule": ("scheduler=none", "optimizer=sgd"),
    "kmer": ("data=kmer", "data.k=3", "data.stride=1"),
    "early_stopping": ("callbacks=early_stopping", "callbacks.early_stopping.patience=1", "optimizer.lr=0.5"),
    "accumulate_plateau_chain_dropout": (
        "trainer.accumulate_grad_batches=3",
        "scheduler=plateau",
        "scheduler.patience=0",
        "optimizer.lr=0.3",
        "data.carry_tokens=128",
        "model=rnn3",
        "model.dropout=0.3",
    ),
}
UNEQUAL = {"train/tokens_per_second", "seconds"}  # speeds and times


@pytest.fixture(autouse=True)
def traceback(monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")


@pytest.fixture(scope="module")
def whole(run_verb, tiny, tmp_path_factory):
    """A function from a case's name to the folder of its run without a stop, and the folders as they were on the way."""
    made = {}

    def whole(case):
        if case not in made:
            folder = tmp_path_factory.mktemp("whole") / case
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("HYDRA_FULL_ERROR", "1")
                keep_copies(patch, folder)
                assert run_verb("train", folder, *tiny, *SETTINGS, *CASES[case]).code == 0
            made[case] = folder
        return made[case]

    return whole


def keep_copies(patch, folder):
    """Make a run leave, after each validation, its folder as a process killed there would leave it."""
    done = Checkpoints.on_validation_end

    def on_validation_end(self, trainer, module):
        done(self, trainer, module)
        shutil.copytree(folder, f"{folder}_killed_at_{trainer.global_step}")

    patch.setattr(Checkpoints, "on_validation_end", on_validation_end)


def interrupt_at(patch, step):
    """Make a run get a real Ctrl-C while it takes the step."""
    take = NextToken.training_step

    def training_step(self, batch, batch_idx):
        if self.global_step == step - 1:
            os.kill(os.getpid(), signal.SIGINT)
            patch.setattr(NextToken, "training_step", take)  # once: a second Ctrl-C kills
        return take(self, batch, batch_idx)

    patch.setattr(NextToken, "training_step", training_step)


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
        return [] if Path(a).name == Path(b).name else [where]  # a path: folders differ
    return [] if a == b else [f"{where}: {a} != {b}"]


def state(saved):
    """Return all of a checkpoint but Lightning's own counts of calls and the folders' names."""
    kept = {key: value for key, value in saved.items() if key != "loops"}
    kept["callbacks"] = {
        name.split("{")[0]: {k: v for k, v in value.items() if k not in ("dirpath", "best_k_models")}
        for name, value in saved["callbacks"].items()
    }
    return kept


def rows(folder):
    """Return metrics.csv as rows of what is in them, by step."""
    table = read_metrics(folder / "metrics.csv")
    steps = table.pop("step")
    assert steps == sorted(set(steps)), "a step twice, or out of order"
    names = set(table) - UNEQUAL
    return {s: {n: table[n][i] for n in names if table[n][i] is not None} for i, s in enumerate(steps)}


def results(folder, ran):
    return {key: value for key, value in ran.json().items() if key not in UNEQUAL and not key.startswith("git/")}


def same_end(whole, folder):
    for name in ("last", "best"):
        assert differences(state(checkpoint(whole, name)), state(checkpoint(folder, name)), name) == []
    assert rows(whole) == rows(folder)


def test_the_comparison_sees_one_bit():
    a = {"w": [torch.zeros(3), {"s": 1.0}]}
    b = {"w": [torch.tensor([0.0, 0.0, 1e-45]), {"s": 1.0}]}
    assert differences(a, a) == []
    assert differences(a, b) == ["/w/0"]
    assert differences({"a": (1, 2)}, {"a": (1, 3)}) == ["/a/1: 2 != 3"]


def pairs():
    """Return each case with the steps it is stopped after."""
    few = {"plain": PLACES, "plateau": PLACES[1:], "accumulate": PLACES[1:]}
    return [(case, place) for case in CASES for place in few.get(case, (7, 12))]


@pytest.mark.parametrize(("case", "place"), pairs())
def test_stopped_and_resumed_is_never_stopped(case, place, whole, run_verb, tiny, tmp_path, monkeypatch):
    interrupt_at(monkeypatch, place)
    assert run_verb("train", tmp_path / "a", *tiny, *SETTINGS, *CASES[case]).code == 130
    assert checkpoint(tmp_path / "a")["global_step"] == place
    ckpt = f"ckpt={tmp_path}/a/checkpoints/last.ckpt"
    assert run_verb("train", tmp_path / "b", *tiny, *SETTINGS, *CASES[case], ckpt).code == 0
    same_end(whole(case), tmp_path / "b")


@pytest.mark.parametrize("case", CASES)
def test_killed_after_a_validation_and_resumed_is_never_stopped(case, whole, run_verb, tiny, tmp_path):
    killed = shutil.copytree(f"{whole(case)}_killed_at_8", tmp_path / "killed")
    ckpt = f"ckpt={killed}/checkpoints/last.ckpt"
    assert run_verb("train", tmp_path / "b", *tiny, *SETTINGS, *CASES[case], ckpt).code == 0
    same_end(whole(case), tmp_path / "b")
