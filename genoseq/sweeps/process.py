"""A job's command as a process, and the stop file that workers on other machines watch."""

from __future__ import annotations

import atexit
import importlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from genoseq.files import write_atomic
from genoseq.sweeps.jobs import LOG, Job

LIMIT = "GENOSEQ_THREADS"
STOP = ".stop"
SAVE, KILL = "save", "kill"
_POLL = 0.5  # seconds between looks at the stop file
_HEAVY = [
    *("torch", "lightning.pytorch", "torchmetrics.classification", "torch.utils.tensorboard"),
    *("numba", "pandas", "matplotlib.pyplot"),
]


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


class _Fork:
    """A fork of this process that runs ``python -m MODULE …``, with what subprocess.Popen has to follow it.

    This process first imports what every job needs, which takes seconds, so that all forks have it at once.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        for name in _HEAVY:
            with suppress(ImportError):  # the job says so
                importlib.import_module(name)
        context = multiprocessing.get_context("fork")  # type: ignore[attr-defined,unused-ignore]
        self._process = context.Process(target=_run, args=(command, env, log))
        # a signal in between would find the handler of this process in that one
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        self._process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.pid = int(self._process.pid or 0)
        with suppress(PermissionError, ProcessLookupError):  # it does so too: whoever is first
            os.setpgid(self.pid, self.pid)

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        code: int | None = self._process.exitcode
        return code

    def wait(self, timeout: float) -> None:
        """Wait for its end."""
        self._process.join(timeout)


def _run(command: Sequence[str], env: Mapping[str, str], log: Path) -> None:
    """Be the process of a command in a fork: as a new interpreter would, and with the code that it would end with."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    os.setpgid(0, 0)
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    with log.open("ab") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    # the streams of this process may be locked by a thread that is not in the fork
    sys.stdout, sys.stderr = (open(n, "w", buffering=1, closefd=False) for n in (1, 2))  # noqa: SIM115
    os.environ.clear()
    os.environ.update(env)
    if "torch" in sys.modules and (threads := env.get("OMP_NUM_THREADS")):
        sys.modules["torch"].set_num_threads(int(threads))  # OpenMP has read its own long ago
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None
    atexit._clear()
    _, _, module, *sys.argv[1:] = command
    sys.path[0] = str(Path.cwd())
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()


class Process:
    """Start a job's command in a process group of its own, its output appended to the job's log.

    A Ctrl-C in the terminal does not reach it, nor do the signals in `blocked`. On Linux it gets SIGTERM when the
    thread that started it is gone. With `fork`, a Python module runs in a fork of this process.
    """

    def __init__(
        self,
        job: Job,
        env: Mapping[str, str],
        cwd: Path | None = None,
        blocked: Collection[signal.Signals] = (),
        fork: bool = False,
    ) -> None:
        self._sweep, self._asked = job.folder.parent, False
        job.folder.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {"PYTHONUNBUFFERED": "1"} | dict(env) | {"GENOSEQ_PARENT": str(os.getpid())}
        self._popen: subprocess.Popen[bytes] | _Fork
        if fork and job.command[1] == "-m":
            self._popen = _Fork(job.command, environment, job.folder / LOG)
            return
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
