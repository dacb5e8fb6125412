"""What every launcher promises, on each backend: this machine, Ray, submitit, and SLURM as a stand-in plays it."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_slurm
import pytest
from stub_jobs import UNTIL_SAVED, began, interrupt, make_job, make_launcher, result, run, when

from genoseq.sweeps import ray as ray_backend
from genoseq.sweeps import slurm as slurm_backend
from genoseq.sweeps.jobs import LOG, read_record
from genoseq.sweeps.launcher import JobLauncher, catch_signals
from hydra_plugins.genoseq.launchers import LocalPool, RayCluster, SubmititLocal, SubmititSlurm

Make = Callable[..., JobLauncher]


@pytest.fixture(autouse=True)
def sigint() -> Iterator[None]:
    """SIGINT as in a terminal; in the background of a shell it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=["local", "submitit_local", "slurm", "ray"])
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A function that makes a launcher with room for two jobs at a time."""
    kinds: dict[str, tuple[type[JobLauncher], dict[str, Any]]] = {
        "local": (LocalPool, {"n_jobs": 2}),
        "submitit_local": (SubmititLocal, {"array_parallelism": 2}),
        "slurm": (SubmititSlurm, {"array_parallelism": 2}),
        "ray": (RayCluster, {"cpus_per_job": 2}),
    }
    kind, options = kinds[request.param]
    if request.param == "ray":
        request.getfixturevalue("ray_started")
        monkeypatch.setattr(ray_backend, "_GRACE", 1.0)
    elif request.param != "local":
        pytest.importorskip("submitit")
        fake_slurm.install(tmp_path / "slurm", monkeypatch)
        monkeypatch.setattr(slurm_backend, "_POLL", 0.1)
        monkeypatch.setattr(slurm_backend, "_QUEUE", 1.0)
    return lambda **more: make_launcher(kind, tmp_path / "sweep", **options, **more)


@pytest.mark.slow
def test_a_job_that_fails_takes_no_other_along(make: Make, tmp_path: Path) -> None:
    scripts = {
        "fine": "done()",
        "refused": "print('genoseq: no such genome', flush=True); sys.exit(2)",
        "killed": "os.kill(os.getpid(), 9)",
        "empty": "pass",
        "raises": "raise ValueError('x y')",
        "late": "time.sleep(0.3); done()",
    }
    jobs = {name: make_job(tmp_path / "sweep", name, script) for name, script in scripts.items()}
    launcher = make()
    assert launcher.at_a_time() == 2
    assert run(launcher, list(jobs.values())) is None
    assert {name: job.why for name, job in jobs.items() if job.state == "failed"} == {
        "refused": "no such genome",
        "killed": "killed by signal 9 (SIGKILL; out of memory?)",
        "empty": "ended without a result",
        "raises": "exit code 1: ValueError: x y",
    }
    assert jobs["fine"].state == jobs["late"].state == "done" and jobs["late"].seconds > 0.2
    assert all(job.attempts == 1 and job.device for job in jobs.values())
    assert "no such genome" in (jobs["refused"].folder / LOG).read_text()
    recorded = {job["name"]: job["state"] for job in read_record(tmp_path / "sweep")["jobs"]}
    assert recorded == {job.name: job.state for job in jobs.values()}


@pytest.mark.slow
def test_a_failed_job_is_started_again_as_often_as_asked(make: Make, tmp_path: Path) -> None:
    second = "saved or (save() if not saved else None); done()"
    jobs = [make_job(tmp_path / "sweep", "second", second), make_job(tmp_path / "sweep", "never", "sys.exit(3)")]
    run(make(retries=1), jobs)
    assert [(job.state, job.attempts, job.failures) for job in jobs] == [("done", 2, 1), ("failed", 2, 2)]


@pytest.mark.slow
def test_ctrl_c_saves_what_runs_and_the_sweep_resumes(make: Make, tmp_path: Path) -> None:
    jobs = [make_job(tmp_path / "sweep", i, UNTIL_SAVED) for i in range(4)]
    before = signal.getsignal(signal.SIGINT)
    when(lambda: sum(map(began, jobs)) >= 2, interrupt)
    assert run(make(), jobs) == signal.SIGINT and signal.getsignal(signal.SIGINT) is before
    states = sorted(job.state for job in jobs)
    # the stand-in for SLURM starts all of an array at once: more than two may have begun
    assert states[:2] == ["stopped", "stopped"] and set(states[2:]) <= {"stopped", "waiting"}
    assert all((job.folder / "saved").exists() == (job.state == "stopped") for job in jobs)
    again = [make_job(tmp_path / "sweep", i, "done()") for i in range(4)]
    assert run(make(), again) is None
    assert [result(job)["saved"] for job in again] == [job.state == "stopped" for job in jobs]


@pytest.mark.slow
def test_the_second_ctrl_c_ends_what_will_not_save(make: Make, tmp_path: Path) -> None:
    stubborn = (
        "signal.signal(signal.SIGTERM, lambda *_: (folder / 'asked').touch())\n[time.sleep(1) for _ in range(60)]"
    )
    job = make_job(tmp_path / "sweep", 0, f"{stubborn}\ndone()")
    when(lambda: began(job), interrupt)
    when((job.folder / "asked").exists, interrupt)
    assert run(make(), [job]) == signal.SIGINT
    assert job.state == "stopped" and not job.finished


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a shell's background
    with catch_signals() as received:
        interrupt()
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
