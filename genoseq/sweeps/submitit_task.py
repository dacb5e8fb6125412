"""What runs inside each task of a job that submitit submitted; pickled, so it holds plain values only."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

from genoseq.files import write_atomic
from genoseq.sweeps import stop
from genoseq.sweeps.child import Child
from genoseq.sweeps.jobs import Job

PREEMPT = "USR1"  # what SLURM sends before a job's time is up
_PATIENCE = 600  # seconds that a rank waits for the first one, which may be on a slower machine


def start_files(folder: Path) -> list[Path]:
    """Return what the starts of a job left in submitit's folder for it, in their order."""
    return sorted(folder.glob("start-*.json"))


class Task:
    """Runs a job's command in one task, one rank of the job.

    The first rank alone looks at the job's folder and decides what the start goes on from, each time it starts: after
    a requeue of ours, and after one that SLURM did by itself when a machine failed. It leaves the command in a file,
    whose name tells one start from another, and the other ranks take it from there.

    Parameters
    ----------
    job : Job
    cwd : Path
        Where the sweep was started.
    threads : int
        Threads of each rank.
    """

    def __init__(self, job: Job, cwd: Path, threads: int) -> None:
        self._job, self._cwd, self._threads = job, cwd, threads
        self._starts = 0
        self._child: Child | None = None
        self._told: signal.Signals | None = None

    def __call__(self) -> int | None:
        """Run the command and return its exit code; None if the sweep was stopped before it could start."""
        from submitit.core.job_environment import JobEnvironment

        env = JobEnvironment()
        number = env._usr_sig()
        requeue = signal.getsignal(number)
        for known in (number, signal.SIGTERM):  # submitit would pass neither on
            signal.signal(known, self._received)
        command = self._command(env)
        if not command:  # stopped before it began, or, by SLURM, when it was done
            return None if command is None else 0
        with Child(command, self._job.folder, self._cwd, self._variables(env), deaf_to=[number]) as child:
            self._child = child
            if self._told is not None:  # while there was no child yet
                child.ask()
            code = child.wait()
        self._child = None
        if not code or self._told is None:
            return code
        # it has saved; without a result for submitit it counts as not ended, and starts again or was cancelled
        if self._told == number:
            requeue(number, None)  # type: ignore[operator, misc]  # on the first rank this ends the process
            raise SystemExit(0)
        raise SystemExit(128 + self._told)

    def checkpoint(self) -> Any:
        """Return what is submitted in this one's place when the job is queued again; submitit asks for it."""
        from submitit.helpers import DelayedSubmission

        again = Task(self._job, self._cwd, self._threads)
        again._starts = self._starts + 1
        return DelayedSubmission(again)

    def _received(self, number: int, frame: Any) -> None:
        self._told = self._told or signal.Signals(number)
        if self._child is not None:
            self._child.ask()

    def _command(self, env: Any) -> list[str] | None:
        """Return what this start runs, decided by the first rank; nothing if all is done, None if it is stopped."""
        restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        file = env.paths.folder / f"start-{self._starts:03}-{restarts:03}.json"
        until = time.monotonic() + _PATIENCE
        while not file.is_file():
            if stop.asked(self._job.folder.parent):
                return None
            if env.global_rank == 0:
                command = [] if self._job.finished else self._job.prepare()
                write_atomic(file, json.dumps({"command": command, "host": socket.gethostname()}))
            elif time.monotonic() > until:
                raise TimeoutError(f"the job's first rank has not left {file} in {_PATIENCE} seconds")
            else:
                time.sleep(0.2)
        start: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return list(start["command"])

    def _variables(self, env: Any) -> dict[str, str]:
        """Return the variables of this rank, in torch's words; Lightning takes SLURM's own where there are any."""
        from submitit.helpers import TorchDistributedEnvironment

        own = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(self._threads)}
        if env.num_tasks == 1:
            return own
        world = TorchDistributedEnvironment()
        return own | {
            # a machine need not know itself by its name
            "MASTER_ADDR": str(world.master_addr) if env.num_nodes > 1 else "127.0.0.1",
            "MASTER_PORT": str(world.master_port),
            "RANK": str(world.rank),
            "WORLD_SIZE": str(world.world_size),
            "LOCAL_RANK": str(world.local_rank),
            "LOCAL_WORLD_SIZE": str(world.local_world_size),
            "NODE_RANK": str(env.node),
        }
