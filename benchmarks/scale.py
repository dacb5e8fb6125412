"""The long rows: a genome of 3.1 Gb, a corpus of 200 bacterial genomes, and the time to a quality.

To a quality: seconds to 1.90 and 1.87 bits per base of validation on *E. coli* (contiguous; needs the genome, by
GENOSEQ_GENOME_DIR or the network), against the report's recipe at the same size: Adam at 0.001, no clipping, one
strand, windows of 200 from the zero state, one step at a time. Validations are not counted.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.around import first_step, made_up
from benchmarks.data import memory
from benchmarks.rows import Row, train

REPORT = ("optimizer=adam", "optimizer.lr=0.001", "scheduler=none", "trainer.gradient_clip_val=null")
REPORT += ("data.reverse_complement=false", "data.seq_len=200", "data.carry_tokens=0", "data.batch_size=64")
QUALITIES = (1.90, 1.87)


def to_quality(*overrides: str) -> list[float]:
    """Return the seconds of training to each of `QUALITIES`, all of them where a run did not get there."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["trainer=cpu", "data.genome=ecoli", "mixer=none", "baseline=false", f"hydra.run.dir={folder}/run"]
        command = [sys.executable, "-m", "genoseq.train", *words, *overrides]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        result = json.loads(Path(folder, "run", "result.json").read_text())
        with Path(folder, "run", "metrics.csv").open(newline="") as file:
            logged = [row for row in csv.DictReader(file) if row["val/bits_per_base"]]
    bits = [(int(row["step"]), float(row["val/bits_per_base"])) for row in logged]
    config = dict(word.split("=", 1) for word in overrides)
    tokens = int(config.get("data.seq_len", 32)) * int(config.get("data.batch_size", 32))
    second, never = tokens / result["train/tokens_per_second"], result["train/steps"]
    return [next((step for step, value in bits if value <= quality), never) * second for quality in QUALITIES]


def corpus(folder: Path, genomes: int, steps: int) -> Iterator[Row]:
    """Compare a corpus of many genomes with one: the time to its first step the second time, and the steady state."""
    (folder / "corpus").mkdir()
    for number in range(genomes):
        made_up(folder / "corpus" / f"{number}.fa", 4.0, records=1, seed=number)
    one = made_up(folder / "one.fa", 4.0, records=1)
    cache = {"GENOSEQ_CACHE": f"{folder}/cache"}
    words = (
        "mixer=none",
        "baseline=false",
        "data.val_bases=10000",
        "data.eval_bases=10000",
        f"trainer.max_steps={steps}",
    )
    rates = []
    for genome in (f"{folder}/corpus/*.fa", str(one)):
        rates.append(train(f"data.genome={genome}", *words, env=cache)["train/tokens_per_second"])
    first = first_step(f"data.genome={folder}/corpus/*.fa", *words, env=cache)
    what = f"{genomes} genomes of 4 Mb, steady state"
    yield Row(what, "one", "tokens/s", rates[:1], rates[1:], ">= 0.97")
    yield Row(f"{genomes} genomes, first step, from the cache", "20 s", "s", [first], [20.0], "<= 1")


def rows(quick: bool) -> Iterator[Row]:
    """Measure."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if quick:
            yield from corpus(folder, 2, 10)
            return
        ours, report = to_quality(), to_quality(*REPORT, "trainer.max_steps=4000", "trainer.val_every=200")
        for quality, mine, theirs in zip(QUALITIES, ours, report, strict=True):
            what = f"seconds to {quality:.2f} bits per base, ecoli"
            yield Row(what, "the report's recipe", "s", [mine], [theirs], "<= 0.333")
        yield from corpus(folder, 200, 1500)
        yield from memory(made_up(folder / "huge.fa", 3100), (10, 50_000), folder / "cache")
