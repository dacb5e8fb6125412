"""A launcher that submits jobs to SLURM; imports submitit when a sweep begins."""

from __future__ import annotations

import getpass
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from genoseq.errors import UserError, fail
from genoseq.files import write_atomic
from genoseq.sweeps import stop
from genoseq.sweeps.devices import processes
from genoseq.sweeps.jobs import Job
from genoseq.sweeps.remote import Ended, RemoteLauncher, Started
from genoseq.sweeps.submitit_task import PREEMPT, Task, start_files

_POLL = 1.0  # seconds between looks at the results; submitit itself asks SLURM less and less often
_PRESSING = 10.0  # seconds between questions to SLURM while the sweep is being stopped


@dataclass(frozen=True)
class Shape:
    """What a job asks SLURM for, as its config's ``trainer`` node says."""

    nodes: int
    tasks: int
    gpus: int


def submitit_package() -> Any:
    """Return submitit, with the signal that its jobs are told by."""
    os.environ["SUBMITIT_PREEMPT_SIGNAL"] = PREEMPT
    try:
        import submitit
        from submitit.core.job_environment import JobEnvironment
    except ImportError:
        fail("hydra/launcher=submitit_* needs the package submitit, which is not here: pip install 'genoseq[submitit]'")
    JobEnvironment.USR_SIG = PREEMPT  # read from the variable when the class was made, perhaps by someone else
    return submitit


class SubmititSlurm(RemoteLauncher):
    """Submits the jobs as SLURM job arrays, one rank a task; a job whose time is up saves and is queued again.

    A job's nodes are its ``trainer.num_nodes``.

    Parameters
    ----------
    partition, account, qos, constraint : str, optional
        As ``sbatch`` takes them.
    devices_per_node : int, optional
        Tasks on each node; the job's ``trainer.devices`` if left out.
    gpus_per_node : int, optional
        GPUs on each node; if left out as many as tasks, none if the job asks for the CPU.
    cpus_per_task : int
    mem_gb : float
        Memory on each node, in GiB.
    timeout_min : int
        Minutes until a job has to make room.
    signal_delay_s : int
        Seconds before that at which it is told to save.
    max_num_timeout : int
        How often a job may run out of time and go on.
    array_parallelism : int
        Jobs at a time.
    setup : sequence of str
        Lines of shell before the job.
    extra : mapping
        More of ``sbatch``'s options.
    retries : int
        How often a failed job is submitted again, from its last checkpoint.
    """

    def __init__(
        self,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        devices_per_node: int | None = None,
        gpus_per_node: int | None = None,
        cpus_per_task: int = 4,
        mem_gb: float | None = 16,
        timeout_min: int = 240,
        signal_delay_s: int = 120,
        max_num_timeout: int = 10,
        array_parallelism: int = 64,
        setup: Sequence[str] = (),
        extra: Mapping[str, Any] | None = None,
        retries: int = 0,
    ) -> None:
        super().__init__(retries)
        self._slurm = {"partition": partition, "account": account, "qos": qos, "constraint": constraint}
        self._devices_per_node, self._gpus_per_node = devices_per_node, gpus_per_node
        self._cpus_per_task, self._mem_gb, self._timeout_min = cpus_per_task, mem_gb, timeout_min
        self._signal_delay_s, self._max_num_timeout = signal_delay_s, max_num_timeout
        self._array_parallelism, self._setup, self._extra = array_parallelism, list(setup), dict(extra or {})
        self._shapes: dict[str, Shape] = {}
        self._submitted: dict[str, tuple[Job, Any]] = {}  # by the job's name, with submitit's job
        self._starts: dict[str, int] = {}  # that are known of
        self._asked_at = float("-inf")

    def at_a_time(self) -> int:
        """Return how many jobs of an array may run side by side."""
        return self._array_parallelism

    def begin(self, jobs: Sequence[Job], configs: Sequence[DictConfig]) -> int:
        """Note what each job asks for."""
        submitit_package()
        for job, config in zip(jobs, configs, strict=True):
            self._shapes[job.name] = self.shape(config.get("trainer") or {})
        return min(len(jobs), self._array_parallelism)

    def shape(self, trainer: Any) -> Shape:
        """Return what a job with this ``trainer`` node asks for."""
        asked, devices = processes(trainer, 0), self._devices_per_node
        if devices is None and str(trainer.get("devices")) in ("auto", "-1"):
            raise UserError(
                f"trainer.devices={trainer.get('devices')} does not say how many tasks a node runs: give a number, or "
                "hydra.launcher.devices_per_node"
            )
        if devices is not None and str(trainer.get("devices")) not in ("auto", "-1") and devices != asked:
            raise UserError(f"hydra.launcher.devices_per_node={devices} and trainer.devices={asked} are not the same")
        tasks = devices or asked
        gpus = self._gpus_per_node
        if gpus is None:
            gpus = 0 if trainer.get("accelerator") == "cpu" else tasks
        return Shape(int(trainer.get("num_nodes", 1)), tasks, gpus)

    def executor(self, shape: Shape) -> Any:
        """Return submitit's executor for jobs of one shape."""
        own = {
            **self._slurm,
            "array_parallelism": self._array_parallelism,
            "signal_delay_s": self._signal_delay_s,
            # where a site has jobs start without the variables of who submits them
            "setup": [f"export SUBMITIT_PREEMPT_SIGNAL={PREEMPT}", *self._setup],
            "additional_parameters": self._extra or None,
        }
        executor = submitit_package().AutoExecutor(
            self.place, cluster="slurm", slurm_max_num_timeout=self._max_num_timeout
        )
        executor.update_parameters(
            name="genoseq",
            nodes=shape.nodes,
            tasks_per_node=shape.tasks,
            gpus_per_node=shape.gpus or None,
            cpus_per_task=self._cpus_per_task,
            mem_gb=self._mem_gb,
            timeout_min=self._timeout_min,
            **{f"slurm_{name}": value for name, value in own.items() if value is not None},
        )
        return executor

    @property
    def place(self) -> Path:
        """Submitit's folder of a job, %j being the job's number."""
        return self.folder / ".submitit" / "%j"

    def submit(self, jobs: Sequence[Job]) -> None:
        """Submit an array for each shape; a job that an earlier command left in the queue is followed instead."""
        left = {} if self._submitted else self.left_in_queue()
        for shape in dict.fromkeys(self._shapes[job.name] for job in jobs):
            executor = self.executor(shape)
            new = []
            for job in jobs:
                if self._shapes[job.name] != shape:
                    continue
                if job.name in left:
                    self._submitted[job.name] = job, left[job.name]
                else:
                    new.append(job)
            tasks = [Task(job, Path.cwd(), self._cpus_per_task) for job in new]
            made = self._hand_over(executor, tasks) if tasks else []
            self._submitted |= {job.name: (job, one) for job, one in zip(new, made, strict=True)}
        ids = {name: [one.job_id, one.num_tasks] for name, (_, one) in self._submitted.items()}
        write_atomic(self.place.with_name("jobs.json"), json.dumps(ids))

    def _hand_over(self, executor: Any, tasks: Sequence[Task]) -> list[Any]:
        # a Ctrl-C in the terminal reaches the jobs through the stop file only: what is blocked is so in a child too
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return list(executor.submit_array(tasks))
        except (OSError, submitit_package().core.utils.FailedJobError) as error:
            said = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise UserError(f"sbatch did not take the jobs: {said[-1] if said else error!r}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def left_in_queue(self) -> dict[str, Any]:
        """Return the jobs of this sweep that still wait or run, though the command that submitted them is gone."""
        try:
            ids = json.loads(self.place.with_name("jobs.json").read_text(encoding="utf-8"))
            listed = subprocess.check_output(
                ["squeue", "--noheader", "--array", "--format=%i", f"--user={getpass.getuser()}"], text=True
            )
        except (OSError, ValueError, subprocess.CalledProcessError):
            return {}
        queue = set(listed.split())
        kind = submitit_package().SlurmJob
        return {name: kind(self.place, i, list(range(tasks))) for name, (i, tasks) in ids.items() if i in queue}

    def cancel_waiting(self) -> None:
        """Take the jobs out of the queue that have not begun; those that have end by the stop file."""
        subprocess.call(["scancel", "--state=PENDING", *(one.job_id for _, one in self._submitted.values())])

    def news(self) -> Iterator[Started | Ended]:
        """Return which jobs started and which ended."""
        time.sleep(_POLL)
        stopping = stop.asked(self.folder) is not None
        press = stopping and time.monotonic() - self._asked_at > _PRESSING
        if press and self._submitted:  # again and again, as a job whose time is up queues again
            self._asked_at = time.monotonic()
            self.cancel_waiting()
        for name, (job, submitted) in list(self._submitted.items()):
            done = submitted.done(force_check=press)
            starts = start_files(submitted.paths.folder)
            if len(starts) > self._starts.get(name, 0):
                self._starts[name] = len(starts)
                yield Started(job, json.loads(starts[-1].read_text(encoding="utf-8"))["host"])
            if done:
                del self._submitted[name]
                self._starts.pop(name, None)
                yield self._outcome(job, submitted, stopping)

    def _outcome(self, job: Job, submitted: Any, stopping: bool) -> Ended:
        if stopping and not submitted.paths.result_pickle.exists():
            return Ended(job, None)  # cancelled; submitit would wait for the results of all its tasks
        errors = submitit_package().core.utils
        try:
            codes = submitted.results()
        except (errors.FailedJobError, errors.UncompletedJobError) as error:
            said = [line.strip() for line in str(error).splitlines() if line.strip(" -")]
            trace = isinstance(error, errors.FailedJobError)
            where = submitted.paths.folder
            why = next((line for line in reversed(said[:-3]) if ":" in line), "") if trace else ""
            return Ended(job, None, f"{why or f'ended without a result ({submitted.state})'}; see {where}")
        failed = [code for code in codes if code]
        return Ended(job, None if None in codes else failed[0] if failed else 0)

    def withdraw(self) -> Sequence[Job]:
        """Return no job: each in the queue is followed until it has left it."""
        return []
