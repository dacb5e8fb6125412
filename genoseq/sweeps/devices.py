"""Which devices and how many threads each of a sweep's jobs gets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from genoseq.errors import UserError


@dataclass(frozen=True)
class Slot:
    """A place for one job at a time.

    Attributes
    ----------
    number : int
        From 0.
    devices : tuple of str
        GPUs, as ``CUDA_VISIBLE_DEVICES`` names them; empty on the CPU.
    threads : int
        Threads of each of the job's processes.
    """

    number: int
    devices: tuple[str, ...]
    threads: int

    @property
    def label(self) -> str:
        """What the console calls it."""
        return f"gpu {','.join(self.devices)}" if self.devices else f"cpu, {self.threads} thread(s)"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that must be set before the job's interpreter starts; a user's own thread count is kept."""
        env = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(self.threads)}
        if self.devices:
            env["CUDA_VISIBLE_DEVICES"] = ",".join(self.devices)
        return env


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Return the GPUs that PyTorch would see here, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    count = torch.cuda.device_count()
    return named[:count] or [str(i) for i in range(count)]


def processes(trainer: Any, visible: int) -> int:
    """Return how many devices (on the CPU: processes) a config's ``trainer`` node asks for; all if ``auto``."""
    devices = trainer.get("devices", 1)
    if isinstance(devices, (int, str)) and str(devices).lstrip("-").isdigit():
        return int(devices) if int(devices) > 0 else max(1, visible)
    if isinstance(devices, str):  # auto, or Lightning's "0,1"
        return len(devices.split(",")) if "," in devices else max(1, visible)
    return max(1, len(devices))


def make_slots(gpus: Sequence[str], per_job: int, n_jobs: int | None, jobs: int) -> list[Slot]:
    """Share devices and threads out.

    Parameters
    ----------
    gpus : sequence of str
        None of them means the CPU. A GPU that is named twice takes two jobs at a time.
    per_job : int
        Devices of a job, on the CPU processes.
    n_jobs : int, optional
        Most jobs at a time.
    jobs : int
        Jobs there are.

    Raises
    ------
    UserError
        If a job asks for more devices than there are, or a count is no count.
    """
    for name, value in {"devices_per_job": per_job, "n_jobs": n_jobs}.items():
        if value is not None and value < 1:
            raise UserError(f"hydra.launcher.{name}={value} is not a count: give 1 or more, or null")
    if gpus and per_job > len(gpus):
        raise UserError(
            f"a job asks for {per_job} GPUs and {len(gpus)} can be used ({', '.join(gpus)}); lower trainer.devices"
        )
    most = len(gpus) // per_job if gpus else max(1, cores() // per_job)
    # on the CPU more jobs than cores is the user's choice; on GPUs no device is shared unless it is named twice
    count = most if n_jobs is None else min(n_jobs, most) if gpus else n_jobs
    count = max(1, min(count, jobs))
    threads = max(1, cores() // (count * per_job))
    groups = [tuple(gpus[i * per_job : (i + 1) * per_job]) for i in range(count)]
    return [Slot(i, group, threads) for i, group in enumerate(groups)]
