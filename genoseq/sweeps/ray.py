"""A launcher that has Ray find a machine and devices for each job; imports Ray when a sweep begins."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from genoseq.errors import UserError, fail
from genoseq.sweeps import stop
from genoseq.sweeps.child import Child
from genoseq.sweeps.devices import processes
from genoseq.sweeps.jobs import Job
from genoseq.sweeps.remote import Ended, RemoteLauncher, Started

_WAIT = 0.5  # seconds that a look at the tasks takes at most


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported or started
    try:
        import ray
    except ImportError:
        fail("hydra/launcher=ray needs the package ray, which is not here: pip install 'genoseq[ray]'")
    return ray


def _run(job: Job, cwd: Path, env: dict[str, str]) -> Iterator[Any]:
    """Run one job in a worker of Ray; yields where it is when it begins, and its exit code when it has ended."""
    import ray

    if stop.asked(job.folder.parent):
        return
    gpus = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
    yield " ".join([socket.gethostname(), *(["gpu", ",".join(gpus)] if gpus else [])])
    # Ray has set CUDA_VISIBLE_DEVICES to what the task holds
    with Child(job.prepare(), job.folder, cwd, env) as child:
        yield child.wait()


class RayCluster(RemoteLauncher):
    """Runs each job as a task of Ray, on this machine or on a cluster.

    Parameters
    ----------
    address : str, optional
        The cluster to join: ``auto``, or HOST:PORT. Ray is started on this machine if left out.
    num_gpus, num_cpus : int, optional
        What Ray started here may give out; what the machine has if left out.
    gpus_per_job : float, optional
        GPUs that a job holds, a half for two jobs to share one. Its ``trainer.devices`` if left out; none if the job
        asks for the CPU or there are no GPUs.
    cpus_per_job : int, optional
        Cores that a job holds; one for each of its processes if left out.
    retries : int
        How often a failed job is started again, from its last checkpoint.
    """

    def __init__(
        self,
        address: str | None = None,
        num_gpus: int | None = None,
        num_cpus: int | None = None,
        gpus_per_job: float | None = None,
        cpus_per_job: int | None = None,
        retries: int = 0,
    ) -> None:
        super().__init__(retries)
        self._address, self._num_gpus, self._num_cpus = address, num_gpus, num_cpus
        self._gpus_per_job, self._cpus_per_job = gpus_per_job, cpus_per_job
        self._leases: dict[str, dict[str, float]] = {}  # by job
        self._devices: dict[str, int] = {}
        self._tasks: dict[Any, Job] = {}
        self._started: set[str] = set()

    def at_a_time(self) -> int:
        """Return how many jobs the cluster has room for now."""
        return self._room(self._lease(self.config))

    def begin(self, jobs: Sequence[Job], configs: Sequence[DictConfig]) -> int:
        """Note what each job holds; check that some machine has it."""
        for job, config in zip(jobs, configs, strict=True):
            if int((config.get("trainer") or {}).get("num_nodes", 1)) > 1:
                raise UserError(
                    "hydra/launcher=ray runs a job on one machine; trainer.num_nodes of more than 1 needs "
                    "hydra/launcher=submitit_slurm"
                )
            lease = self._leases[job.name] = self._lease(config)
            self._check(lease)
        return min(len(jobs), max(1, min(self._room(lease) for lease in self._leases.values())))

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue tasks; a job that fails is ours to start again, not Ray's."""
        ray = self._connected()
        for job in jobs:
            lease = self._leases[job.name]
            threads = max(1, int(lease["num_cpus"]) // job.devices)
            env = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(threads)}
            task = ray.remote(_run).options(**lease, max_retries=0, num_returns="streaming", name=job.name)
            self._tasks[task.remote(job, Path.cwd(), env)] = job

    def news(self) -> Iterable[Started | Ended]:
        """Return what the tasks yielded."""
        ray = self._connected()
        ready, _ = ray.wait(list(self._tasks), timeout=_WAIT, fetch_local=False)
        for task in ready:
            job = self._tasks[task]
            try:
                said = ray.get(next(task))
            except StopIteration:  # it met the stop file
                ended = Ended(job, None, "not started")
            except ray.exceptions.RayError as error:
                ended = Ended(job, None, f"Ray lost it ({type(error).__name__}): {_first_line(error)}")
            else:
                if isinstance(said, str):
                    self._started.add(job.name)
                    yield Started(job, said)
                    continue
                ended = Ended(job, said)
            del self._tasks[task]
            self._started.discard(job.name)
            yield ended

    def withdraw(self) -> Sequence[Job]:
        """Take back the tasks that have no machine yet."""
        ray = self._connected()
        waiting = {task: job for task, job in self._tasks.items() if job.name not in self._started}
        for task in waiting:
            ray.cancel(task)
            del self._tasks[task]
        return list(waiting.values())

    def _connected(self) -> Any:
        """Return Ray, joined or started once; it stays up between a sweeper's batches and ends with this process."""
        if self._address is None:
            os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # nobody else is to reach it, and it ends with the sweep
            # when this process is gone Ray ends its workers; what they started is told by the kernel, and saves
            os.environ.setdefault("RAY_kill_child_processes_on_worker_exit", "0")
        ray = _ray()
        if ray.is_initialized():
            return ray
        given: dict[str, Any] = {"address": self._address}
        if self._address is None:
            given = {"address": "local", "num_cpus": self._num_cpus, "num_gpus": self._num_gpus}
            given["include_dashboard"] = False
        try:
            ray.init(**given, log_to_driver=False, logging_level="error")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"Ray cannot be reached at hydra.launcher.address={self._address}: {_first_line(error)}"
            ) from error
        return ray

    def _lease(self, config: DictConfig) -> dict[str, float]:
        trainer = config.get("trainer") or {}
        most = max((node.get("GPU", 0.0) for node in self._nodes()), default=0.0)
        gpus = self._gpus_per_job
        if gpus is None:
            gpus = 0 if trainer.get("accelerator") == "cpu" or not most else processes(trainer, int(most))
        return {"num_gpus": gpus, "num_cpus": self._cpus_per_job or processes(trainer, 1)}

    def _nodes(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._connected().nodes() if node["Alive"]]

    def _room(self, lease: dict[str, float]) -> int:
        room = [
            min(
                int(node.get(name, 0.0) / lease[key])
                for name, key in {"GPU": "num_gpus", "CPU": "num_cpus"}.items()
                if lease[key]
            )
            for node in self._nodes()
        ]
        return max(1, sum(room))

    def _check(self, lease: dict[str, float]) -> None:
        nodes = self._nodes()
        if any(n.get("GPU", 0) >= lease["num_gpus"] and n.get("CPU", 0) >= lease["num_cpus"] for n in nodes):
            return
        has = "; ".join(f"{n.get('GPU', 0):g} and {n.get('CPU', 0):g}" for n in nodes)
        raise UserError(
            f"a job asks for {lease['num_gpus']:g} GPU(s) and {lease['num_cpus']:g} core(s), and no machine of Ray's "
            f"has them (GPUs and cores: {has}); lower hydra.launcher.gpus_per_job, hydra.launcher.cpus_per_job or "
            "trainer.devices"
        )


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
