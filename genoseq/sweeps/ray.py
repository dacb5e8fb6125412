"""Have Ray find a machine and devices for each job; imports Ray when a sweep begins."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genoseq.errors import UserError, fail
from genoseq.sweeps.jobs import Job, processes
from genoseq.sweeps.launcher import Backend, Ended, Started
from genoseq.sweeps.process import Process, stop_request, thread_variables

_WAIT = 0.5  # seconds that a look at the tasks takes at most
_GRACE = 10.0  # seconds after a stop in which a task that began before it surely says so


def _run(job: Job, cwd: Path, env: dict[str, str]) -> Iterator[str | int]:
    """Run one job in a worker of Ray; yields where it is when it begins, and its exit code when it has ended."""
    import ray

    if stop_request(job.folder.parent):
        return
    gpus = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
    yield " ".join([socket.gethostname(), *(["gpu", ",".join(gpus)] if gpus else [])])
    # Ray has set CUDA_VISIBLE_DEVICES to what the task holds
    yield Process(job, env, cwd).wait()


@dataclass
class RayCluster(Backend):
    """Runs each job as a task of Ray, on this machine or on a cluster.

    On a cluster the sweep's folder, the working folder and the Python environment must be at the same path on every
    machine.
    """

    address: str | None = None
    num_gpus: int | None = None
    num_cpus: int | None = None
    gpus_per_job: float | None = None
    cpus_per_job: int | None = None

    def __post_init__(self) -> None:
        self._tasks: dict[Any, Job] = {}
        self._started: set[str] = set()
        self._stopped_at: float | None = None

    def room(self, trainers: Sequence[Mapping[str, Any]], jobs: int) -> int:
        """Return how many jobs the cluster has room for now, at least 1."""
        rooms, nodes = [], self._nodes()
        for trainer in trainers:
            if int(trainer.get("num_nodes", 1)) > 1:
                raise UserError(
                    "hydra/launcher=ray runs a job on one machine; trainer.num_nodes of more than 1 needs "
                    "hydra/launcher=submitit_slurm"
                )
            lease = self._lease(trainer)
            rooms.append(sum(min(int(n[key] / lease[key]) for key in lease if lease[key]) for n in nodes))
            if not rooms[-1]:
                has = "; ".join(f"{n['num_gpus']:g} and {n['num_cpus']:g}" for n in nodes)
                raise UserError(
                    f"a job asks for {lease['num_gpus']:g} GPU(s) and {lease['num_cpus']:g} core(s), and no machine of "
                    f"Ray's has them (GPUs and cores: {has}); lower hydra.launcher.gpus_per_job, "
                    "hydra.launcher.cpus_per_job or trainer.devices"
                )
        return min(jobs, *rooms)

    def start(self, jobs: Sequence[Job]) -> None:
        """Queue tasks; a job that fails is the launcher's to start again, not Ray's."""
        ray = self.connect()
        self._stopped_at = None
        for job in jobs:
            lease = self._lease(job.trainer)
            threads = max(1, int(lease["num_cpus"]) // processes(job.trainer, 1))
            env = thread_variables(threads) or {"OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"]}
            task = ray.remote(_run).options(**lease, max_retries=0, num_returns="streaming", name=job.name)
            self._tasks[task.remote(job, Path.cwd(), env)] = job

    def poll(self) -> Iterator[tuple[Job, Started | Ended]]:
        """Yield what the tasks yielded."""
        ray = self.connect()
        ready, _ = ray.wait(list(self._tasks), timeout=_WAIT, fetch_local=False)
        for task in ready:
            job = self._tasks[task]
            try:
                news = ray.get(next(task))
            except StopIteration:  # it met the stop file
                ended = Ended(None, "not started")
            except ray.exceptions.RayError as error:
                ended = Ended(None, f"Ray lost it ({type(error).__name__}): {_first_line(error)}")
            else:
                if isinstance(news, str):
                    self._started.add(job.name)
                    yield job, Started(news)
                    continue
                ended = Ended(news)
            del self._tasks[task]
            self._started.discard(job.name)
            yield job, ended
        if self._stopped_at is not None and time.monotonic() - self._stopped_at > _GRACE and not ready:
            for task, job in self._tasks.items():
                if job.name not in self._started:  # one that begins ends by itself; this one may never get room
                    ray.cancel(task)

    def stop(self, kill: bool) -> None:
        """Have the jobs save and end, or end at once."""
        super().stop(kill)
        self._stopped_at = time.monotonic()

    def connect(self) -> Any:
        """Return Ray, joined or started once; it stays up between a sweeper's batches and ends with this process."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # these are read when Ray is imported or started
        if self.address is None:
            os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # nobody else is to reach it, and it ends with the sweep
            # Ray ends its workers with this process; what they started gets SIGTERM from the kernel, and saves
            os.environ.setdefault("RAY_kill_child_processes_on_worker_exit", "0")
        try:
            import ray
        except ImportError:
            fail("hydra/launcher=ray needs the package ray, which is not here: pip install 'genoseq[ray]'")
        if ray.is_initialized():
            return ray
        own: dict[str, Any] = {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus, "include_dashboard": False}
        options = own if self.address is None else {}
        try:
            ray.init(self.address or "local", log_to_driver=False, logging_level=logging.ERROR, **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"Ray cannot be reached at hydra.launcher.address={self.address}: {_first_line(error)}"
            ) from error
        return ray

    def _lease(self, trainer: Mapping[str, Any]) -> dict[str, float]:
        """Return what a job holds while it runs."""
        gpus = self.gpus_per_job
        if gpus is None:
            most = int(max((node["num_gpus"] for node in self._nodes()), default=0))
            gpus = 0 if trainer.get("accelerator") == "cpu" or not most else processes(trainer, most)
        return {"num_gpus": gpus, "num_cpus": self.cpus_per_job or processes(trainer, 1)}

    def _nodes(self) -> list[dict[str, float]]:
        resources = [node["Resources"] for node in self.connect().nodes() if node["Alive"]]
        return [{"num_gpus": node.get("GPU", 0.0), "num_cpus": node.get("CPU", 0.0)} for node in resources]


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
