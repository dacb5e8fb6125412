"""Run jobs on the devices of this machine."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genoseq.errors import UserError
from genoseq.sweeps.jobs import Job, processes
from genoseq.sweeps.launcher import Backend, Ended, Started
from genoseq.sweeps.process import Process, thread_variables

_POLL = 0.1  # seconds between looks at the processes


@dataclass(frozen=True)
class Slot:
    """A place for one job at a time."""

    devices: tuple[str, ...]  # GPUs, as CUDA_VISIBLE_DEVICES names them; none on the CPU
    threads: int  # of each of the job's processes

    @property
    def label(self) -> str:
        """What the console calls it."""
        return f"gpu {','.join(self.devices)}" if self.devices else f"cpu, {self.threads} thread(s)"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that must be set before the job's interpreter starts; a user's own thread count is kept."""
        return thread_variables(self.threads) | (
            {"CUDA_VISIBLE_DEVICES": ",".join(self.devices)} if self.devices else {}
        )


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Return the GPUs that PyTorch would see here, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    count = torch.cuda.device_count()
    return named[:count] or [str(i) for i in range(count)]


def make_slots(gpus: Sequence[str], per_job: int, n_jobs: int | None, jobs: int) -> list[Slot]:
    """Share GPUs (none of them: the cores) out to at most `n_jobs` of `jobs` jobs with `per_job` devices each.

    A GPU that is named twice takes two jobs at a time.
    """
    for name, value in {"devices_per_job": per_job, "n_jobs": n_jobs}.items():
        if value is not None and value < 1:
            raise UserError(f"hydra.launcher.{name} must be 1 or more, or null, got {value}")
    if gpus and per_job > len(gpus):
        raise UserError(
            f"a job asks for {per_job} GPUs and {len(gpus)} can be used ({', '.join(gpus)}); lower trainer.devices"
        )
    most = len(gpus) // per_job if gpus else max(1, cores() // per_job)
    # on the CPU more jobs than cores is the user's choice; on GPUs no device is shared unless it is named twice
    count = most if n_jobs is None else min(n_jobs, most) if gpus else n_jobs
    count = max(1, min(count, jobs))
    threads = max(1, cores() // (count * per_job))
    return [Slot(tuple(gpus[i * per_job : (i + 1) * per_job]), threads) for i in range(count)]


@dataclass
class Local(Backend):
    """Runs as many jobs at a time as this machine has devices for, one process a job."""

    queues = False
    devices: Sequence[int | str] | None = None
    devices_per_job: int | None = None
    n_jobs: int | None = None

    def __post_init__(self) -> None:
        self._fork = False
        self._free: list[Slot] = []
        self._new: list[tuple[Job, Started]] = []
        self._running: list[tuple[Job, Slot, Process]] = []

    def room(self, trainers: Sequence[Mapping[str, Any]], jobs: int) -> int:
        """Return the number of slots."""
        if self.devices is not None:
            gpus = [str(device) for device in self.devices]
        else:
            on_cpu = all(trainer.get("accelerator") == "cpu" for trainer in trainers)
            gpus = [] if on_cpu else visible_gpus()
        per_job = self.devices_per_job
        if per_job is None:
            per_job = max(processes(trainer, len(gpus)) for trainer in trainers)
        self._free = make_slots(gpus, per_job, self.n_jobs, jobs)
        # what has found GPUs must not fork, and the ranks of a job start its command again
        self._fork = sys.platform == "linux" and not gpus and per_job == 1 and jobs > 1
        return len(self._free)

    def start(self, jobs: Sequence[Job]) -> None:
        """Start each job in a free slot."""
        for job in jobs:
            slot = self._free.pop(0)
            self._running.append((job, slot, Process(job, slot.environment, fork=self._fork)))
            self._new.append((job, Started(slot.label)))

    def poll(self) -> Iterator[tuple[Job, Started | Ended]]:
        """Yield which jobs started and which ended."""
        yield from self._new
        self._new.clear()
        time.sleep(_POLL)
        for job, slot, process in self._running[:]:
            code = process.poll()
            if code is not None:
                self._running.remove((job, slot, process))
                self._free.append(slot)
                yield job, Ended(code)

    def stop(self, kill: bool) -> None:
        """Have the jobs save and end, or end at once."""
        for _, _, process in self._running:
            process.kill() if kill else process.save()
