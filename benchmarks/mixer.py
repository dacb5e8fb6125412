"""Time and memory of the mixer against the genome's size.

``python -m benchmarks.mixer [MEGABASES ...]`` trains a tiny network for a few steps on random genomes, in which there
is nothing to learn but as much to count as in others. It prints the seconds of fitting the mixer and scoring the test
part with it, and the peak resident set beside that of the same run without a mixer.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.memory import train


def main(*megabases: str) -> None:
    """Print one line a size."""
    for size in map(float, megabases or ("1", "5", "25", "100")):
        bases = int(size * 1e6)
        with tempfile.TemporaryDirectory() as folder:
            genome = Path(folder) / "random.txt"
            genome.write_bytes(np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), bases).tobytes())
            (alone, _), (mixed, result) = (train(str(genome), f"mixer={mixer}") for mixer in ("none", "experts"))
        seconds, memory = result["mixer/seconds"], f"{mixed / 2**20:.0f} MiB with it, {alone / 2**20:.0f} MiB without"
        print(f"{size:g} Mb: mixer {seconds:.0f} s; peak {memory}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
