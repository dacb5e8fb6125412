"""A job's command as a process, and the stop file that workers on other machines watch."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from genoseq.files import write_atomic
from genoseq.sweeps.jobs import LOG, Job

LIMIT = "GENOSEQ_THREADS"
STOP = ".stop"
SAVE, KILL = "save", "kill"
_POLL = 0.5  # seconds between looks at the stop file


def thread_variables(threads: int) -> dict[str, str]:
    """Return the variables that limit a process's threads; none where the user's own OMP_NUM_THREADS does.

    The second tells the process that the first is no choice of the user's: a small network may take fewer.
    """
    return {} if "OMP_NUM_THREADS" in os.environ else dict.fromkeys(("OMP_NUM_THREADS", LIMIT), str(threads))


def stop_request(sweep: Path) -> str | None:
    """Return what a sweep's stop file asks of its workers: `SAVE`, `KILL`, or None without a file."""
    try:
        return (sweep / STOP).read_text()
    except FileNotFoundError:
        return None


def request_stop(sweep: Path, request: str) -> None:
    """Ask a sweep's workers to have their jobs save and end (`SAVE`), or to end them at once (`KILL`)."""
    write_atomic(sweep / STOP, request)


class Process:
    """Start a job's command in a process group of its own, its output appended to the job's log.

    A Ctrl-C in the terminal does not reach it, nor do the signals in `blocked`. On Linux it gets SIGTERM when the
    thread that started it is gone.
    """

    def __init__(
        self, job: Job, env: Mapping[str, str], cwd: Path | None = None, blocked: Collection[signal.Signals] = ()
    ) -> None:
        self._sweep, self._asked = job.folder.parent, False
        job.folder.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"PYTHONUNBUFFERED": "1"} | dict(env) | {"GENOSEQ_PARENT": str(os.getpid())}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)  # a child inherits what is blocked
        try:
            with (job.folder / LOG).open("ab") as log:
                self._popen = subprocess.Popen(
                    job.command,
                    cwd=cwd,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def poll(self) -> int | None:
        """Return the exit code, minus the signal if one killed it; None while it runs."""
        code = self._popen.poll()
        if code is not None:
            self.kill()  # other ranks of a command whose first process is gone
        return code

    def save(self) -> None:
        """Have it save and end; asks once, as the second SIGTERM ends it without saving."""
        if not self._asked:
            self._asked = True
            self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it, and all that it started."""
        self._send(signal.SIGKILL)

    def wait(self) -> int:
        """Return the exit code once it has ended, by itself or as the sweep's stop file asks."""
        try:
            while (code := self.poll()) is None:
                request = stop_request(self._sweep)
                if request == KILL:
                    self.kill()
                elif request:
                    self.save()
                with suppress(subprocess.TimeoutExpired):
                    self._popen.wait(_POLL)
        except Exception:  # on SystemExit this process ends, and the kernel has the job save
            self.kill()
            raise
        return code

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, number)
