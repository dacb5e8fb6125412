"""Two processes on the CPU train as one with the doubled batch."""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from genoseq.files import read_metrics

pytestmark = pytest.mark.slow
GENOME = Path(__file__).parents[1] / "data" / "files" / "hpylori_start.txt"
# the command, with each rank's test figures put down, and a Ctrl-C as a terminal gives it: to every process at once
SCRIPT = """
import json, os, signal
from pathlib import Path
from genoseq.train import main
from genoseq.training.module import NextToken

def on_test_epoch_end(self, then=NextToken.on_test_epoch_end):
    then(self)
    (Path(os.environ["TEST_DUMP"]) / f"rank{self.global_rank}.json").write_text(json.dumps(self.reported["test"]))

def training_step(self, batch, batch_idx, then=NextToken.training_step):
    if self.global_step + 1 == int(os.environ.get("TEST_STOP", 0)) and self.global_rank == 0:
        os.killpg(os.getpgrp(), signal.SIGINT)
    return then(self, batch, batch_idx)

NextToken.on_test_epoch_end = on_test_epoch_end
NextToken.training_step = training_step
main()
"""
SETTINGS = (
    f"data.genome={GENOME}",
    "data.seq_len=32",
    "data.carry_tokens=64",
    "model.embed_dim=8",
    "model.hidden_size=16",
    "trainer.precision=32-true",
    "trainer.max_steps=12",
    "trainer.val_every=5",
    "trainer.log_every_n_steps=1",
    "baseline=false",
    "logger=none",
)


@pytest.fixture(scope="module")
def ddp(tmp_path_factory):
    """A function that trains in two processes and returns (exit code, output, folder of the ranks' figures)."""
    script = tmp_path_factory.mktemp("script") / "train.py"
    script.write_text(SCRIPT)

    def ddp(folder, *extra, stop=0):
        dump = tmp_path_factory.mktemp("ranks")
        quiet = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_PORT")}
        env = quiet | {"TEST_DUMP": str(dump), "TEST_STOP": str(stop), "OMP_NUM_THREADS": "1"}
        overrides = [f"hydra.run.dir={folder}", *SETTINGS, "trainer=ddp_cpu", "data.batch_size=8", *extra]
        process = subprocess.Popen(
            [sys.executable, str(script), *overrides],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=env,
            start_new_session=True,
        )
        try:
            out, _ = process.communicate(timeout=120)
            until = time.monotonic() + 20
            while alive(process.pid) and time.monotonic() < until:
                time.sleep(0.2)
            assert not alive(process.pid), "a process of the run hangs"
        finally:
            if alive(process.pid):
                os.killpg(process.pid, 9)
        return process.returncode, out, dump

    return ddp


def alive(group):
    """Whether a process of the group still runs (one that ended and was not waited for does not)."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state != "Z":
            return True
    return False


@pytest.fixture(scope="module")
def two(ddp, tmp_path_factory):
    """The run in two processes: (output, folder, folder of the ranks' figures)."""
    folder = tmp_path_factory.mktemp("two") / "run"
    code, out, dump = ddp(folder)
    assert code == 0, out
    return out, folder, dump


def test_one_folder_that_the_first_process_writes(two):
    out, folder, _ = two
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {
        ".hydra/config.yaml",
        ".hydra/hydra.yaml",
        ".hydra/overrides.yaml",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "curves.png",
        "metrics.csv",
        "result.json",
        "split.bed",
    }
    assert out.count("step 12/12") == out.count("files:   ") == 1
    assert "sync_dist" not in out


def test_every_rank_has_the_same_test_figures(two):
    _, folder, dump = two
    first, second = (json.loads((dump / f"rank{rank}.json").read_text()) for rank in (0, 1))
    result = json.loads((folder / "result.json").read_text())
    assert first == second == {key: result[key] for key in first}
    assert len(first) == 4


def test_the_curve_is_that_of_one_process_with_the_doubled_batch(two, run_verb, tmp_path):
    ran = run_verb("train", tmp_path / "one", *SETTINGS, "trainer=cpu", "data.batch_size=16")
    assert ran.code == 0
    many, one = read_metrics(two[1] / "metrics.csv"), read_metrics(ran.folder / "metrics.csv")
    assert many["step"] == one["step"] == list(range(1, 13))
    assert None not in one["train/loss"]
    assert len(set(one["train/loss"])) == 12
    for name in one.keys() - {"train/tokens_per_second"}:
        pairs = zip(many[name], one[name], strict=True)
        assert all((a is None and b is None) or a == pytest.approx(b, rel=2e-6, abs=1e-7) for a, b in pairs), name


def test_ctrl_c_stops_every_process_and_the_run_can_go_on(two, ddp, tmp_path):
    code, out, dump = ddp(tmp_path / "stopped", stop=7)
    assert code == 130, out
    assert "Traceback" not in out
    assert list(dump.iterdir()) == []
    ckpt = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    assert torch.load(ckpt, weights_only=True)["global_step"] == 7
    assert shlex.split(out.split("Go on with: ")[1].splitlines()[0])[-1] == f"ckpt={ckpt}"
    code, out, _ = ddp(tmp_path / "on", f"ckpt={ckpt}")
    assert code == 0, out
    ends = [torch.load(f / "checkpoints" / "last.ckpt", weights_only=True) for f in (two[1], tmp_path / "on")]
    assert ends[0]["global_step"] == ends[1]["global_step"] == 12
    for one, other in zip(*(end["state_dict"].values() for end in ends), strict=True):
        assert torch.equal(one, other)
    ranks = [[rank["state"] for rank in end["genoseq"]["ranks"]] for end in ends]
    assert torch.equal(ranks[0][0][0], ranks[1][0][0])
    assert torch.equal(ranks[0][1][0], ranks[1][1][0])
    assert not torch.equal(ranks[0][0][0], ranks[0][1][0])
    tables = [read_metrics(f / "metrics.csv") for f in (two[1], tmp_path / "on")]
    assert all(tables[0][name] == tables[1][name] for name in tables[0].keys() - {"train/tokens_per_second"})
