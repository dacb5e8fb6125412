"""How well the launcher fills its devices, and what a job costs before its first step.

    python -m benchmarks.launcher            # made-up devices: total time over that of the best list schedule
    python -m benchmarks.launcher DIR        # a finished sweep: its total over the sum of its jobs / slots

The jobs on made-up devices sleep for lengths drawn from 1 to 5 seconds. A list schedule gives each next job, in the
order of the list, to the device that is free first; the best of 20,000 random orders and longest-first stands for the
best list schedule. The launcher knows about how long its jobs are (their cost), as it does from real jobs' configs.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from genoseq.sweeps.jobs import Job, Record
from genoseq.sweeps.launcher import run_jobs
from genoseq.sweeps.local import Local

JOBS = 20
WORK = "import pathlib, sys, time; time.sleep(float(sys.argv[2])); (pathlib.Path(sys.argv[1]) / 'result.json').touch()"


def list_schedule(lengths: list[float], devices: int) -> float:
    """Return when the last job ends."""
    free = [0.0] * devices
    for length in lengths:
        free[free.index(min(free))] += length
    return max(free)


def fill(devices: int) -> str:
    """Run the jobs on so many made-up devices."""
    draw = random.Random(devices)
    lengths = [draw.uniform(1, 5) for _ in range(JOBS)]
    orders = [sorted(lengths, reverse=True), *(draw.sample(lengths, JOBS) for _ in range(20_000))]
    best = min(list_schedule(order, devices) for order in orders)
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / str(i) for i in range(JOBS)]
        jobs = [
            Job(folder.name, folder, [], [sys.executable, "-S", "-c", WORK, str(folder), str(length)], cost=length)
            for folder, length in zip(folders, lengths, strict=True)
        ]
        begin = time.perf_counter()
        run_jobs(Local(Path(place), devices=range(devices)), jobs, Record(Path(place), "sleep", []))
        took = time.perf_counter() - begin
    return f"{devices} devices: {took:.2f} s, the best list schedule {best:.2f} s: {took / best:.3f}"


def first_step() -> str:
    """Time a job of the demo from its start to its first optimizer step."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        words = ["trainer=cpu", "trainer.max_steps=100", "trainer.log_every_n_steps=1", f"hydra.run.dir={folder}"]
        begin = time.perf_counter()
        with subprocess.Popen([sys.executable, "-m", "genoseq.train", *words], stdout=subprocess.DEVNULL) as process:
            while not (folder / "metrics.csv").exists() and process.poll() is None:
                time.sleep(0.02)
            took = time.perf_counter() - begin
            process.kill()
    return f"from a job's start to its first steps: {took:.1f} s"


def finished(folder: Path) -> str:
    """Compare a finished sweep's total with the time of its jobs."""
    jobs = json.loads((folder / "jobs.json").read_text())["jobs"]
    slots = max(1, len({job["device"] for job in jobs}) if "gpu" in jobs[0]["device"] else int(sys.argv[2]))
    total = (folder / "jobs.json").stat().st_mtime - (folder / "multirun.yaml").stat().st_mtime
    work = sum(job["seconds"] for job in jobs)
    ratio = total / (work / slots)
    return f"{len(jobs)} jobs, {work:.0f} s in all, {total:.0f} s on {slots} slots: {ratio:.3f} of jobs / slots"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(finished(Path(sys.argv[1])))
    else:
        print(first_step())
        for n in (2, 3, 8):
            print(fill(n), flush=True)
