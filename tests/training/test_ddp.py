"""Two processes on the CPU, started by Lightning, torchrun or srun, train as one with the doubled batch."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from genoseq.app.runtime import is_main_process
from genoseq.files import read_metrics

GENOME = Path(__file__).parents[1] / "data" / "files" / "hpylori_start.txt"
RANKS = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")
# the command, with each rank's test metrics put down, and a Ctrl-C as a terminal gives it: to every process at once
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
# stopped at 7, between two logged metrics, two validations, and two windows of a segment
SETTINGS = (
    f"data.genome={GENOME}",
    "data.seq_len=32",
    "data.carry_tokens=64",
    "model.embed_dim=8",
    "model.hidden_size=16",
    "trainer.precision=32-true",
    "trainer.max_steps=12",
    "trainer.val_every=5",
    "trainer.log_every_n_steps=3",
    "baseline=false",
    "mixer=none",
    "logger=none",
)
FILES = {
    ".hydra/config.yaml",
    ".hydra/hydra.yaml",
    ".hydra/overrides.yaml",
    ".lock",
    "checkpoints/best.ckpt",
    "checkpoints/last.ckpt",
    "curves.png",
    "metrics.csv",
    "result.json",
    "blocks.csv",
    "split.bed",
}


def environment(**variables):
    kept = {k: v for k, v in os.environ.items() if k not in RANKS and not k.startswith("SLURM_")}
    return kept | {"OMP_NUM_THREADS": "1"} | {name: str(value) for name, value in variables.items()}


def start(command, folder, **variables):
    """Start a command in a group of its own, in which Ctrl-C is not ignored."""
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        env=environment(**variables),
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def end(*processes):
    """Return what processes printed once they and all that they started have ended."""
    try:
        return [process.communicate(timeout=120)[0] for process in processes]  # until no child holds the pipe
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A run that Lightning started, Ctrl-C stopped and torchrun resumed: (output of both, folder, ranks' metrics)."""
    folder = tmp_path_factory.mktemp("ddp")
    (folder / "train.py").write_text(SCRIPT)
    run = folder / "outputs" / "torchrun-mine-train"
    words = ["train.py", *SETTINGS, "trainer=ddp_cpu", "data.batch_size=8"]
    stopped = start([*words, f"hydra.run.dir={run}"], folder, TEST_DUMP=folder, TEST_STOP=7)
    out = end(stopped)
    assert stopped.returncode == 130, out
    assert not (folder / "rank0.json").exists()
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 7
    torchrun = ["-m", "torch.distributed.run", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--rdzv-id=mine"]
    again = start([*torchrun, "--nproc-per-node=2", *words], folder, TEST_DUMP=folder)
    out += end(again)
    assert again.returncode == 0, out
    return out, run, folder


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory):
    """The same run as srun starts it on two nodes, with no name for its folder: (output of each rank, folder)."""
    folder = tmp_path_factory.mktemp("srun")
    shared = {"SLURM_NTASKS": 2, "SLURM_NTASKS_PER_NODE": 1, "SLURM_NNODES": 2, "SLURM_JOB_NAME": "x"}
    shared |= {"SLURM_JOB_ID": 4242, "SLURM_STEP_ID": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 29642}
    words = ["-m", "genoseq.train", *SETTINGS, "trainer=ddp_cpu", "trainer.devices=1", "trainer.num_nodes=2"]
    ranks = [
        start([*words, "data.batch_size=8"], folder, SLURM_PROCID=rank, SLURM_LOCALID=0, SLURM_NODEID=rank, **shared)
        for rank in (0, 1)
    ]
    out = end(*ranks)
    assert [rank.returncode for rank in ranks] == [0, 0], out
    return out, folder / "outputs" / "slurm-4242.1-train"


def same_rows(one, other, compare):
    """Compare two runs' metrics.csv, cell by cell."""
    tables = [read_metrics(folder / "metrics.csv") for folder in (one, other)]
    assert tables[0].keys() == tables[1].keys()
    for name in tables[0].keys() - {"train/tokens_per_second"}:
        for a, b in zip(tables[0][name], tables[1][name], strict=True):
            assert (a is None and b is None) or compare(a, b), name


def one_folder_that_the_first_process_writes(resumed, never_stopped):
    for folder in (resumed[1], never_stopped[1]):
        assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == FILES
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    first, second = resumed[0]
    assert first.count("Resume with: ") == 1 and "Traceback" not in first
    assert second.count("step 12/12") == second.count("files:   ") == 1
    assert "files:" in never_stopped[0][0] and "files:" not in never_stopped[0][1]
    assert "sync_dist" not in first + second


def every_rank_has_the_same_test_metrics(resumed):
    _, run, folder = resumed
    first, second = (json.loads((folder / f"rank{rank}.json").read_text()) for rank in (0, 1))
    result = json.loads((run / "result.json").read_text())
    assert first == second == pytest.approx({key: result[key] for key in first}, rel=1e-6)  # of float32 metrics
    assert len(first) == 4


def the_curve_is_that_of_one_process_with_the_doubled_batch(never_stopped, run_verb, tmp_path):
    ran = run_verb("train", tmp_path / "one", *SETTINGS, "trainer=cpu", "data.batch_size=16")
    assert ran.code == 0
    same_rows(never_stopped[1], ran.folder, lambda a, b: a == pytest.approx(b, rel=2e-6, abs=1e-7))
    losses = [loss for loss in read_metrics(ran.folder / "metrics.csv")["train/loss"] if loss is not None]
    assert len(set(losses)) == 4


def stopped_and_resumed_is_never_stopped(resumed, never_stopped):
    same_rows(resumed[1], never_stopped[1], lambda a, b: a == b)
    ends = [torch.load(f / "checkpoints" / "last.ckpt", weights_only=True) for f in (resumed[1], never_stopped[1])]
    assert ends[0]["global_step"] == ends[1]["global_step"] == 12
    for one, other in zip(*(end["state_dict"].values() for end in ends), strict=True):
        assert torch.equal(one, other)
    first, second = ([rank["state"][0] for rank in end["genoseq"]["ranks"]] for end in ends)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert not torch.equal(first[0], first[1])  # in mid-segment each rank carries a state of its own


@pytest.mark.slow
def test_two_ranks(resumed, never_stopped, run_verb, tmp_path):
    """All in one test, since each worker of pytest-xdist would start the runs again."""
    one_folder_that_the_first_process_writes(resumed, never_stopped)
    every_rank_has_the_same_test_metrics(resumed)
    the_curve_is_that_of_one_process_with_the_doubled_batch(never_stopped, run_verb, tmp_path)
    stopped_and_resumed_is_never_stopped(resumed, never_stopped)


@pytest.mark.parametrize("name", ["LOCAL_RANK", "RANK", "SLURM_PROCID"])
def test_the_first_process_of_a_run(name, monkeypatch):
    for other in ("LOCAL_RANK", "RANK", "SLURM_PROCID"):
        monkeypatch.delenv(other, raising=False)
    assert is_main_process()
    monkeypatch.setenv(name, "0")
    assert is_main_process()
    monkeypatch.setenv(name, "1")
    assert not is_main_process()
