"""A row of the table: one figure against a peer, measured by turns, as a ratio; and how rows are written."""

from __future__ import annotations

import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SPEED = "train/tokens_per_second"
RESULTS = Path(__file__).parent / "results"


@dataclass
class Row:
    """Repeated measurements of ours and of a peer, each pair taken one after the other."""

    what: str
    against: str
    unit: str
    ours: list[float]
    theirs: list[float]
    goal: str = ""  # of ours over theirs, such as ">= 0.9"
    curve: str = ""  # a picture's title, where several rows are points of a curve
    at: float = 0.0  # where on it

    @property
    def ratios(self) -> list[float]:
        """Ours over theirs, of each pair."""
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)

    @property
    def verdict(self) -> str:
        """Whether the goal is met."""
        if not self.goal:
            return ""
        sign, number = self.goal.split()
        met = self.ratio >= float(number) if sign == ">=" else self.ratio <= float(number)
        return "met" if met else "missed"

    @property
    def cells(self) -> list[str]:
        """What the table shows."""
        low, high = min(self.ratios), max(self.ratios)
        spread = f"{self.ratio:.3g}" + (f" ({low:.3g} to {high:.3g})" if len(self.ratios) > 1 else "")
        rates = [f"{statistics.median(values):,.4g}" for values in (self.ours, self.theirs)]
        rates = [f"{float(rate.replace(',', '')):,.0f}" if "e" in rate else rate for rate in rates]
        return [self.what, self.against, self.unit, *rates, spread, self.goal, self.verdict]


HEADER = ("what", "against", "unit", "ours", "theirs", "ratio", "goal", "")


def by_turns(repeats: int, *calls: Callable[[], float]) -> list[list[float]]:
    """Return what each of some calls gives, which take turns."""
    out: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, values in zip(calls, out, strict=True):
            values.append(call())
    return out


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def rate(call: Callable[[], object], amount: float, least: float = 0.5) -> float:
    """Return the amount a second of a call, repeated for `least` seconds."""
    begin, times = time.perf_counter(), 0
    while times == 0 or time.perf_counter() - begin < least:
        call()
        times += 1
    return times * amount / (time.perf_counter() - begin)


def train(*overrides: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Run ``genoseq.train`` in a process of its own; return its result and more.

    ``wall`` is the whole command's seconds, ``steady`` the tokens a second after the first logged interval.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = ["trainer=cpu", f"hydra.run.dir={folder}/run", *overrides]
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "genoseq.train", *words],
            capture_output=True, text=True, check=False, env=os.environ | (env or {}),
        )  # fmt: skip
        wall = time.perf_counter() - begin
        if done.returncode:
            raise SystemExit(done.stderr.strip() or f"training with {' '.join(overrides)} failed")
        result: dict[str, Any] = json.loads((Path(folder) / "run" / "result.json").read_text())
        with (Path(folder) / "run" / "metrics.csv").open(newline="") as file:
            rates = [float(row[SPEED]) for row in csv.DictReader(file) if row.get(SPEED)]
        return result | {"wall": wall, "steady": statistics.harmonic_mean(rates[1:] or rates)}


def child(code: str, *args: str) -> float:
    """Run Python code in a process of its own; return the number after the word VALUE in its output."""
    command = [sys.executable, "-c", code, *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.rpartition("VALUE ")[2].split()[0])


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """Keep one core busy."""
    with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as process:
        time.sleep(0.2)
        try:
            yield
        finally:
            process.kill()


@dataclass
class Machine:
    """Where rows were measured."""

    processor: str
    cores: int
    system: str
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def here(cls) -> Machine:
        """Describe this machine."""
        from genoseq.report.result import provenance

        found = provenance("cpu")
        versions = {key.removeprefix("version/"): str(v) for key, v in found.items() if key.startswith("version/")}
        versions["commit"] = f"{found['git/commit']}{' and changes' if found['git/dirty'] else ''}"
        return cls(str(found["host/device"]), int(found["host/cpus"]), platform.system(), versions)


def write(name: str, rows: Sequence[Row], folder: Path = RESULTS) -> None:
    """Write a benchmark's rows as JSON, and the table and pictures of all benchmarks in the folder."""
    from genoseq.files import write_json

    content = {"machine": asdict(Machine.here()), "date": time.strftime("%Y-%m-%d"), "rows": list(map(asdict, rows))}
    write_json(folder / f"{name}.json", content)
    write_table(folder)


def write_table(folder: Path) -> None:
    """Write README.md and curves.png from the JSON files of a folder."""
    from genoseq.files import write_atomic

    lines, curves = ["# What was measured", ""], {}
    lines += [
        "Ours over theirs, medians of turns taken one after the other, with the range. `python -m benchmarks NAME`",
        "measures a part again; `make bench` all but those of scale.py, which `make bench-scale` does.",
    ]
    for file in sorted(folder.glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        machine, rows = content["machine"], [Row(**row) for row in content["rows"]]
        versions = ", ".join(f"{key} {value}" for key, value in machine["versions"].items())
        lines += ["", f"## {file.stem}", "", f"`python -m benchmarks {file.stem}`, {content['date']}: "]
        lines[-1] += f"{machine['processor']}, {machine['cores']} cores; {versions}."
        lines += ["", "| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
        lines += ["| " + " | ".join(row.cells) + " |" for row in rows]
        for row in rows:
            if row.curve:
                curves.setdefault(row.curve, []).append(row)
    if curves:
        _draw(curves, folder / "curves.png")
        lines += ["", "![Ratios against size](curves.png)"]
    write_atomic(folder / "README.md", "\n".join(lines) + "\n")


def _draw(curves: dict[str, list[Row]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    from genoseq.files import atomic_path

    figure, axes = plt.subplots(1, len(curves), figsize=(3.6 * len(curves), 3.2), layout="constrained", squeeze=False)
    for axis, (title, rows) in zip(axes[0], curves.items(), strict=True):
        for against in dict.fromkeys(row.against for row in rows):
            some = sorted((row for row in rows if row.against == against), key=lambda row: row.at)
            axis.plot([row.at for row in some], [row.ratio for row in some], "o-", label=against)
        what, _, unit = title.partition(" | ")
        one = f"over {rows[0].against}" if len({row.against for row in rows}) == 1 else "ours over theirs"
        axis.set(title=what, xlabel=unit, ylabel=one, xscale="log", ylim=(0, 1.1 * max(row.ratio for row in rows)))
        axis.spines[["top", "right"]].set_visible(False)
        if len({row.against for row in rows}) > 1:
            axis.legend(frameon=False, fontsize=8)
    with atomic_path(path) as part:
        figure.savefig(part, dpi=150, format="png")
    plt.close(figure)
