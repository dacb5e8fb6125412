"""Ray places jobs: no device is given twice, a lost worker is one failed job, a stop saves."""

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from genoseq.errors import UserError
from genoseq.sweeps.jobs import Job
from genoseq.sweeps.ray import RayCluster
from genoseq.sweeps.record import Record, read_record

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

# what every job of these tests begins with: where it is, and a way to end like training does
BEGIN = """
import json, os, pathlib, signal, sys, time
from genoseq.app.runtime import exit_with_parent
def save(*_):
    pathlib.Path(FOLDER, "saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
exit_with_parent()
began = time.time()
def done():
    seen = {"gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "threads": os.environ["OMP_NUM_THREADS"]}
    pathlib.Path(FOLDER, "result.json").write_text(json.dumps(seen | {"began": began, "ended": time.time()}))
"""


def make_job(sweep: Path, num: int, script: str) -> Job:
    folder = sweep / f"job{num}"
    return Job(num, folder.name, folder, [], [sys.executable, "-c", f"FOLDER = {str(folder)!r}\n{BEGIN}\n{script}"])


def result(job: Job) -> dict:
    return json.loads((job.folder / "result.json").read_text())


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """Ray with two GPUs and four cores that it is told of, once for all tests: it takes seconds to start."""
    import ray

    RayCluster(num_gpus=2, num_cpus=4)._connected()
    yield
    ray.shutdown()


def launcher(sweep: Path, **options: object) -> RayCluster:
    made = RayCluster(**options)
    made.config = OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}, "trainer": {"accelerator": "gpu"}})
    return made


def run(sweep: Path, jobs: list[Job], trainer: dict | None = None, **options: object) -> int | None:
    config = OmegaConf.create({"trainer": trainer or {"accelerator": "gpu", "devices": 1}})
    return launcher(sweep, **options).execute(jobs, [config] * len(jobs), Record(sweep, "train", []))


def test_no_gpu_is_given_to_two_jobs_at_once(ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    jobs = [make_job(tmp_path, i, "time.sleep(0.5); done()") for i in range(6)]
    assert launcher(tmp_path).at_a_time() == 2
    assert run(tmp_path, jobs, cpus_per_job=2) is None
    assert [job.state for job in jobs] == ["done"] * 6
    assert {result(job)["threads"] for job in jobs} == {"2"}
    for gpu in "01":
        turns = sorted((r["began"], r["ended"]) for r in map(result, jobs) if r["gpu"] == gpu)
        assert turns and all(before[1] <= after[0] for before, after in itertools.pairwise(turns))
    assert {r["gpu"] for r in map(result, jobs)} == {"0", "1"}
    assert all(job.device.endswith(f"gpu {result(job)['gpu']}") and job.seconds > 0.4 for job in jobs)
    assert [job["state"] for job in read_record(tmp_path)] == ["done"] * 6


def test_lost_and_failing_jobs_do_not_stop_the_others(ray: None, tmp_path: Path) -> None:
    scripts = {
        "exit": "print('genoseq: no such genome'); sys.exit(2)",
        "killed": "os.kill(os.getpid(), 9)",
        # its worker goes, as when a machine's memory runs out; what it started must not go on
        "lost": "os.kill(os.getppid(), 9); time.sleep(20); done()",
        "empty": "pass",
        "fine": "time.sleep(0.5); done()",
    }
    jobs = {name: make_job(tmp_path, i, script) for i, (name, script) in enumerate(scripts.items())}
    assert run(tmp_path, list(jobs.values()), trainer={"accelerator": "cpu"}) is None
    assert {name: job.state for name, job in jobs.items()} == dict.fromkeys(scripts, "failed") | {"fine": "done"}
    assert jobs["exit"].why == "no such genome"
    assert "signal 9" in jobs["killed"].why
    assert "WorkerCrashedError" in jobs["lost"].why
    assert jobs["empty"].why == "ended without a result"
    until = time.monotonic() + 10
    while not (jobs["lost"].folder / "saved").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert (jobs["lost"].folder / "saved").exists() and not jobs["lost"].finished


def test_a_failed_job_is_started_again_from_its_checkpoint(ray: None, tmp_path: Path) -> None:
    script = """
last = pathlib.Path(FOLDER, "checkpoints", "last.ckpt")
if len(sys.argv) == 1:
    last.parent.mkdir()
    last.touch()
    sys.exit(1)
assert sys.argv[1] == f"ckpt='{last}'"
done()
"""
    job = make_job(tmp_path, 0, script)
    run(tmp_path, [job], trainer={"accelerator": "cpu"}, retries=1)
    assert job.state == "done" and job.attempts == 2 and job.failures == 1


def test_a_stop_saves_what_runs_and_starts_nothing(ray: None, tmp_path: Path) -> None:
    script = "pathlib.Path(FOLDER, 'began').touch(); time.sleep(30); done()"
    jobs = [make_job(tmp_path, i, script) for i in range(4)]

    def interrupt() -> None:
        until = time.monotonic() + 30
        while len(list(tmp_path.glob("*/began"))) < 2 and time.monotonic() < until:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    assert run(tmp_path, jobs) == signal.SIGINT
    assert sorted(job.state for job in jobs) == ["stopped", "stopped", "waiting", "waiting"]
    assert all((job.folder / "saved").exists() == (job.state == "stopped") for job in jobs)
    # and the sweep goes on, by the same Ray
    again = [make_job(tmp_path, i, "done()") for i in range(4)]
    assert run(tmp_path, again) is None
    assert {job.state for job in again} == {"done"}


def test_a_job_that_fits_no_machine_is_refused(ray: None, tmp_path: Path) -> None:
    job = make_job(tmp_path, 0, "done()")
    with pytest.raises(UserError, match=r"asks for 3 GPU\(s\) and 3 core.* 2 and 4"):
        run(tmp_path, [job], trainer={"accelerator": "gpu", "devices": 3})
    with pytest.raises(UserError, match="submitit_slurm"):
        run(tmp_path, [job], trainer={"accelerator": "gpu", "num_nodes": 2})


def test_without_ray_the_command_says_what_to_install(tmp_path: Path, tiny: tuple[str, ...]) -> None:
    (tmp_path / "ray.py").write_text("raise ImportError")
    words = ["-m", "hydra/launcher=ray", f"sweep.dir={tmp_path / 'sweep'}", "seed=0,1", *tiny]
    ended = subprocess.run(
        [sys.executable, "-m", "genoseq.train", *words],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert ended.returncode == 2 and "pip install 'genoseq[ray]'" in ended.stderr and "Traceback" not in ended.stderr
