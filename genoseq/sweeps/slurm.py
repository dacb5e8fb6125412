"""Run jobs through SLURM or, to try it out, on this machine in SLURM's place; imports submitit when a sweep begins."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from genoseq.errors import UserError, fail
from genoseq.files import write_json
from genoseq.sweeps.jobs import Job, processes
from genoseq.sweeps.launcher import Backend, Ended, Started
from genoseq.sweeps.process import Process, stop_request, thread_variables

PREEMPT = "USR1"  # the signal that SLURM sends before a job's time is up
_POLL = 1.0  # seconds between looks at the results
_QUEUE = 15.0  # seconds between looks at SLURM's queue; a third of that while the sweep is being stopped


def _submitit() -> Any:
    os.environ["SUBMITIT_PREEMPT_SIGNAL"] = PREEMPT
    try:
        import submitit
        from submitit.core.job_environment import JobEnvironment
    except ImportError:
        fail("hydra/launcher=submitit_* needs the package submitit, which is not here: pip install 'genoseq[submitit]'")
    JobEnvironment.USR_SIG = PREEMPT  # read from the variable when the class was made, perhaps by someone else
    return submitit


class Shape(NamedTuple):
    """What a job asks SLURM for: nodes, tasks on each, GPUs on each."""

    nodes: int
    tasks: int
    gpus: int


@dataclass(frozen=True)
class Task:
    """Runs a job's command in one task, a rank of the job; pickled by submitit."""

    job: Job
    cwd: Path  # where the sweep was started
    threads: int  # of each rank

    def __call__(self) -> int | None:
        """Run the command and return its exit code; None if the sweep was stopped before it could start."""
        from submitit.core.job_environment import JobEnvironment

        env = JobEnvironment()
        timeout = env._usr_sig()
        requeue = signal.getsignal(timeout)
        received: list[int] = []
        process: Process | None = None

        def save(number: int, frame: Any) -> None:
            received.append(number)
            if process is not None:
                process.save()

        for number in (timeout, signal.SIGTERM):  # submitit would pass neither on
            signal.signal(number, save)
        if stop_request(self.job.folder.parent):
            return None
        if env.global_rank == 0:
            with _hosts_file(env.paths.folder, env.job_id).open("a") as hosts:
                hosts.write(f"{socket.gethostname()}\n")
        process = Process(self.job, self._variables(env), self.cwd, blocked=[timeout])
        if received:  # before there was a process
            process.save()
        code = process.wait()
        if not code or not received:
            return code
        # it has saved; without a result for submitit it counts as not ended, and starts again or was cancelled
        if received[0] == timeout:
            requeue(timeout, None)  # type: ignore[operator, misc]  # on the first rank this ends the process
            raise SystemExit(0)
        raise SystemExit(128 + received[0])

    def checkpoint(self) -> Any:
        """Return what is submitted when the job is queued again: the same, as the command resumes by itself."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _variables(self, env: Any) -> dict[str, str]:
        """Return the variables of this rank as torch names them; Lightning takes SLURM's own where there are any."""
        from submitit.helpers import TorchDistributedEnvironment

        variables = thread_variables(self.threads)
        if env.num_tasks > 1:
            world = TorchDistributedEnvironment()
            names = ("master_addr", "master_port", "rank", "world_size", "local_rank", "local_world_size")
            variables |= {name.upper(): str(getattr(world, name)) for name in names} | {"NODE_RANK": str(env.node)}
            if env.num_nodes == 1:  # a machine need not know itself by its name
                variables["MASTER_ADDR"] = "127.0.0.1"
        return variables


def _hosts_file(folder: Path, job_id: str) -> Path:
    """Return the file with the machine of each start of a submitted job, a line a start."""
    return folder / f"{job_id}_hosts.txt"


class _Plain(pickle.Unpickler):
    """Reads texts and numbers, which is all that a job leaves; a sweep's folder may come from somebody else."""

    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuse every object that is not plain."""
        raise pickle.UnpicklingError(f"{module}.{name} is not plain")


def _results(submitted: Any) -> list[Path]:
    """Return the files that submitit's job leaves when it has ended, one a task."""
    return [submitted.task(number).paths.result_pickle for number in range(submitted.num_tasks)]


def _ended(submitted: Any) -> bool:
    return all(result.exists() for result in _results(submitted))


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2].strip()


@dataclass
class Slurm(Backend):
    """Submits the jobs as SLURM job arrays, one rank a task; a job whose time is up saves and is queued again.

    A job's nodes are its ``trainer.num_nodes``. Jobs that an earlier command left in the queue are followed. The
    sweep's folder, the working folder and the Python environment must be at the same path on every machine.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    devices_per_node: int | None = None
    gpus_per_node: int | None = None
    cpus_per_task: int = 4
    mem_gb: float | None = 16
    timeout_min: int = 240
    signal_delay_s: int = 120
    max_num_timeout: int = 10
    array_parallelism: int = 64
    setup: Sequence[str] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._submitted: dict[str, tuple[Job, Any]] = {}  # by the job's name, with submitit's job
        self._starts: dict[str, int] = {}  # that are known of
        self._missing: set[str] = set()  # from the queue, at the last look
        self._looked_at = 0.0

    @property
    def _folder(self) -> Path:
        """Submitit's folder of a job, %j being the job's number."""
        return self.sweep / ".submitit" / "%j"

    def room(self, trainers: Sequence[Mapping[str, Any]], jobs: int) -> int:
        """Return how many jobs of an array may run side by side."""
        for trainer in trainers:
            self.shape(trainer)
        return min(jobs, self.array_parallelism)

    def shape(self, trainer: Mapping[str, Any]) -> Shape:
        """Return what a job with this ``trainer`` node asks for."""
        asked, devices = trainer.get("devices", 1), self.devices_per_node
        all_of_node = str(asked) in ("auto", "-1")
        if all_of_node and devices is None:
            raise UserError(
                f"trainer.devices={asked} does not say how many tasks a node runs: give a number, or "
                "hydra.launcher.devices_per_node"
            )
        if not all_of_node and devices not in (None, processes(trainer, 0)):
            raise UserError(f"hydra.launcher.devices_per_node={devices} and trainer.devices={asked} are not the same")
        tasks, gpus = devices or processes(trainer, 0), self.gpus_per_node
        if gpus is None:
            gpus = 0 if trainer.get("accelerator") == "cpu" else tasks
        return Shape(int(trainer.get("num_nodes", 1)), tasks, gpus)

    def executor(self, shape: Shape) -> Any:
        """Return submitit's executor for jobs of one shape."""
        optional = ("partition", "account", "qos", "constraint", "array_parallelism", "signal_delay_s")
        executor = _submitit().AutoExecutor(self._folder, cluster="slurm", slurm_max_num_timeout=self.max_num_timeout)
        executor.update_parameters(
            name="genoseq",
            nodes=shape.nodes,
            tasks_per_node=shape.tasks,
            gpus_per_node=shape.gpus or None,
            cpus_per_task=self.cpus_per_task,
            mem_gb=self.mem_gb,
            timeout_min=self.timeout_min,
            # where a site has jobs start without the variables of who submits them
            slurm_setup=[f"export SUBMITIT_PREEMPT_SIGNAL={PREEMPT}", *self.setup],
            slurm_additional_parameters=dict(self.extra),
            **{f"slurm_{name}": value for name in optional if (value := getattr(self, name)) is not None},
        )
        return executor

    def start(self, jobs: Sequence[Job]) -> None:
        """Submit an array for each shape; a job that an earlier command left in the queue is followed instead."""
        left = {} if self._submitted else self._left_in_queue()
        by_shape: dict[Shape, list[Job]] = {}
        for job in jobs:
            if job.name in left:
                self._submitted[job.name] = (job, left[job.name])
            else:
                by_shape.setdefault(self.shape(job.trainer), []).append(job)
        for shape, new in by_shape.items():
            submitted = self._submit(self.executor(shape), [Task(job, Path.cwd(), self.cpus_per_task) for job in new])
            self._submitted |= {job.name: (job, one) for job, one in zip(new, submitted, strict=True)}
        ids = {name: [one.job_id, one.num_tasks] for name, (_, one) in self._submitted.items()}
        write_json(self._folder.with_name("jobs.json"), ids)

    def _submit(self, executor: Any, tasks: Sequence[Task]) -> list[Any]:
        # a Ctrl-C in the terminal reaches the jobs through the stop file only: what is blocked is so in a child too
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return list(executor.submit_array(tasks))
        except (OSError, _submitit().core.utils.FailedJobError) as error:
            raise UserError(f"sbatch did not take the jobs: {_last_line(str(error)) or repr(error)}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _left_in_queue(self) -> dict[str, Any]:
        try:
            ids = json.loads(self._folder.with_name("jobs.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        queue, kind = self._queue() or set(), _submitit().SlurmJob
        jobs = {name: kind(self._folder, i, list(range(tasks))) for name, (i, tasks) in ids.items() if i in queue}
        return {name: job for name, job in jobs.items() if not _ended(job)}  # which are listed a little longer

    def _queue(self) -> set[str] | None:
        """Return the ids of the jobs that wait or run; None if SLURM does not answer. It needs no accounting."""
        squeue = ["squeue", "--noheader", "--array", "--format=%i", "--me"]
        asked = subprocess.run(squeue, capture_output=True, text=True)
        return None if asked.returncode else set(asked.stdout.split())

    def poll(self) -> Iterator[tuple[Job, Started | Ended]]:
        """Yield which jobs started and which ended."""
        time.sleep(_POLL)
        lost = self._lost()
        for name, (job, submitted) in list(self._submitted.items()):
            hosts = _hosts_file(submitted.paths.folder, submitted.job_id)
            starts = hosts.read_text().split() if hosts.exists() else []
            if len(starts) > self._starts.get(name, 0):
                self._starts[name] = len(starts)
                yield job, Started(starts[-1])
            if submitted.job_id in lost or _ended(submitted):
                del self._submitted[name]
                self._starts.pop(name, None)
                yield job, self._outcome(submitted)

    def _lost(self) -> set[str]:
        """Return the ids of jobs that left the queue, seen twice: one whose time is up queues again."""
        stopping, ids = stop_request(self.sweep) is not None, {one.job_id for _, one in self._submitted.values()}
        if time.monotonic() - self._looked_at < (_QUEUE / 3 if stopping else _QUEUE) or not ids:
            return set()
        self._looked_at = time.monotonic()
        if stopping:  # again and again, for the same reason
            self._cancel_waiting(sorted(ids))
        queue = self._queue()
        if queue is None:
            return set()
        before, self._missing = self._missing, ids - queue
        return self._missing & before

    def _cancel_waiting(self, ids: Sequence[str]) -> None:
        """Take the jobs out of the queue that have not begun; those that have end by the stop file."""
        subprocess.call(["scancel", "--state=PENDING", *ids])

    def _state(self, submitted: Any) -> str:
        """Return how a job ended that left no result."""
        shown = subprocess.run(["scontrol", "show", "job", submitted.job_id], capture_output=True, text=True).stdout
        found = re.search(r"JobState=(\w+)", shown)
        return found.group(1) if found else "no longer in the queue"

    def _outcome(self, submitted: Any) -> Ended:
        results, see = _results(submitted), f"see {submitted.paths.folder}"
        try:
            outcomes = [_Plain(io.BytesIO(result.read_bytes())).load() for result in results if result.exists()]
        except pickle.UnpicklingError as error:
            return Ended(None, f"left a result that cannot be read ({error}); {see}")
        for status, trace in outcomes:
            if status == "error":
                return Ended(None, f"{_last_line(trace) or 'failed'}; {see}")
        codes = [code for _, code in outcomes]
        if len(codes) < len(results):
            return Ended(None, f"ended without a result ({self._state(submitted)}); {see}")
        return Ended(None if None in codes else next(filter(None, codes), 0))


class SubmititLocal(Slurm):
    """Does what `Slurm` does, with processes of this machine in place of SLURM's.

    What only SLURM knows has no effect, and jobs side by side share the first GPUs. They are not ended if this process
    is killed: wait for their end before the sweep is started again.
    """

    queues = False  # submitit would start all at once

    def shape(self, trainer: Mapping[str, Any]) -> Shape:
        """Return what a job with this ``trainer`` node asks for."""
        shape = super().shape(trainer)
        if shape.nodes > 1:
            raise UserError(f"hydra/launcher=submitit_local has one node; trainer.num_nodes is {shape.nodes}")
        return shape

    def executor(self, shape: Shape) -> Any:
        """Return submitit's executor for jobs of one shape."""
        executor = _submitit().LocalExecutor(self._folder, max_num_timeout=self.max_num_timeout)
        executor.update_parameters(
            tasks_per_node=shape.tasks,
            gpus_per_node=shape.gpus,
            timeout_min=self.timeout_min,
            signal_delay_s=self.signal_delay_s,
            setup=list(self.setup),
        )
        return executor

    def _left_in_queue(self) -> dict[str, Any]:
        return {}

    def _queue(self) -> set[str]:
        return {one.job_id for _, one in self._submitted.values() if self._state(one) == "RUNNING"}

    def _cancel_waiting(self, ids: Sequence[str]) -> None:
        pass  # what was submitted has begun

    def _state(self, submitted: Any) -> str:
        return str(submitted.get_info()["jobState"])
