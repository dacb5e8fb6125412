"""Memory of a whole training command: a few bytes a base, whatever the length of the windows."""

import gzip
import os
import subprocess
import sys
from importlib import resources

import numpy as np
import pytest

COMMAND = """
from pathlib import Path
from genoseq.train import main
main()
# getrusage's ru_maxrss would also count what this process was before its exec: a copy of the test runner
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print("peak", 1024 * int(status["VmHWM"].split()[0]))
"""
SHORT, LONG = 1_652_982, 5_682_322  # bases: of the bundled genome, and of Klebsiella HS11286


@pytest.fixture(scope="module")
def long_genome(tmp_path_factory):
    """The bundled genome and ever less similar copies of it, cut into records of a chromosome and plasmids."""
    with gzip.open(str(resources.files("genoseq.data") / "bundled" / "hpylori_G27.fa.gz"), "rt") as file:
        letters = "".join(line.strip() for line in file if not line.startswith(">")).upper()
    assert len(letters) == SHORT
    rng = np.random.default_rng(0)
    copies = [np.frombuffer(letters.encode(), dtype=np.uint8)]
    while sum(map(len, copies)) < LONG:
        copy = copies[-1].copy()
        where = rng.random(SHORT) < 0.3
        copy[where] = rng.choice(np.frombuffer(b"ACGT", dtype=np.uint8), int(where.sum()))
        copies.append(copy)
    text = np.concatenate(copies)[:LONG].tobytes().decode()
    path = tmp_path_factory.mktemp("memory") / "long.fa"
    edges = [0, LONG - 400_000, LONG - 250_000, LONG - 100_000, LONG]
    with path.open("w") as file:
        for i in range(4):
            record = text[edges[i] : edges[i + 1]]
            file.write(f">r{i}\n" + "".join(record[at : at + 80] + "\n" for at in range(0, len(record), 80)))
    return path


def start(folder, genome, *overrides):
    """Start a training command that ends by printing its largest resident set."""
    settings = [
        f"hydra.run.dir={folder}",
        f"data.genome={genome}",
        "data.batch_size=4",
        "model.embed_dim=4",
        "model.hidden_size=4",
        "trainer=cpu",
        "trainer.precision=32-true",
        "trainer.max_steps=4",
        "trainer.val_every=4",
        *overrides,
    ]
    pipe = subprocess.PIPE
    # blocks go back to the system when they are freed: what is live counts, not how the heap happens to lie
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *settings], stdout=pipe, stderr=subprocess.STDOUT, text=True, env=env
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
# the count models' part is the same whatever the windows: measured once
@pytest.mark.parametrize(("seq_len", "baseline"), [(50, True), (5000, False)])
def test_peak_memory_rises_by_less_than_four_bytes_a_base(seq_len, baseline, long_genome, tmp_path, record_property):
    genomes = {"short": "hpylori", "long": long_genome}
    overrides = (f"data.seq_len={seq_len}", f"baseline={str(baseline).lower()}")
    runs = {name: start(tmp_path / name, genome, *overrides) for name, genome in genomes.items()}
    told = {name: run.communicate(timeout=300)[0] for name, run in runs.items()}
    assert all(run.returncode == 0 for run in runs.values()), told
    peak = {name: int(text.split("peak ")[-1]) for name, text in told.items()}  # bytes
    rise = (peak["long"] - peak["short"]) / (LONG - SHORT)
    record_property("bytes_a_base", rise)
    print(f"seq_len={seq_len}: {peak['short'] / 2**20:.0f} and {peak['long'] / 2**20:.0f} MiB, {rise:.2f} bytes a base")
    assert rise < 4
