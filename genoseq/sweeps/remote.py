"""What launchers share whose jobs run on other machines: jobs go out, news of them come in, a stop is passed on."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from omegaconf import DictConfig

from genoseq.sweeps import stop
from genoseq.sweeps.display import Display
from genoseq.sweeps.jobs import LOG, Job, reason
from genoseq.sweeps.launcher import JobLauncher
from genoseq.sweeps.record import Record


@dataclass(frozen=True)
class Started:
    """A job began, or began again, on `device`."""

    job: Job
    device: str


@dataclass(frozen=True)
class Ended:
    """A job ended with exit code `code`; without one if what ran it was lost, and `why` says how."""

    job: Job
    code: int | None
    why: str | None = None


class RemoteLauncher(JobLauncher):
    """Submits jobs to something that finds places for them.

    The sweep's folder, the working folder and the Python environment must be at the same path on every machine.

    Parameters
    ----------
    retries : int
        How often a failed job is submitted again; it goes on from its last checkpoint.
    """

    def __init__(self, retries: int = 0) -> None:
        super().__init__()
        self._retries = retries

    @abstractmethod
    def begin(self, jobs: Sequence[Job], configs: Sequence[DictConfig]) -> int:
        """Make ready for a batch; return how many of its jobs may run at a time."""

    @abstractmethod
    def submit(self, jobs: Sequence[Job]) -> None:
        """Hand jobs over."""

    @abstractmethod
    def news(self) -> Iterable[Started | Ended]:
        """Wait a moment and return what happened."""

    @abstractmethod
    def withdraw(self) -> Sequence[Job]:
        """Take back, and return, the jobs that have no place yet."""

    def execute(self, jobs: Sequence[Job], configs: Sequence[DictConfig], record: Record) -> int | None:
        """Submit the jobs and follow them to their end."""
        stop.clear(self.folder)  # what stopped the sweep before
        at_a_time = self.begin(jobs, configs)
        left, since = list(jobs), dict[str, float]()
        with stop.Signals() as signals, Display(jobs, at_a_time) as display:
            try:
                self.submit(jobs)
                while left:
                    if (word := signals.news()) is not None:
                        stop.ask(self.folder, word)
                    if signals.count:
                        back = {job.name for job in self.withdraw()}
                        left = [job for job in left if job.name not in back]
                    for event in self.news():
                        job, now, stopping = event.job, time.monotonic(), signals.count > 0
                        if job.name in since:
                            job.seconds = (job.seconds or 0.0) + now - since.pop(job.name)
                        if isinstance(event, Started):
                            job.state, job.device, job.why = "running", event.device, None
                            job.attempts += 1
                            since[job.name] = now
                        else:
                            self._ended(event, stopping)
                        record.update(job)
                        display.changed(job)
                        if job.state == "waiting":
                            self.submit([job])
                        elif job.state != "running":
                            left.remove(job)
                    display.tick()
            except BaseException:
                stop.ask(self.folder, stop.SAVE)  # nobody would look after them
                raise
        return signals.number

    def _ended(self, event: Ended, stopping: bool) -> None:
        job = event.job
        if job.finished and event.code in (0, None):
            job.state = "done"
        elif stopping:
            job.state = "stopped"
        else:
            job.state = "failed"
            job.why = event.why or (reason(event.code, job.folder / LOG) if event.code else "ended without a result")
            job.failures += 1
            if job.failures <= self._retries:
                job.state = "waiting"
