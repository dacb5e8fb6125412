"""Checkpoints are whole files; signals are handled as Unix tools do; a long run is announced."""

import os
import signal
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from rich.console import Console

from genoseq.data.datamodule import GenomeData
from genoseq.data.split import ContiguousSplit
from genoseq.data.tokenizer import CharTokenizer
from genoseq.models.lstm import LSTM
from genoseq.training import progress
from genoseq.training.callbacks import EMA, AtomicCheckpointIO, Checkpoints, GracefulStop, StepMetrics
from genoseq.training.loggers import MetricsTable
from genoseq.training.module import NextToken
from genoseq.training.progress import Progress

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture
def fit(tmp_path, letters):
    """A function that trains a tiny network with callbacks and returns the columns of its metrics.csv."""
    (tmp_path / "genome.txt").write_text(letters(2000))

    def fit(*callbacks, **options):
        torch.manual_seed(0)
        tokenizer = CharTokenizer()
        data = GenomeData(str(tmp_path / "genome.txt"), CharTokenizer, ContiguousSplit(0.2, 0.1), 12, 4)
        net = LSTM(tokenizer.vocabulary.size, embed_dim=4, hidden_size=4)
        module = NextToken(net, tokenizer.vocabulary, partial(torch.optim.SGD, lr=0.1))
        settings = {"max_steps": 6, "max_epochs": -1, "val_check_interval": 3, "check_val_every_n_epoch": None}
        settings |= {"accelerator": "cpu", "num_sanity_val_steps": 0, "log_every_n_steps": 2}
        settings |= {"enable_checkpointing": False, "enable_model_summary": False, "enable_progress_bar": False}
        table = MetricsTable(tmp_path)
        trainer = Trainer(callbacks=list(callbacks), logger=table, **(settings | options))
        trainer.fit(module, data)
        return table.path.read_text().splitlines()

    return fit


def test_a_checkpoint_that_fails_half_way_leaves_the_one_before(tmp_path):
    writer, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    writer.save_checkpoint({"step": torch.tensor(1)}, path)
    with pytest.raises(Exception, match=r"pickle|local"):
        writer.save_checkpoint({"step": torch.tensor(2), "bad": lambda: None}, path)
    assert torch.load(path, weights_only=True)["step"] == 1
    writer.save_checkpoint({"step": torch.tensor(3)}, path)
    assert torch.load(path, weights_only=True)["step"] == 3
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_lightning_calls_the_graceful_stop_after_other_callbacks_wherever_it_is_listed(tmp_path):
    listed = [GracefulStop(), StepMetrics(), Checkpoints(), EMA()]
    trainer = Trainer(accelerator="cpu", logger=False, callbacks=listed, enable_progress_bar=False)
    kinds = [type(callback) for callback in trainer.callbacks]
    assert kinds.index(GracefulStop) > max(kinds.index(StepMetrics), kinds.index(EMA))


def test_the_second_signal_kills(tmp_path, monkeypatch):
    killed = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number, signal.getsignal(number))))
    before = signal.getsignal(signal.SIGINT)
    stop = GracefulStop()
    try:
        stop._receive(signal.SIGINT, None)
        stop._receive(signal.SIGTERM, None)  # the same request, passed on twice
        assert (stop.signal, killed) == (signal.SIGINT, [])
        stop._received -= 2
        stop._receive(signal.SIGINT, None)
        assert killed == [(os.getpid(), signal.SIGINT, signal.SIG_DFL)]
    finally:
        signal.signal(signal.SIGINT, before)


class Fails(Callback):
    """Ends a run with an error, after a look at who handles the signals."""

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.handlers = [signal.getsignal(number) for number in SIGNALS]
        raise ArithmeticError


def test_the_handlers_are_restored_when_a_run_fails(fit, tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process ignores it
    try:
        expected = [signal.getsignal(number) for number in SIGNALS]
        fails, stop = Fails(), GracefulStop()
        with pytest.raises(ArithmeticError):
            fit(fails, stop, enable_checkpointing=True)
        assert fails.handlers == [stop._receive] * 2
        assert [signal.getsignal(number) for number in SIGNALS] == expected
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_gradient_norm_is_that_before_clipping(fit):
    norms = {}
    for clip in (None, 1e-5):
        header, first, *_ = fit(StepMetrics(), gradient_clip_val=clip)
        norms[clip] = float(first.split(",")[header.split(",").index("train/grad_norm")])
    assert norms[1e-5] > 1e-3
    assert norms[None] == pytest.approx(norms[1e-5], rel=0.2)


def test_tokens_a_second_leave_validation_out(fit, monkeypatch):
    clock = [0.0]

    class Clock(Callback):
        """Advances the time: a second a training batch, a thousand a validation."""

        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            clock[0] += 1

        def on_validation_batch_start(self, trainer, module, batch, batch_idx, dataloader_idx=0):
            clock[0] += 1000

    monkeypatch.setattr("genoseq.training.callbacks.time.perf_counter", lambda: clock[0])
    metrics = StepMetrics()
    fit(metrics, Clock())
    assert metrics.tokens_per_second == 4 * 12


@pytest.mark.parametrize("terminal", [False, True])
def test_a_long_run_is_announced_once_with_what_shrinks_it(fit, terminal, monkeypatch, capsys):
    monkeypatch.setattr(Console, "is_terminal", terminal)
    monkeypatch.setattr(progress, "_TIMED_SECONDS", 0.0)
    for limit, times in ((0.0, 1), (1e6, 0)):
        monkeypatch.setattr(progress, "LONG_RUN", limit)
        fit(Progress(), enable_progress_bar=True)
        out = capsys.readouterr().out
        assert out.count("This run will take about") == times
        if times:
            assert "2 more steps" in out  # the first isn't timed, the next three are
            for key in ("trainer.max_steps=", "model.hidden_size=", "data.batch_size=", "data.seq_len="):
                assert key in out
        lines = [line for line in out.splitlines() if line.startswith("step ")]
        assert len(lines) == (0 if terminal else 2)
        assert terminal or ("step 6/6  train " in lines[1] and "bits/base  left 0:00:00" in lines[1])
        assert ("Training" in out) == terminal
