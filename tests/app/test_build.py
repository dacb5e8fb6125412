"""What the user's own config names is built as Hydra would, from any package that Python finds."""

import sys
from pathlib import Path

import pytest
import torch
from composed import compose

from genoseq.app import build

MYLAB = """
from lightning.pytorch import Trainer
from lightning.pytorch.profilers import SimpleProfiler

class Mine(Trainer):
    def __init__(self, note, **options):
        self.note = note
        super().__init__(**options)

def profiler():
    return SimpleProfiler(filename="mine")
"""


def test_a_trainer_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs.py").write_text(MYLAB)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    own = ("trainer._target_=theirs.Mine", "+trainer.note=7", "+trainer.profiler={_target_:theirs.profiler}")
    cfg = compose("trainer=cpu", "trainer.max_steps=12", *own)
    trainer = build.build_trainer(cfg, tmp_path, [])
    assert (type(trainer).__name__, getattr(trainer, "note", None), trainer.max_steps) == ("Mine", 7, 12)
    assert trainer.profiler.filename == "mine"  # type: ignore[attr-defined]
    assert any(type(callback).__name__ == "GracefulStop" for callback in trainer.callbacks)  # type: ignore[attr-defined]
    options = build.trainer_options(compose(*own[:2], root="evaluate").trainer)
    assert type(build.instantiate_trainer(options, logger=False)).__name__ == "Mine"


def test_threads_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    had: list[int] = []
    small, large = torch.nn.LSTM(8, 16), torch.nn.LSTM(1024, 1024)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", had.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def threads(net: torch.nn.Module, rows: int) -> list[int]:
        had.clear()
        with build.few_threads(net, rows):
            pass
        return had

    # 8 x 8.4 million multiply-adds a token; never more than there are, which are given back
    assert [threads(net, rows)[:] for net, rows in ((small, 32), (large, 8), (large, 512))] == [[1, 4], [2, 4], [4, 4]]
    assert threads(torch.nn.Linear(8, 8), 1) == [4]  # does not wait at every token
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert threads(small, 32) == [4]
    monkeypatch.setenv("GENOSEQ_THREADS", "4")  # a sweep has set the former, not the user
    assert threads(small, 32) == [1, 4]
