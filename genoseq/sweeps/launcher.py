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
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

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


class Started(NamedTuple):
    """A job began, or began again."""

    device: str


class Ended(NamedTuple):
    """A job ended."""

    code: int | None  # None if what ran it was lost or never began
    why: str | None = None


@dataclass
class Backend(ABC):
    """Where jobs run. Its options are those of its file in ``conf/hydra/launcher``, where they are explained."""

    queues: ClassVar[bool] = True  # takes jobs that have to wait for room
    sweep: Path  # the sweep's folder

    @abstractmethod
    def room(self, trainers: Sequence[Mapping[str, Any]], jobs: int) -> int:
        """Return how many of `jobs` jobs with these ``trainer`` nodes run at a time; refuse what fits nowhere."""

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
    """Run jobs on a backend, the longest first, starting a failed one again `retries` times; return what stopped them.

    The first Ctrl-C or SIGTERM has the running jobs save and end, the second kills them.
    """
    from genoseq.sweeps.display import Display

    (backend.sweep / STOP).unlink(missing_ok=True)
    at_a_time = backend.room([job.trainer for job in jobs], len(jobs))
    most = len(jobs) if backend.queues else at_a_time
    asked = 0  # signals that the backend knows of
    waiting = deque(sorted(jobs, key=lambda job: -job.cost))  # short ones at the end leave no device idle
    active: list[Job] = []
    began: dict[str, float] = {}
    with catch_signals() as signals, Display(jobs) as display:
        try:
            while active or (waiting and not signals):
                if len(signals) > asked:
                    asked = len(signals)
                    backend.stop(kill=asked > 1)
                if not signals and waiting and len(active) < most:
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
                        _judge(job, event, bool(signals), since is not None)
                        if job.state == "failed" and job.failures <= retries:
                            job.state = "waiting"
                            waiting.append(job)
                    record.update(job)
                    display.changed(job)
                display.tick()
        except BaseException:
            backend.stop(kill=False)
            raise
    return signals[0] if signals else None


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
    """

    kind: ClassVar[type[Backend]]
    varied: Sequence[str] = ()  # keys that name the folders; if a sweeper sets none, those with several values

    def __init__(self, retries: int = 0, **options: Any) -> None:
        self.retries, self._options = retries, options

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
        module, jobs, configs, stopped = task_module(self.task_function), {}, {}, None
        try:
            varied = self.varied or varied_keys(self.config)
            names = [run_name(overrides, varied) for overrides in job_overrides]
            with lock(self.folder):
                for num, (name, overrides) in enumerate(zip(names, job_overrides, strict=True), start=initial_job_idx):
                    if name not in jobs:  # a sweeper may ask for the same settings twice
                        configs[name], jobs[name] = self._compose(module, num, name, list(overrides))
                record = Record(self.folder, module.rpartition(".")[2], varied)
                record.add(jobs.values())
                todo = [job for job in jobs.values() if job.state != "done"]
                self._announce(len(jobs), todo)
                if todo:
                    stopped = run_jobs(self.backend, todo, record, self.retries)
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
        done = total - len(todo)
        resumed = sum((job.folder / "checkpoints" / "last.ckpt").is_file() for job in todo)
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


def lock(folder: Path, name: str = ".lock") -> AbstractContextManager[object]:
    """Return a held lock on a sweep's folder; refuse one that another process holds."""
    from filelock import FileLock, Timeout  # here, as every Hydra application imports this module

    folder.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(folder / name).acquire(timeout=0)
    except Timeout:
        raise UserError(f"another process runs the sweep in {folder}; wait for it or give another sweep.dir") from None


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


@contextmanager
def catch_signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM in a list instead of dying of them; a signal that is ignored stays so."""
    received: list[int] = []
    caught = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        caught = []  # no other thread may
    before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in caught}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
