"""Peak memory of a whole training command against the genome's size: bytes a base.

``python -m benchmarks.memory [SMALL LARGE]`` trains a small network for a few steps on two genomes (names or paths) and
prints the rise of the peak resident set between them, at short and at long windows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# the child reads its own peak from Linux; getrusage would also count what this process was before the child began
CHILD = """
from genoseq.train import main
main()
print("PEAK", next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
# blocks go back to the system when they are freed: what is live counts, not how the heap happens to lie
LIVE = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
SETTINGS = ("model.hidden_size=8", "data.batch_size=4", "trainer.max_steps=10", "trainer=cpu", "logger=none")


def train(genome: str, *overrides: str) -> tuple[int, dict[str, Any]]:
    """Return the peak resident bytes of a short training run on `genome`, and its result."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        words = [*SETTINGS, f"data.genome={genome}", f"hydra.run.dir={out}", *overrides]
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *words], capture_output=True, text=True, check=False, env=os.environ | LIVE
        )
        if done.returncode:
            raise SystemExit(done.stderr.strip() or f"training on {genome} failed")
        result = json.loads((out / "result.json").read_text())
    kilobytes = next(int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("PEAK"))
    return 1024 * kilobytes, result


def main(small: str = "hpylori", large: str = "klebsiella") -> None:
    """Print one line a window length."""
    for seq_len in (50, 5000):
        words = f"data.seq_len={seq_len}", "mixer=none"
        (low, one), (high, two) = train(small, *words), train(large, *words)
        few, many = one["genome/bases"], two["genome/bases"]
        rise = (high - low) / (many - few)
        print(
            f"data.seq_len={seq_len}: {low / 2**20:.0f} MiB at {few:,} bases, {high / 2**20:.0f} MiB at {many:,}: "
            f"{rise:.2f} bytes a base"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
