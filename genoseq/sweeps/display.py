"""Show how far a sweep is on the console: live bars, or a line a change in a log file."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from genoseq.errors import UserError
from genoseq.files import read_metrics, read_objective
from genoseq.sweeps.jobs import Job

STATES = ("waiting", "running", "done", "failed", "stopped")
_FAILED = 5  # that are named while the sweep runs; its end names all
_BEAT = 1.0  # seconds between looks at the running jobs' metrics


def read_progress(folder: Path) -> tuple[int, str]:
    """Return the last step that a run has logged, and its validation bits per base, ``–`` before it is known."""
    try:
        table = read_metrics(folder / "metrics.csv")
    except (OSError, UserError):  # not there yet, or caught while it is written
        return 0, "–"
    steps = [step for step in table.get("step", []) if step is not None]
    bits = [bits for bits in table.get("val/bits_per_base", []) if bits is not None]
    return int(max(steps, default=0)), f"{bits[-1]:.4f}" if bits else "–"


class Display:
    """Shows the jobs of one batch."""

    def __init__(self, jobs: Sequence[Job], console: Console | None = None) -> None:
        self._jobs, self._console = jobs, console or Console()
        self._tasks: dict[str, TaskID] = {}
        self._best = (math.inf, "")
        self._looked = 0.0
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[device]}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[bits]}"),
            TimeRemainingColumn(),
            speed_estimate_period=24 * 3600,
        )
        self._all = self._progress.add_task("all jobs", total=len(jobs), device="", bits="val bits/base")
        self._live = Live(console=self._console, get_renderable=self.render, auto_refresh=False)

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live.is_started:
            self._live.refresh()  # the last state stays in view
            self._live.stop()

    def changed(self, job: Job) -> None:
        """Show a job's new state."""
        bits = read_objective(job.folder) if job.state == "done" else None
        if bits is not None:
            self._best = min(self._best, (bits, job.name))
        if job.name in self._tasks:
            self._progress.remove_task(self._tasks.pop(job.name))
        if job.state == "running":
            self._tasks[job.name] = self._progress.add_task(job.name, total=job.max_steps, device=job.device, bits="–")
        ended = sum(job.state in ("done", "failed") for job in self._jobs)
        self._progress.update(self._all, completed=ended)
        self._looked = 0.0
        if not self._live.is_started:
            text = f"[{ended}/{len(self._jobs)}] {job.state} {job.name}{_details(job, bits)}"
            self._console.print(Text(text), soft_wrap=True)

    def tick(self) -> None:
        """Look at the running jobs now and then."""
        if self._live.is_started and time.monotonic() - self._looked > _BEAT:
            for job in self._jobs:
                if job.name in self._tasks:
                    step, bits = read_progress(job.folder)
                    self._progress.update(self._tasks[job.name], completed=step, bits=bits)
            self._live.refresh()
            self._looked = time.monotonic()

    def render(self) -> RenderableType:
        """Return what is on the console."""
        counts = Counter(job.state for job in self._jobs)
        head = "  ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
        parts: list[RenderableType] = [Text(head, style="bold"), self._progress]
        failed = [job for job in self._jobs if job.state == "failed"]
        parts += [Text(f"failed  {job.name}: {job.why}", style="red") for job in failed[-_FAILED:]]
        if self._best[1]:
            parts.append(Text(f"best so far: {self._best[0]:.4f} validation bits per base, {self._best[1]}"))
        return Group(*parts)


def _details(job: Job, bits: float | None) -> str:
    if job.state == "running":
        return f" ({job.device})" + (f", start {job.attempts}" if job.attempts > 1 else "")
    text = f" after {timedelta(seconds=round(job.seconds or 0))}"
    text += "" if bits is None else f": validation {bits:.4f} bits per base"
    return text if job.why is None else f"{text}: {job.why}"
