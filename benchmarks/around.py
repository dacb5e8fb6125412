"""What a command takes besides its training loop: the demo, a large genome, a sweep, and the time to the first step.

The loop's seconds are its tokens over its tokens a second, validations left out; all else that the command takes, from
its start to its end, is around it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import Row, by_turns, seconds, train
from genoseq.data.sources import load_genome


def loop_seconds(result: dict[str, Any]) -> float:
    """Return the seconds of a run's training loop, of the size that the demo has."""
    return float(result["train/steps"]) * 32 * 32 / float(result["train/tokens_per_second"])


def made_up(path: Path, megabases: float, records: int | None = None, seed: int = 0) -> Path:
    """Write FASTA of mutated copies of the bundled genome: one base in twenty to one in five is another."""
    draw, codes = np.random.default_rng(seed), load_genome("hpylori").codes.numpy()
    letters = np.frombuffer(b"NACTG", np.uint8)
    size = round(megabases * 1e6)
    with path.open("wb") as file:
        for number in range(records or -(-size // len(codes))):
            length = size // records if records else min(len(codes), size - number * len(codes))
            source = np.resize(np.roll(codes, draw.integers(len(codes))), length)
            copy = np.where(draw.random(length) < draw.uniform(0.05, 0.2), draw.integers(1, 5, length), source)
            lines = letters[copy].tobytes()
            file.write(b">copy%d\n" % number)
            file.writelines(lines[at : at + 70] + b"\n" for at in range(0, length, 70))
    return path


def first_step(*overrides: str, env: dict[str, str] | None = None) -> float:
    """Return the seconds from the start of the command to the first optimizer step that it logs."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["trainer=cpu", "trainer.max_steps=1000", "trainer.log_every_n_steps=1", f"hydra.run.dir={folder}/run"]
        begin, command = time.perf_counter(), [sys.executable, "-m", "genoseq.train", *words, *overrides]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, env=os.environ | (env or {}), **quiet) as process:
            while not Path(folder, "run", "metrics.csv").exists() and process.poll() is None:
                time.sleep(0.02)
            took = time.perf_counter() - begin
            process.kill()
    return took


def imported(*modules: str) -> float:
    """Return the seconds in which a new interpreter imports modules."""
    return seconds(lambda: subprocess.run([sys.executable, "-c", f"import {', '.join(modules)}"], check=True))


def sweep(jobs: int, steps: int) -> tuple[float, float]:
    """Return the seconds of a sweep of jobs on two slots, and those of their training loops over two."""
    with tempfile.TemporaryDirectory() as folder:
        rates = ",".join(f"{0.001 * (1 + i):g}" for i in range(jobs))
        words = [f"optimizer.lr={rates}", f"trainer.max_steps={steps}", "mixer=none", f"sweep.dir={folder}/sweep"]
        command = [sys.executable, "-m", "genoseq.train", "-m", "trainer=cpu", "hydra.launcher.n_jobs=2", *words]
        took = seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
        results = [json.loads(file.read_text()) for file in Path(folder).glob("sweep/*/result.json")]
    return took, sum(map(loop_seconds, results)) / 2


def rows(quick: bool) -> Iterator[Row]:
    """Measure."""
    with tempfile.TemporaryDirectory() as folder:
        if quick:
            yield Row("--help", "python -c 'import hydra'", "s", [imported("hydra")], [imported("hydra")])
            return
        helped = [sys.executable, "-m", "genoseq.train", "--help"]
        ours, import_, help_, hydra = by_turns(
            2,
            first_step,
            lambda: imported("torch", "lightning.pytorch"),
            lambda: seconds(lambda: subprocess.run(helped, check=True, stdout=subprocess.DEVNULL)),
            lambda: imported("hydra"),
        )
        yield Row("command to first step", "import of torch and lightning", "s", ours, import_, "<= 1.3")
        more = [a - b for a, b in zip(help_, hydra, strict=True)]
        yield Row("--help, more than import hydra", "1 s", "s", more, [1.0] * len(more), "<= 1")
        demo = train()
        around, loop, mixer = demo["wall"] - loop_seconds(demo), loop_seconds(demo), demo["mixer/seconds"]
        title = "everything around training | bases"
        size = demo["genome/bases"]
        yield Row("around the demo, mixer=none", "its loop", "s", [around - mixer], [loop], "<= 0.25", title, size)
        yield Row("around the demo, with the mixer", "its loop", "s", [around], [loop], "<= 0.5")
        genome = made_up(Path(folder) / "large.fa", 100)
        cache = {"GENOSEQ_CACHE": f"{folder}/cache"}
        large = train(f"data.genome={genome}", env=cache)
        around, loop, mixer = large["wall"] - loop_seconds(large), loop_seconds(large), large["mixer/seconds"]
        size = large["genome/bases"]
        yield Row("around 100 Mb, mixer=none", "its loop", "s", [around - mixer], [loop], "<= 1", title, size)
        yield Row("around 100 Mb, with the mixer", "its loop", "s", [around], [loop], "<= 1")
        total, loops = sweep(8, 2400)
        yield Row("a sweep of 8 jobs on two slots", "its loops / 2", "s", [total], [loops], "<= 1.15")
