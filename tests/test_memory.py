"""Memory of a whole training command: a few bytes a base, whatever the length of the windows."""

import os
import subprocess
import sys
from itertools import pairwise

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
SHORT, LONG = 1_500_000, 4_000_000  # bases, more than any block that is worked on at a time
SETTINGS = (
    "data.seq_len=500",  # a window or a state kept for each base would be hundreds of bytes a base
    "data.carry_tokens=0",
    "data.batch_size=4",
    "model.embed_dim=4",
    "model.hidden_size=4",
    "trainer=cpu",
    "trainer.precision=32-true",
    "trainer.max_steps=4",
    "trainer.val_every=4",
    "mixer=none",
    "logger=none",
)


def start(folder, bases):
    """Start a training command that ends by printing its largest resident set."""
    letters = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", dtype=np.uint8), bases).tobytes().decode()
    edges = [0, bases // 2, bases - 50_000, bases]  # a chromosome and plasmids
    genome = folder / "genome.fa"
    genome.write_text("".join(f">r{a}\n{letters[a:b]}\n" for a, b in pairwise(edges)))
    # blocks go back to the system when they are freed: what is live counts, not how the heap happens to lie
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-c", COMMAND, f"hydra.run.dir={folder / 'run'}", f"data.genome={genome}", *SETTINGS]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_rises_by_less_than_four_bytes_a_base(tmp_path_factory, record_property):
    runs = {bases: start(tmp_path_factory.mktemp("memory"), bases) for bases in (SHORT, LONG)}
    told = {bases: run.communicate(timeout=300)[0] for bases, run in runs.items()}
    assert all(run.returncode == 0 for run in runs.values()), told
    peak = {bases: int(text.split("peak ")[-1]) for bases, text in told.items()}  # bytes
    rise = (peak[LONG] - peak[SHORT]) / (LONG - SHORT)
    record_property("bytes_a_base", rise)
    assert rise < 4, f"{rise:.2f} bytes a base, {peak}"
