"""Sweeps on a real SLURM of one node; `make test-slurm` starts it and runs these tests."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import slurm_cluster
from stub_jobs import GENOME, UNTIL_SAVED, make_job, make_launcher, result, run

from genoseq.sweeps.jobs import read_record
from hydra_plugins.genoseq.launchers import SubmititSlurm

pytest.importorskip("submitit")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("GENOSEQ_TEST_SLURM" not in os.environ, reason="needs SLURM's daemons: make test-slurm"),
]
OPTIONS = ("hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1")


@pytest.fixture(scope="module", autouse=True)
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if why := slurm_cluster.missing():
        pytest.skip(why)
    with slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")) as env, pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        yield


def states(folder: Path) -> list[str]:
    return [job["state"] for job in read_record(folder)["jobs"]]


def test_an_array_of_three_jobs(launch: Callable[..., Any], tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = launch(tmp_path / "sweep", *OPTIONS, *tiny, "optimizer.lr=0.01,0.001,1e30", "trainer.max_steps=40")
    assert done.code == 1 and "training has diverged" in done.out, done.out + done.err
    assert states(tmp_path / "sweep") == ["done", "done", "failed"]
    assert len(list((tmp_path / "sweep" / ".submitit").glob("*_0"))) == 1  # one array
    assert "sacct" not in done.out + done.err and "accounting" not in done.err


def test_two_ranks_train_as_one(launch: Callable[..., Any], tiny: tuple[str, ...], tmp_path: Path) -> None:
    words = [word for word in tiny if word != "trainer=cpu"]
    done = launch(tmp_path / "sweep", *OPTIONS, *words, "trainer=ddp_cpu", "data.carry_tokens=64", "seed=0")
    assert done.code == 0, done.out + done.err
    (file,) = (tmp_path / "sweep").glob("*/result.json")
    assert json.loads(file.read_text())["train/steps"] == 4


def test_a_job_whose_minute_is_up_saves_queues_again_and_resumes(tmp_path: Path) -> None:
    job = make_job(tmp_path / "sweep", 0, UNTIL_SAVED.replace("60", "600"), devices=2)
    # SLURM looks every half a minute: the signal comes 20 to 50 seconds after a start
    options = {"timeout_min": 1, "signal_delay_s": 10, "cpus_per_task": 1, "mem_gb": 1}
    assert run(make_launcher(SubmititSlurm, tmp_path / "sweep", **options), [job]) is None
    assert job.state == "done" and job.attempts == 2 and result(job)["saved"]


def test_a_job_that_slurm_cancels_is_noticed(tmp_path: Path) -> None:
    script = "import subprocess; subprocess.run(['scancel', os.environ['SLURM_JOB_ID']]); time.sleep(600)"
    job = make_job(tmp_path / "sweep", 0, script)
    run(make_launcher(SubmititSlurm, tmp_path / "sweep", cpus_per_task=1, mem_gb=1), [job])
    assert job.state == "failed" and "ended without a result (CANCELLED)" in str(job.why)


def test_ctrl_c_saves_what_runs_and_cancels_what_waits(
    launch: Callable[..., Any], tiny: tuple[str, ...], tmp_path: Path
) -> None:
    words = [*OPTIONS, *tiny, "hydra.launcher.array_parallelism=1", "seed=0,1"]
    words += ["trainer.max_steps=2000", "trainer.val_every=100"]
    line = [sys.executable, "-m", "genoseq.train", "-m", *words, f"data.genome={GENOME}", f"sweep.dir={tmp_path}/sweep"]
    take_sigint = partial(signal.signal, signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=tmp_path, preexec_fn=take_sigint) as process:
        until = time.monotonic() + 60
        while not list((tmp_path / "sweep").glob("*/checkpoints/last.ckpt")) and time.monotonic() < until:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "Resume with: " in out, out
    assert sorted(states(tmp_path / "sweep")) == ["stopped", "waiting"]
    queue = subprocess.run(["squeue", "--noheader"], capture_output=True, text=True).stdout
    assert not [row for row in queue.splitlines() if " PD " in row or " R " in row]
    again = launch(tmp_path / "sweep", *words)
    assert again.code == 0 and "1 resumed from checkpoints" in again.out, again.out + again.err
    assert states(tmp_path / "sweep") == ["done", "done"]
