"""How well the launcher fills its devices: total time over that of the best list schedule.

The jobs on made-up devices sleep for lengths drawn from 1 to 5 seconds. A list schedule gives each next job, in the
order of the list, to the device that is free first; the best of 20,000 random orders and longest-first stands for the
best list schedule. The launcher knows about how long its jobs are (their cost), as it does from real jobs' configs.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.rows import Row, seconds
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


def fill(devices: int) -> tuple[float, float]:
    """Return the seconds of the jobs on so many made-up devices, and those of the best list schedule."""
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
        local, record = Local(Path(place), devices=range(devices)), Record(Path(place), "sleep", [])
        return seconds(lambda: run_jobs(local, jobs, record)), best


def rows(quick: bool) -> Iterator[Row]:
    """Measure."""
    for devices in (8,) if quick else (3, 8):
        ours, best = fill(devices)
        yield Row(f"20 jobs on {devices} devices", "the best list schedule", "s", [ours], [best], "<= 1.15")
