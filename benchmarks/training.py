"""What the trainer costs beside a bare PyTorch loop, and what a busy neighbour costs it.

``python -m benchmarks.training [STEPS]``: the bare command's network, alternating, a process each. A rate is
`train/tokens_per_second` of ``genoseq.train`` with all its logging and progress, without its validations; the bare loop
trains the same network on the same windows, with the same optimizer, clipping and precision.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPEATS = 3
BARE = """
import sys, time, hydra, torch
from genoseq.app import build, resolvers
from genoseq.app.cli import conf_dir
resolvers.register()
with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
    cfg = hydra.compose("train", sys.argv[2:])
data = build.build_data(cfg.data)
data.setup("fit")
net = build.build_module(cfg, data).net
build.few_threads(net, cfg.data.batch_size).__enter__()
optimizer = build.instantiate(cfg.optimizer)(net.parameters())
precision = build.precision(cfg.trainer.precision, "cpu")
steps, done = int(sys.argv[1]), 0
tokens, span = data.tokenizer.encode(data.genome.codes), data.span
begin, start, state = None, torch.randint(0, len(tokens) - span, (cfg.data.batch_size,)), None
for step in range(-200, steps):
    if step == 0:
        begin = time.perf_counter()
    if step % 32 == 0:
        start, state = torch.randint(0, len(tokens) - 33 * span, (cfg.data.batch_size,)), None
    batch = tokens[start[:, None] + torch.arange(span)].long()
    start = start + cfg.data.seq_len
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        logits, state = net(batch[:, :-1], state)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten())
    state = tuple(each.detach() for each in state)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
print("RATE", steps * cfg.data.batch_size * cfg.data.seq_len / (time.perf_counter() - begin))
"""


def bare(steps: int) -> float:
    """Return the tokens a second of a bare loop."""
    command = [sys.executable, "-c", BARE, str(steps), "trainer=cpu"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.rpartition("RATE ")[2])


def trained(steps: int, *overrides: str) -> dict[str, float]:
    """Return the result of a run of the command."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["trainer=cpu", f"trainer.max_steps={steps}", f"hydra.run.dir={folder}/run", *overrides]
        command = [sys.executable, "-m", "genoseq.train", *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        result: dict[str, float] = json.loads((Path(folder) / "run" / "result.json").read_text())
        return result


def _spin() -> None:
    while True:
        pass


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """Keep one core busy."""
    process = multiprocessing.Process(target=_spin, daemon=True)
    process.start()
    time.sleep(0.2)
    try:
        yield
    finally:
        process.kill()


def ratio(what: str, one: list[float], other: list[float]) -> str:
    """Return a line of two medians, and the median and range of their ratio."""
    ratios = [a / b for a, b in zip(one, other, strict=True)]
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return f"{what}: {statistics.median(one):,.0f} and {statistics.median(other):,.0f} tokens/s, ratio {spread}"


def main(steps: str = "2000") -> None:
    """Print the rows."""
    n, key = int(steps), "train/tokens_per_second"
    ours, theirs, beside = [], [], []
    for _ in range(REPEATS):
        ours.append(trained(n, "mixer=none", "baseline=false")[key])
        theirs.append(bare(n))
        with busy_neighbour():
            beside.append(trained(n, "mixer=none", "baseline=false")[key])
    print(ratio("genoseq.train, and a bare loop", ours, theirs))
    print(ratio("beside a busy process, and alone", beside, ours))


if __name__ == "__main__":
    main(*sys.argv[1:])
