"""Show how far a sweep is on the console: a live table, or a line a change in a log file."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from genoseq.errors import UserError
from genoseq.files import read_metrics, read_objective
from genoseq.sweeps.jobs import Job

STATES = ("waiting", "running", "done", "failed", "stopped")
_FAILED = 5  # that are named while the sweep runs; its end names all
_BEAT = 1.0  # seconds between looks at the running jobs' metrics


class Progress:
    """How far a running job is, read from its ``metrics.csv``.

    Attributes
    ----------
    step : float
    bits : float or None
        Validation bits per base, the last that is known.
    """

    def __init__(self, folder: Path) -> None:
        self.step = 0.0
        self.bits: float | None = None
        self._file = folder / "metrics.csv"
        self._first: tuple[float, float] | None = None  # the time at which a step was seen first, and the step
        self._pace: float | None = None  # seconds a step

    def look(self) -> None:
        """Read the file again."""
        try:
            at, table = self._file.stat().st_mtime, read_metrics(self._file)
        except (OSError, UserError):  # not there yet, or caught while it is written
            return
        self.step = max((step for step in table.get("step", []) if step is not None), default=0.0)
        self.bits = next((bits for bits in reversed(table.get("val/bits_per_base", [])) if bits is not None), None)
        if self._first is None:
            self._first = (at, self.step)
        elif self.step > self._first[1]:
            self._pace = (at - self._first[0]) / (self.step - self._first[1])

    def left(self, max_steps: int | None) -> float | None:
        """Return the seconds of training that are left, None before it is known."""
        return None if self._pace is None or max_steps is None else self._pace * max(0.0, max_steps - self.step)


class Display:
    """Shows the jobs of one batch.

    Parameters
    ----------
    jobs : sequence of Job
    at_a_time : int
        Jobs that run side by side.
    console : Console, optional
    """

    def __init__(self, jobs: Sequence[Job], at_a_time: int, console: Console | None = None) -> None:
        self._jobs, self._at_a_time = jobs, at_a_time
        self._console = console or Console()
        self._progress: dict[str, Progress] = {}
        self._best: tuple[float, str] | None = None
        self._looked = 0.0
        self._live = Live(console=self._console, get_renderable=self.table, auto_refresh=False)

    def __enter__(self) -> Display:
        """Begin."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        """End, with the last state in view."""
        if self._live.is_started:
            self._live.refresh()
            self._live.stop()

    def changed(self, job: Job) -> None:
        """Show a job's new state."""
        bits = read_objective(job.folder) if job.state == "done" else None
        if bits is not None and (self._best is None or bits < self._best[0]):
            self._best = (bits, job.name)
        if job.state == "running":
            self._progress[job.name] = Progress(job.folder)
        else:
            self._progress.pop(job.name, None)
        if not self._live.is_started:
            self._console.print(Text(self._line(job, bits)), soft_wrap=True)

    def tick(self) -> None:
        """Look at the running jobs now and then."""
        if self._live.is_started and time.monotonic() - self._looked > _BEAT:
            for progress in self._progress.values():
                progress.look()
            self._live.refresh()
            self._looked = time.monotonic()

    def _line(self, job: Job, bits: float | None) -> str:
        ended = sum(j.state in ("done", "failed") for j in self._jobs)
        text = f"[{ended}/{len(self._jobs)}] {job.state} {job.name}"
        if job.state == "running":
            return f"{text} ({job.device})" + (f", start {job.attempts}" if job.attempts > 1 else "")
        text += f" after {_duration(job.seconds or 0)}"
        text += "" if bits is None else f": validation {bits:.4f} bits per base"
        return text if job.why is None else f"{text}: {job.why}"

    def _left(self) -> float | None:
        """Return the seconds that the sweep still takes, from the jobs that have ended."""
        took = [job.seconds for job in self._jobs if job.state == "done" and job.seconds]
        waiting = sum(job.state == "waiting" for job in self._jobs)
        running = [p.left(job.max_steps) for job in self._jobs if (p := self._progress.get(job.name)) is not None]
        known = [left for left in running if left is not None]
        if (waiting and not took) or len(known) < len(running):
            return None
        return max((sum(known) + (waiting * sum(took) / len(took) if took else 0)) / self._at_a_time, *known, 0.0)

    def table(self) -> RenderableType:
        """Return the table."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        table.add_column("running")
        for title in ("on", "step", "val bits/base", "time left"):
            table.add_column(title, justify="right")
        for job in self._jobs:
            if (progress := self._progress.get(job.name)) is not None:
                step = f"{progress.step:,.0f}" + (f"/{job.max_steps:,}" if job.max_steps else "")
                bits = "–" if progress.bits is None else f"{progress.bits:.4f}"
                table.add_row(Text(job.name), job.device, step, bits, _duration(progress.left(job.max_steps)))
        counts, left = Counter(job.state for job in self._jobs), self._left()
        head = [f"{counts[state]} {state}" for state in STATES if counts[state]]
        head += [] if left is None else [f"about {_duration(left)} left"]
        parts: list[RenderableType] = [Text("  ".join(head), style="bold"), table]
        failed = [job for job in self._jobs if job.state == "failed"]
        parts += [Text(f"failed  {job.name}: {job.why}", style="red") for job in failed[-_FAILED:]]
        if self._best is not None:
            parts.append(Text(f"best so far: {self._best[0]:.4f} validation bits per base, {self._best[1]}"))
        return Group(*parts)


def _duration(seconds: float | None) -> str:
    return "–" if seconds is None else str(timedelta(seconds=round(seconds)))
