"""A run that is stopped and gone on with ends as one that never stopped, bit for bit."""

import json
import os
import shlex
import shutil
import signal
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from genoseq.files import read_metrics
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
    # halved at each validation but the first, so that one that is missed or counted twice shows in the weights
    "plateau": ("scheduler=plateau", "scheduler.patience=0", "+scheduler.threshold=0.5", "optimizer.lr=0.3"),
    "warmup_cosine": ("scheduler=warmup_cosine", "scheduler.warmup_steps=5"),
    "no_schedule": ("scheduler=none", "optimizer=sgd"),
    "kmer": ("data=kmer", "data.k=3", "data.stride=1"),
    # nothing falls by a bit: stops at the third validation, if none is missed or counted twice
    "early_stopping": (
        "callbacks=early_stopping",
        "callbacks.early_stopping.patience=2",
        "+callbacks.early_stopping.min_delta=1",
    ),
    "accumulate_plateau_chain_dropout": (
        "trainer.accumulate_grad_batches=3",
        "scheduler=plateau",
        "scheduler.patience=0",
        "+scheduler.threshold=0.5",
        "optimizer.lr=0.3",
        "data.carry_tokens=128",
        "model=rnn3",
        "model.dropout=0.3",
    ),
}
UNEQUAL = {"train/tokens_per_second", "seconds"}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # what this small needs no more
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def run(run_verb, tiny):
    """A function from a folder and overrides to how that training ended; `overrides` replaces the settings of here."""

    def run(folder, *extra, overrides=None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HYDRA_FULL_ERROR", "1")
            return run_verb("train", folder, *((*tiny, *SETTINGS, *extra) if overrides is None else overrides))

    return run


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """A function from a case's name to the folder of its run without a stop; beside it, as a kill leaves it."""
    made = {}

    def whole(case):
        if case not in made:
            folder = tmp_path_factory.mktemp("whole") / case
            with pytest.MonkeyPatch.context() as patch:
                keep_copies(patch, folder)
                assert run(folder, *CASES[case]).code == 0
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
        name.split("{")[0]: {k: v for k, v in value.items() if k not in ("dirpath", "best_k_models", "current_score")}
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


STOPS = [(case, 7) for case in CASES] + [
    *(("plain", place) for place in PLACES[1:]),
    *(("accumulate", place) for place in (9, 12)),
    ("plateau", 8),
]


@pytest.mark.parametrize(("case", "place"), STOPS)
def test_stopped_and_resumed_is_never_stopped(case, place, whole, run, tmp_path, monkeypatch):
    interrupt_at(monkeypatch, place)
    assert run(tmp_path / "a", *CASES[case]).code == 130
    assert checkpoint(tmp_path / "a")["global_step"] == place
    assert run(tmp_path / "b", *CASES[case], f"ckpt={tmp_path}/a/checkpoints/last.ckpt").code == 0
    same_end(whole(case), tmp_path / "b")


@pytest.mark.parametrize("case", ["plain", "ema", "plateau", "early_stopping", "accumulate_plateau_chain_dropout"])
def test_killed_after_a_validation_and_resumed_is_never_stopped(case, whole, run, tmp_path):
    whole(case)
    assert run(tmp_path / "b", *CASES[case], f"ckpt={whole(case)}_killed_at_8/checkpoints/last.ckpt").code == 0
    same_end(whole(case), tmp_path / "b")


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


def test_resumed_in_its_own_folder_after_a_kill_leaves_no_step_twice(run, tmp_path, monkeypatch):
    first, again = tmp_path / "first", tmp_path / "again"
    with monkeypatch.context() as patch:
        keep_copies(patch, first)
        assert run(first, "logger=tensorboard").code == 0
    # killed at the end, but the checkpoint is that of step 8: six steps are in the files that it does not know of
    shutil.copytree(first, again)
    for left in ("result.json", "curves.png", "checkpoints"):
        shutil.rmtree(again / left) if (again / left).is_dir() else (again / left).unlink()
    shutil.copytree(f"{first}_killed_at_8/checkpoints", again / "checkpoints")
    ran = run(again, "logger=tensorboard", f"ckpt={again}/checkpoints/last.ckpt")
    assert ran.code == 0
    same_end(first, again)
    assert figures(first) == figures(again)
    for tag in ("val/bits_per_base", "train/loss", "train/lr", "test/loss"):
        assert curve(first, tag) == curve(again, tag) != []
    assert [step for step, _ in curve(again, "val/loss")] == [4, 8, 12, 14]


def figures(folder):
    """Return result.json but for speeds and times."""
    result = json.loads((folder / "result.json").read_text())
    return {key: value for key, value in result.items() if key not in UNEQUAL and not key.startswith("git/")}


def test_ctrl_c_says_how_to_go_on(whole, run, tmp_path, monkeypatch):
    genome = shutil.copy(GENOME, tmp_path / "my genome.txt")
    here = f"data.genome={genome}"
    interrupt_at(monkeypatch, 5)
    ran = run(tmp_path / "a", here)
    for name, step in (("b", 10), ("c", None)):
        assert ran.code == 130
        assert f"files:   {ran.folder}" in ran.out  # the summary
        assert not (ran.folder / "result.json").exists()
        assert (ran.folder / "curves.png").exists()
        told = ran.out.split("Go on with: python -m genoseq.train ")[1]
        if step:
            interrupt_at(monkeypatch, step)
        ran = run(tmp_path / name, overrides=shlex.split(told))
    assert ran.code == 0
    for name in ("last", "best"):
        saved = state(checkpoint(ran.folder, name)), state(checkpoint(whole("plain"), name))
        assert all(s["genoseq"].pop("config") and s["genoseq"].pop("genome") for s in saved)  # where the genome lies
        assert differences(*saved) == []
    assert rows(ran.folder) == rows(whole("plain"))


def test_ctrl_c_in_the_last_step_lets_the_run_end(run, tmp_path, monkeypatch):
    interrupt_at(monkeypatch, STEPS)
    ran = run(tmp_path / "a")
    assert ran.code == 0
    assert ran.json()["train/steps"] == STEPS
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_schedule_of_another_length_is_refused(whole, run, tmp_path):
    whole("plain")
    ran = run(tmp_path / "b", f"ckpt={whole('plain')}_killed_at_8/checkpoints/last.ckpt", "trainer.max_steps=20")
    assert ran.code == 2
    assert "trainer.max_steps=14" in ran.err
