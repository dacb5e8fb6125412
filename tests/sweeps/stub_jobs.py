"""Jobs that stand in for training runs: small scripts that save when they are asked to, and resume by themselves."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from genoseq.sweeps.jobs import Job, Record
from genoseq.sweeps.launcher import JobLauncher, run_jobs

GENOME = Path(__file__).parent.parent / "data" / "files" / "hpylori_softmasked.fa"

# `notes` is what the job sees; done() ends it with a result; `saved` says whether an earlier start has saved
BEGIN = """
import json, os, pathlib, signal, sys, time
from genoseq.app.runtime import exit_with_parent
folder, rank = pathlib.Path(FOLDER), os.environ.get("RANK", "0")
saved = (folder / "saved").exists()
def save(*_):
    if rank == "0":
        (folder / "saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
exit_with_parent()
names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
notes = {"began": time.time(), "saved": saved, **{name: os.environ.get(name) for name in names}}
(folder / f"began{rank}").write_text(json.dumps(notes))
def done():
    if rank == "0":
        (folder / "result.json").write_text(json.dumps(notes | {"ended": time.time()}))
"""
UNTIL_SAVED = "time.sleep(0 if saved else 60); done()"


def make_job(sweep: Path, name: object, script: str = "done()", cost: float = 0.0, **trainer: Any) -> Job:
    folder = sweep / f"job{name}"
    code = f"FOLDER = {str(folder)!r}\n{BEGIN}\n{script}"
    trainer = {"accelerator": "cpu", "devices": 1} | trainer
    return Job(folder.name, folder, [], [sys.executable, "-S", "-c", code], trainer, cost)


def make_launcher(kind: type[JobLauncher], sweep: Path, **options: Any) -> JobLauncher:
    launcher = kind(**options)
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}, "trainer": {"accelerator": "cpu"}})
    launcher.setup(hydra_context=None, task_function=None, config=config)  # type: ignore[arg-type]
    return launcher


def run(launcher: JobLauncher, jobs: list[Job]) -> int | None:
    return run_jobs(launcher.backend, jobs, Record(launcher.folder, "train", []), launcher.retries)


def result(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((job.folder / "result.json").read_text())
    return found


def began(job: Job, rank: int = 0) -> bool:
    return (job.folder / f"began{rank}").exists()


def when(found: Callable[[], bool], then: Callable[[], None]) -> None:
    """Do something beside the launcher, as soon as something else has happened."""

    def wait() -> None:
        until = time.monotonic() + 60
        while not found() and time.monotonic() < until:
            time.sleep(0.05)
        then()

    threading.Thread(target=wait, daemon=True).start()


def gone(pid: int) -> bool:
    """Wait until a process has ended; return whether it has."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
        if not state or state.startswith("Z"):
            return True
        time.sleep(0.1)
    return False


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)
