"""Run the jobs of a sweep: one loop that starts and follows them on a backend, in a Hydra launcher."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from genoseq.configs import check_same
from genoseq.errors import UserError, fail
from genoseq.files import read_objective
from genoseq.overrides import quote
from genoseq.sweeps.jobs import (
    LOG,
    Job,
    Record,
    command,
    cost,
    read_record,
    reason,
    run_name,
    task_module,
    varied_keys,
)
from genoseq.sweeps.process import KILL, SAVE, STOP, request_stop

if TYPE_CHECKING:
    from filelock import FileLock


@dataclass(frozen=True)
class Started:
    """A job began, or began again, on `device`."""

    device: str


@dataclass(frozen=True)
class Ended:
    """A job ended with exit code `code`; None if what ran it was lost or never began, and `why` says how."""

    code: int | None
    why: str | None = None


@dataclass
class Backend(ABC):
    """Where jobs run. Its options are those of its file in ``conf/hydra/launcher``, where they are explained.

    Attributes
    ----------
    sweep : Path
        The sweep's folder.
    """

    queues: ClassVar[bool] = True  # takes jobs that have to wait for room
    sweep: Path

    @abstractmethod
    def room(self, trainers: Sequence[Mapping[str, Any]], jobs: int) -> int:
        """Return how many of `jobs` jobs with these ``trainer`` nodes run at a time.

        Raises
        ------
        UserError
            If one of them fits nowhere.
        """

    @abstractmethod
    def start(self, jobs: Sequence[Job]) -> None:
        """Start jobs, or queue them."""

    @abstractmethod
    def poll(self) -> Iterator[tuple[Job, Started | Ended]]:
        """Wait a moment and yield what happened."""

    def stop(self, kill: bool) -> None:
        """Have the jobs save and end, or end at once, and those that have not begun never begin; each still ends.

        By a file, as the sweep's folder is all that machines surely share.
        """
        request_stop(self.sweep, KILL if kill else SAVE)


def run_jobs(backend: Backend, jobs: Sequence[Job], record: Record, retries: int = 0) -> int | None:
    """Run jobs on a backend, the longest first, and keep `record` up to date.

    Parameters
    ----------
    backend : Backend
    jobs : sequence of Job
    record : Record
    retries : int
        How often a failed job is started again.

    Returns
    -------
    int or None
        The signal that stopped them, if one did: the first has the running jobs save and end, the second kills them.
    """
    from genoseq.sweeps.display import Display

    (backend.sweep / STOP).unlink(missing_ok=True)
    at_a_time = backend.room([job.trainer for job in jobs], len(jobs))
    most = len(jobs) if backend.queues else at_a_time
    waiting = deque(sorted(jobs, key=lambda job: -job.cost))  # short ones at the end leave no device idle
    active: list[Job] = []
    began: dict[str, float] = {}
    with Signals() as signals, Display(jobs) as display:
        try:
            while active or (waiting and not signals.count):
                if signals.news():
                    backend.stop(kill=signals.count > 1)
                if not signals.count and waiting and len(active) < most:
                    batch = [waiting.popleft() for _ in range(min(len(waiting), most - len(active)))]
                    backend.start(batch)
                    active += batch
                for job, event in backend.poll():
                    since = began.pop(job.name, None)
                    if since is not None:
                        job.seconds = (job.seconds or 0.0) + time.monotonic() - since
                    if isinstance(event, Started):
                        job.state, job.device, job.why = "running", event.device, None
                        job.attempts += 1
                        began[job.name] = time.monotonic()
                    else:
                        active.remove(job)
                        _judge(job, event, signals.count > 0, since is not None)
                        if job.state == "failed" and job.failures <= retries:
                            job.state = "waiting"
                            waiting.append(job)
                    record.update(job)
                    display.changed(job)
                display.tick()
        except BaseException:
            backend.stop(kill=False)
            raise
    return signals.number


def _judge(job: Job, ended: Ended, stopping: bool, began: bool) -> None:
    """Set the state of a job that has ended."""
    if job.finished and ended.code in (0, None):
        job.state = "done"
    elif stopping:
        job.state = "stopped" if began else "waiting"
    else:
        job.failures += 1
        job.state = "failed"
        job.why = ended.why or (reason(ended.code, job.folder / LOG) if ended.code else "ended without a result")


class JobLauncher(Launcher):  # type: ignore[misc]
    """A Hydra launcher whose jobs are commands, run by a backend.

    Each job's folder is named after its settings. A job whose result is there is not run again.

    Parameters
    ----------
    retries : int
        How often a failed job is started again; it resumes from its last checkpoint.
    options : Any
        The backend's.

    Attributes
    ----------
    varied : list of str or None
        Override keys that name the folders; if a sweeper sets none, those with several values in the command.
    """

    kind: ClassVar[type[Backend]]

    def __init__(self, retries: int = 0, **options: Any) -> None:
        self.retries, self._options = retries, options
        self._lock: FileLock | None = None
        self.varied: list[str] | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives and make the backend."""
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function
        self.folder = Path(str(config.hydra.sweep.dir)).resolve()
        self.backend = self.kind(self.folder, **self._options)

    def at_a_time(self) -> int:
        """Return how many jobs run side by side, for a sweeper that proposes as many."""
        try:
            return self.backend.room([_plain(self.config.get("trainer"))], sys.maxsize)
        except UserError as error:
            fail(str(error))

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs that have no result yet; return every job's validation bits per base, nan for a failed one."""
        try:
            self._lock = self._lock or lock(self.folder)
            module, varied = task_module(self.task_function), self.varied or varied_keys(self.config)
            jobs: dict[str, Job] = {}
            configs: dict[str, DictConfig] = {}
            names = [run_name(overrides, varied) for overrides in job_overrides]
            for num, (name, overrides) in enumerate(zip(names, job_overrides, strict=True), start=initial_job_idx):
                if name not in jobs:  # a sweeper may ask for the same settings twice
                    configs[name], jobs[name] = self._compose(module, num, name, list(overrides))
            record = Record(self.folder, module.rpartition(".")[2], varied)
            for job in jobs.values():
                record.recall(job)
            record.update(*jobs.values())
            todo = [job for job in jobs.values() if job.state != "done"]
            self._announce(len(jobs), todo)
            stopped = run_jobs(self.backend, todo, record, self.retries) if todo else None
        except UserError as error:
            fail(str(error))
        if stopped is not None:
            finish(self.folder)
            print(f"Stopped. Resume with: {self._again()}", flush=True)
            raise SystemExit(128 + stopped)
        return [self._returned(jobs[name], configs[name]) for name in names]

    def _compose(self, module: str, num: int, name: str, overrides: list[str]) -> tuple[DictConfig, Job]:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        folder = self.folder / name
        line = command(self.config, module, overrides, folder, num)
        job = Job(name, folder, overrides, line, _plain(config.get("trainer")), cost(config))
        check_same(folder, _without_hydra(config), "sweep.dir")
        job.state = "done" if job.finished else "waiting"
        return config, job

    def _announce(self, total: int, todo: Sequence[Job]) -> None:
        done, resumed = total - len(todo), sum(job.has_checkpoint for job in todo)
        text = f"{total} jobs in {self.folder}" if total > 1 else f"1 job in {self.folder}"
        text += f"; {done} finished before" if done else ""
        print(text + (f"; {resumed} resumed from checkpoints" if resumed else ""), flush=True)

    def _again(self) -> str:
        """Return the command that resumes this sweep."""
        arguments = [a for a in sys.argv[1:] if not a.startswith(("sweep.dir=", "hydra.sweep.dir="))]
        folder = str(self.folder)
        arguments.append(f"sweep.dir={folder if set(folder).isdisjoint('=,') else quote(folder)}")
        return shlex.join(["python", "-m", task_module(self.task_function), *arguments])

    def _returned(self, job: Job, config: DictConfig) -> JobReturn:
        value = read_objective(job.folder) if job.state == "done" else None
        hydra = OmegaConf.masked_copy(config, "hydra")
        out = JobReturn(overrides=job.overrides, cfg=_without_hydra(config), hydra_cfg=hydra)
        out.working_dir, out.task_name = str(job.folder), config.hydra.job.name
        # a failed job is a job without a value: an exception here would keep a sweeper from the others' values
        out.status, out.return_value = JobStatus.COMPLETED, float("nan") if value is None else value
        return out


def _without_hydra(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def _plain(node: Any) -> dict[str, Any]:
    return dict(OmegaConf.to_container(node, resolve=True)) if OmegaConf.is_config(node) else {}  # type: ignore[arg-type]


def lock(folder: Path, name: str = ".lock") -> FileLock:
    """Return a held lock on a sweep's folder; it ends with the process that holds it.

    Raises
    ------
    UserError
        If another process runs the sweep.
    """
    from filelock import FileLock, Timeout  # here, as every Hydra application imports this module

    folder.mkdir(parents=True, exist_ok=True)
    held = FileLock(folder / name)
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise UserError(f"another process runs the sweep in {folder}; wait for it or give another sweep.dir") from None
    return held


def finish(folder: Path) -> int:
    """Write and print what a sweep found, whatever launched it; return how many jobs (or reports) failed."""
    record = read_record(folder)
    failed = {job["name"]: job["why"] for job in record.get("jobs", []) if job["state"] == "failed"}
    if not record:  # Hydra's own launchers leave none
        failed = {file.parent.name: _why(file) for file in sorted(folder.glob("*/failed.json"))}
    if record.get("command", "train") != "train" or any(folder.glob("*/evaluation.json")):
        for name, why in failed.items():
            print(f"failed  {name}: {why}")
        print(f"files: {folder}")
        return len(failed)
    from genoseq.sweeps.table import write_sweep

    try:
        write_sweep(folder)
    except UserError as error:
        print(f"genoseq: {error}")
        return len(failed) + 1
    except Exception:  # Hydra would make a warning of it and end with code 0
        traceback.print_exc()
        return len(failed) + 1
    return len(failed)


def _why(file: Path) -> str:
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))["why"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"see {file.parent}"


class Signals:
    """Count Ctrl-C and SIGTERM instead of dying of them; a signal that is ignored stays so.

    Attributes
    ----------
    number : int or None
        The first signal.
    count : int
        How many came.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.count = self._seen = 0
        self._restore = ExitStack()

    def __enter__(self) -> Signals:
        """Take the signals over (only the main thread may)."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._restore.callback(signal.signal, number, signal.signal(number, self._receive))
        return self

    def __exit__(self, *error: object) -> None:
        """Give them back."""
        self._restore.close()

    def _receive(self, number: int, frame: Any) -> None:
        self.number = self.number or number
        self.count += 1

    def news(self) -> bool:
        """Return whether a signal came since the last call."""
        seen, self._seen = self._seen, self.count
        return self._seen > seen
