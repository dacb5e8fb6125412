"""Ray places jobs: no device is given twice, and a lost worker is one failed job."""

import itertools
import os
import sys
import time
from pathlib import Path

import pytest
from stub_jobs import began, make_job, make_launcher, result, run

from genoseq.errors import UserError
from genoseq.sweeps import ray as backend
from genoseq.sweeps.launcher import Ended
from hydra_plugins.genoseq.launchers import RayCluster

pytestmark = pytest.mark.slow
GPU = {"accelerator": "gpu"}


def test_no_gpu_is_given_to_two_jobs_at_once(
    ray_started: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    jobs = [make_job(tmp_path, i, "time.sleep(0.3); done()", **GPU) for i in range(5)]
    assert run(make_launcher(RayCluster, tmp_path, cpus_per_job=2), jobs) is None
    notes = [result(job) for job in jobs]
    assert {note["OMP_NUM_THREADS"] for note in notes} == {"2"}
    for gpu in "01":
        turns = sorted((note["began"], note["ended"]) for note in notes if note["CUDA_VISIBLE_DEVICES"] == gpu)
        assert turns and all(before[1] <= after[0] for before, after in itertools.pairwise(turns))
    assert {note["CUDA_VISIBLE_DEVICES"] for note in notes} == {"0", "1"}
    for job, note in zip(jobs, notes, strict=True):
        assert str(job.device).endswith(f"gpu {note['CUDA_VISIBLE_DEVICES']}")


def test_a_lost_worker_is_one_failed_job(ray_started: None, tmp_path: Path) -> None:
    # its worker goes, as when a machine's memory runs out; what it started must not go on
    lost = make_job(tmp_path, "lost", "os.kill(os.getppid(), 9); time.sleep(20); done()")
    fine = make_job(tmp_path, "fine", "time.sleep(0.5); done()")
    run(make_launcher(RayCluster, tmp_path), [lost, fine])
    assert (lost.state, fine.state) == ("failed", "done") and "WorkerCrashedError" in str(lost.why)
    until = time.monotonic() + 10
    while not (lost.folder / "saved").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert (lost.folder / "saved").exists() and not lost.finished


def test_a_stop_ends_a_job_whose_start_is_not_known_yet(
    ray_started: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "_GRACE", 1.0)
    jobs = [make_job(tmp_path, i, "time.sleep(60)", **GPU) for i in range(3)]
    cluster = make_launcher(RayCluster, tmp_path).backend
    cluster.start(jobs)
    while sum(map(began, jobs)) < 2:  # without a poll
        time.sleep(0.1)
    cluster.stop(kill=False)
    ended = []
    while len(ended) < 3:
        ended += [job.name for job, event in cluster.poll() if isinstance(event, Ended)]
    assert [(job.folder / "saved").exists() for job in jobs] == [began(job) for job in jobs]


def test_a_job_that_fits_no_machine_is_refused(ray_started: None, tmp_path: Path) -> None:
    for trainer, says in (
        ({"devices": 3, **GPU}, r"asks for 3 GPU\(s\) and 3 core.* 2 and 4"),
        ({"num_nodes": 2}, "submitit_slurm"),
    ):
        with pytest.raises(UserError, match=says):
            run(make_launcher(RayCluster, tmp_path), [make_job(tmp_path, 0, **trainer)])


def test_without_ray_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit):
        make_launcher(RayCluster, tmp_path).at_a_time()
    assert "pip install 'genoseq[ray]'" in capsys.readouterr().err and os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
