"""``jobs.json``: a sweep's jobs and how far they are, for whoever looks at the folder; and the sweep's lock."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from genoseq.errors import UserError
from genoseq.files import write_json
from genoseq.sweeps.jobs import Job

NAME = "jobs.json"


class Record:
    """The jobs of a sweep folder; those of an earlier start stay listed.

    Parameters
    ----------
    folder : Path
        The sweep's.
    verb : str
    varied : sequence of str
        Override keys that vary.
    """

    def __init__(self, folder: Path, verb: str, varied: Sequence[str]) -> None:
        self._path = folder / NAME
        self._head: dict[str, Any] = {"verb": verb, "varied": list(varied)}
        self._jobs = {job["name"]: job for job in read_record(folder)}

    def recall(self, job: Job) -> None:
        """Give a job back what an earlier start of the sweep wrote down of it."""
        had = self._jobs.get(job.name, {})
        job.attempts, job.seconds, job.device = had.get("attempts", 0), had.get("seconds"), had.get("device")

    def update(self, *jobs: Job) -> None:
        """Write down the state of some jobs."""
        self._jobs |= {job.name: job.record() for job in jobs}
        write_json(self._path, self._head | {"jobs": list(self._jobs.values())})


def read_record(folder: Path) -> list[dict[str, Any]]:
    """Return the jobs that a sweep folder's ``jobs.json`` lists; none without one."""
    try:
        jobs: list[dict[str, Any]] = json.loads((folder / NAME).read_text(encoding="utf-8"))["jobs"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return jobs


def lock(folder: Path) -> FileLock:
    """Return a held lock on a sweep's folder; it ends with the process that holds it.

    Raises
    ------
    UserError
        If another process works on the sweep.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = FileLock(folder / ".lock")
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"another process works on the sweep in {folder}; wait for it or give another sweep.dir"
        ) from None
    return held
