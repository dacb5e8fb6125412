"""``python -m benchmarks [NAME ...] [--quick]``: measure parts of the table; without a name, all but scale.

With ``--quick`` at toy sizes, which says only that the benchmarks work: nothing is written to ``results/``.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.rows import HEADER, RESULTS, Row, write
from genoseq.app.runtime import trim_heap

NAMES = ("step", "training", "around", "data", "use", "launcher")
LONG = ("scale",)


def show(rows: list[Row]) -> None:
    """Print rows as a table."""
    table = Table(*HEADER)
    for row in rows:
        table.add_row(*row.cells)
    Console().print(table)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, *LONG, []], help="parts of the table")
    parser.add_argument("--quick", action="store_true", help="toy sizes, nothing written")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.names or (NAMES + LONG if asked.quick else NAMES):
            begin = time.perf_counter()
            rows: list[Row] = []
            for row in importlib.import_module(f"benchmarks.{name}").rows(quick=asked.quick):
                rows.append(row)
                write(name, rows, Path(folder) if asked.quick else RESULTS)  # a long one may be stopped
            trim_heap()
            show(rows)
            print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
