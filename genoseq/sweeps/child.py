"""A job's command as a child of a worker, on whichever machine that is."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from genoseq.sweeps import stop
from genoseq.sweeps.jobs import LOG

_POLL = 0.5  # seconds between looks at the stop file


class Child:
    """Runs a command until it ends or the sweep is stopped; what is left of it goes when the block ends.

    Parameters
    ----------
    command : sequence of str
    folder : Path
        The job's; its log is there.
    cwd : Path
        Where it runs, as relative paths in it are meant.
    env : mapping of str
        Variables beside this process's.
    deaf_to : sequence of signal.Signals
        Signals that end a process unless it knows them, and that this process takes for it.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        cwd: Path,
        env: Mapping[str, str],
        deaf_to: Sequence[signal.Signals] = (),
    ) -> None:
        self._sweep, self._asked = folder.parent, False
        # the kernel ends a child with the thread that started it: the worker's main thread, as long as the worker
        environment = os.environ | {"PYTHONUNBUFFERED": "1"} | dict(env) | {"GENOSEQ_PARENT": str(os.getpid())}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, deaf_to)  # a child inherits what is blocked
        try:
            with (folder / LOG).open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    cwd=cwd,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def __enter__(self) -> Child:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what still runs: other ranks of a command whose first process is gone, or all after an error here.

        If this process is told to exit (Ray does so to its workers) the kernel tells the child, and it saves.
        """
        if kind is not None and not issubclass(kind, Exception):
            return
        self._send(signal.SIGKILL)
        self._process.wait()

    def wait(self) -> int:
        """Wait for its end and return the exit code, minus the signal if one killed it."""
        while True:
            with suppress(subprocess.TimeoutExpired):
                return self._process.wait(_POLL)
            word = stop.asked(self._sweep)
            if word == stop.KILL:
                self._send(signal.SIGKILL)
            elif word:
                self.ask()

    def ask(self) -> None:
        """Ask it to save and end; once, as it takes a second time for an order to die."""
        if not self._asked:
            self._asked = True
            self._send(signal.SIGTERM)

    def _send(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)
