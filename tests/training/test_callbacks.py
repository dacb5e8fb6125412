"""What the callbacks do that no whole run shows."""

import os
import signal
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

from genoseq.files import read_metrics
from genoseq.training.callbacks import EMA, AtomicCheckpointIO, Checkpoints, GracefulStop, StepMetrics
from genoseq.training.module import NextToken

GENOME = Path(__file__).parents[1] / "data" / "files" / "hpylori_start.txt"


class Interrupted(Exception):
    """Raised in a run."""


def test_a_checkpoint_that_fails_half_way_leaves_the_one_before(tmp_path, monkeypatch):
    writer, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    writer.save_checkpoint({"step": torch.tensor(1)}, path)
    with pytest.raises(Exception, match=r"pickle|local"):
        writer.save_checkpoint({"step": torch.tensor(2), "bad": lambda: None}, path)
    assert torch.load(path, weights_only=True)["step"] == 1
    writer.save_checkpoint({"step": torch.tensor(3)}, path)
    assert torch.load(path, weights_only=True)["step"] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_lightning_calls_the_graceful_stop_after_other_callbacks_wherever_it_is_listed(tmp_path):
    listed = [GracefulStop(str(tmp_path)), StepMetrics(), Checkpoints(str(tmp_path)), EMA()]
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=listed, enable_progress_bar=False)
    kinds = [type(callback) for callback in trainer.callbacks]
    assert kinds.index(GracefulStop) > max(kinds.index(StepMetrics), kinds.index(EMA))


def test_the_second_ctrl_c_kills(tmp_path, monkeypatch):
    killed = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number, signal.getsignal(number))))
    before = signal.getsignal(signal.SIGINT)
    stop = GracefulStop(tmp_path)
    try:
        stop._receive(signal.SIGINT, None)
        stop._receive(signal.SIGTERM, None)  # the same wish, told twice at once
        assert (stop.signal, killed) == (signal.SIGINT, [])
        stop._received -= 2
        stop._receive(signal.SIGINT, None)
        assert killed == [(os.getpid(), signal.SIGINT, signal.SIG_DFL)]
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_signals_are_given_back_when_a_run_breaks(run_verb, tiny, tmp_path, monkeypatch):
    taken = []

    def training_step(self, batch, batch_idx):
        taken.extend(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM))
        raise Interrupted

    monkeypatch.setattr(NextToken, "training_step", training_step)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted):
        run_verb("train", tmp_path / "run", f"data.genome={GENOME}", *tiny)
    assert [getattr(handler, "__func__", None) for handler in taken] == [GracefulStop._receive] * 2
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_gradient_norm_is_that_before_clipping(run_verb, tiny, tmp_path):
    norms = {}
    for clip in ("null", "1e-5"):
        ran = run_verb("train", tmp_path / clip, f"data.genome={GENOME}", *tiny, f"trainer.gradient_clip_val={clip}")
        assert ran.code == 0
        norms[clip] = read_metrics(ran.folder / "metrics.csv")["train/grad_norm"][0]
    assert norms["1e-5"] > 1e-3
    assert norms["null"] == pytest.approx(norms["1e-5"], rel=0.2)
