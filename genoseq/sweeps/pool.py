"""Runs jobs as processes of their own, as many at a time as there are slots; knows nothing of what they do."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from genoseq.sweeps import stop
from genoseq.sweeps.devices import Slot
from genoseq.sweeps.jobs import LOG, Job, reason

POLL = 0.1  # seconds between looks at the processes


@dataclass
class _Running:
    job: Job
    slot: Slot
    process: subprocess.Popen[bytes]
    since: float


class Pool:
    """A pool of slots.

    Parameters
    ----------
    slots : sequence of Slot
    retries : int
        How often a job that failed is started again.
    changed : callable
        Told each job whose state has changed.
    tick : callable
        Called several times a second, for the display.
    """

    def __init__(
        self,
        slots: Sequence[Slot],
        retries: int = 0,
        changed: Callable[[Job], None] = lambda job: None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._free = deque(slots)
        self._retries, self._changed, self._tick = retries, changed, tick
        self._running: list[_Running] = []
        self._waiting: deque[Job] = deque()
        self._signals = stop.Signals()

    @property
    def signal(self) -> int | None:
        """The signal that stopped the sweep, if one did."""
        return self._signals.number

    def run(self, jobs: Iterable[Job]) -> None:
        """Run every job, the longest first; return when none is left, or, after a signal, when those that ran have."""
        self._waiting.extend(sorted(jobs, key=lambda job: -job.cost))  # short ones at the end leave no device idle
        with ExitStack() as stack:
            stack.callback(self._kill)  # whatever happens here, no job outlives it
            stack.enter_context(self._signals)
            while self._running or (self._waiting and self.signal is None):
                while self._free and self._waiting and self.signal is None:
                    self._start(self._waiting.popleft(), self._free.popleft())
                self._pass_on()
                time.sleep(POLL)
                self._reap()
                self._tick()

    def _start(self, job: Job, slot: Slot) -> None:
        command = job.prepare()
        env = os.environ | slot.environment | {"PYTHONUNBUFFERED": "1", "GENOSEQ_PARENT": str(os.getpid())}
        with (job.folder / LOG).open("ab") as log:
            # a session of its own: a Ctrl-C in the terminal reaches the jobs through us only, and ends all its ranks
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=env, start_new_session=True
            )
        job.state, job.device, job.why = "running", slot.label, None
        job.attempts += 1
        self._running.append(_Running(job, slot, process, time.monotonic()))
        self._changed(job)

    def _reap(self) -> None:
        for one in self._running[:]:
            code = one.process.poll()
            if code is None:
                continue
            _end(one.process, signal.SIGKILL)  # a rank whose first process was killed would keep its device
            self._running.remove(one)
            self._free.append(one.slot)
            job = one.job
            job.seconds = (job.seconds or 0.0) + time.monotonic() - one.since
            if code == 0 and job.finished:
                job.state = "done"
            elif self.signal is not None:
                job.state = "stopped"
            else:
                job.state = "failed"
                job.why = reason(code, job.folder / LOG) if code else "ended without a result"
                job.failures += 1
                if job.failures <= self._retries:
                    job.state = "waiting"
                    self._waiting.append(job)
            self._changed(job)

    def _pass_on(self) -> None:
        """Ask the jobs to save and end; at the second signal, end them."""
        word = self._signals.news()
        if word is not None:
            for one in self._running:
                # SIGTERM also where the shell has the jobs ignore SIGINT
                _end(one.process, signal.SIGKILL if word == stop.KILL else signal.SIGTERM)

    def _kill(self) -> None:
        for one in self._running:
            _end(one.process, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a job's whole process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
