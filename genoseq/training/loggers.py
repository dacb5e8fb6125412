"""A logger that keeps a run's figures as one CSV table, a row a step, and a resumed run's curve whole."""

import logging
import math
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from genoseq.files import csv_line, read_metrics, write_atomic

log = logging.getLogger(__name__)


class CsvLog(Logger):
    """Write ``metrics.csv``: the column ``step`` (optimizer steps) and a column a figure.

    Figures logged in a row for one step share a line. The line reaches the disk when the next step's first figure
    comes, and when the logger is saved or the run ends; the lines before it are never touched, but for a new column,
    which writes the whole file anew.

    Parameters
    ----------
    dir : Path or str
        Folder of the file; made when the first figure comes. A ``metrics.csv`` of an earlier run there is replaced.
    resume_from : Path, optional
        A ``metrics.csv`` to go on from; it may be the very file.
    keep_until : int, optional
        Optimizer steps of the checkpoint that is gone on from: later lines of `resume_from` are dropped. All lines are
        kept if left out.
    """

    def __init__(self, dir: Path | str, resume_from: Path | str | None = None, keep_until: int | None = None) -> None:
        super().__init__()
        self._dir = Path(dir)
        self._resume_from = None if resume_from is None else Path(resume_from)
        self._keep_until = math.inf if keep_until is None else keep_until
        self._columns: list[str] = ["step"]
        self._row: dict[str, float] = {}  # the line that is still open
        self._start = 0  # its place in the file (bytes)
        self._opened = self._dirty = False

    @property
    def path(self) -> Path:
        """The file."""
        return self._dir / "metrics.csv"

    @property
    def name(self) -> str:
        """Nothing: the folder is the run's own."""
        return ""

    @property
    def version(self) -> str:
        """Nothing: the folder is the run's own."""
        return ""

    @property
    def save_dir(self) -> str:
        """The folder, from which Lightning takes the place of checkpoints if nothing else names one."""
        return str(self._dir)

    @property
    def log_dir(self) -> str:
        """The folder."""
        return str(self._dir)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the configuration lies in ``.hydra``."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add figures to the line of a step.

        Parameters
        ----------
        metrics : mapping
            Numbers or scalar tensors.
        step : int, optional
            Optimizer steps; those of the open line if left out.
        """
        self._open()
        step = int(self._row.get("step", 0)) if step is None else int(step)
        if self._row.get("step", step) != step:
            self._flush()
            self._start = self.path.stat().st_size
            self._row = {}
        self._row |= {"step": step} | {name: float(value) for name, value in metrics.items()}
        self._dirty = True

    @rank_zero_only
    def save(self) -> None:
        """Write the open line; figures that still come for its step are added to it."""
        self._open()
        self._flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the open line."""
        self.save()

    def _open(self) -> None:
        """Take over the earlier lines; once, and not in ``__init__``: the other ranks make a logger too."""
        if self._opened:
            return
        self._opened = True
        rows: list[dict[str, float]] = []
        if self._resume_from is not None:
            if self._resume_from.is_file():
                rows = self._earlier(self._resume_from)
            else:
                log.warning("There is no %s: the curves begin where this run goes on.", self._resume_from)
        if rows:
            self._columns = list(dict.fromkeys(["step", *(name for row in rows for name in row)]))
            lines = [csv_line(self._columns), *(csv_line(row.get(name) for name in self._columns) for row in rows)]
            write_atomic(self.path, "".join(lines))
            self._row = rows[-1]  # stays open: the checkpoint's own step may get its validation only now
            self._start = self.path.stat().st_size - len(lines[-1].encode())

    def _earlier(self, path: Path) -> list[dict[str, float]]:
        table = read_metrics(path)
        steps = table.pop("step", [])
        rows: list[dict[str, float]] = []
        for i, step in enumerate(steps):
            if step is not None and step <= self._keep_until:
                row = {name: value for name, values in table.items() if (value := values[i]) is not None}
                rows.append({"step": int(step)} | row)
        log.info("Took over %d of %d lines of %s.", len(rows), len(steps), path)
        return rows

    def _flush(self) -> None:
        if not self._dirty:
            return
        new = [name for name in self._row if name not in self._columns]
        if self._start == 0 or new:
            old = self.path.read_bytes()[: self._start].decode().splitlines()[1:] if self._start else []
            # the new columns stand last, so that old lines only get empty cells
            columns = self._columns + new
            head = "".join([csv_line(columns), *(line + "," * len(new) + "\n" for line in old)])
            write_atomic(self.path, head + csv_line(self._row.get(name) for name in columns))
            self._columns, self._start = columns, len(head.encode())
        else:
            with self.path.open("r+b") as file:
                file.seek(self._start)
                file.write(csv_line(self._row.get(name) for name in self._columns).encode())
                file.truncate()
        self._dirty = False
