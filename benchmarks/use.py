"""How fast a trained model is used: scores of alleles against windows read from scratch, tracks against an evaluation.

``python -m benchmarks.use [CKPT]``: a checkpoint with a mixer, by default one that is trained for it, of the bare
command's size. Repeats take turns; the median of each and of their ratio is printed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from lightning.pytorch import Trainer

from genoseq.app.model import Model
from genoseq.evaluation.edits import changes_in, random_substitutions
from genoseq.evaluation.haplotypes import CONTEXT, Changes
from genoseq.evaluation.tracks import Tracks

REPEATS, EACH, FROM_SCRATCH = 3, 400, 64
"""Repeats; alleles of each of the twelve kinds, and how many of all are read from scratch."""


def seconds(*calls: Callable[[], object]) -> list[list[float]]:
    """Return the seconds of each of some calls, which take turns, after one turn that does not count."""
    out: list[list[float]] = [[] for _ in calls]
    for turn in range(REPEATS + 1):
        for call, taken in zip(calls, out, strict=True):
            begin = time.perf_counter()
            call()
            if turn:
                taken.append(time.perf_counter() - begin)
    return out


@torch.no_grad()
def from_scratch(model: Model, changes: Changes) -> None:
    """Read both haplotypes of each allele with `CONTEXT` bases before it, all side by side."""
    texts = [
        changes.haplotype(i, int(changes.start[i]) - CONTEXT, changes.downstream + 1, alternative)
        for i in range(len(changes))
        for alternative in (False, True)
    ]
    size = min(map(len, texts))
    tokens = torch.from_numpy(np.stack([text[:size] for text in texts])).long()
    logits = model.module(tokens[:, :-1])[0][:, CONTEXT:]
    logits.log_softmax(-1).gather(-1, tokens[:, CONTEXT + 1 :, None])


@contextmanager
def checkpoint(given: list[str]) -> Iterator[str]:
    """Yield the checkpoint that is given, or one that is made."""
    if given:
        yield given[0]
        return
    with tempfile.TemporaryDirectory() as folder:
        words = ["trainer=cpu", "trainer.max_steps=200", "logger=none", f"hydra.run.dir={folder}/run"]
        subprocess.run([sys.executable, "-m", "genoseq.train", *words], check=True, stdout=subprocess.DEVNULL)
        yield f"{folder}/run/checkpoints/best.ckpt"


def line(what: str, unit: str, amounts: tuple[float, float], taken: list[list[float]]) -> str:
    """Return a line of two rates and the median and range of their ratio."""
    ratios = [amounts[0] / a / (amounts[1] / b) for a, b in zip(*taken, strict=True)]
    rates = [amount / statistics.median(each) for amount, each in zip(amounts, taken, strict=True)]
    spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return f"{what}: {rates[0]:,.0f} and {rates[1]:,.0f} {unit}, ratio {spread}"


def main(*given: str) -> None:
    """Print the rows."""
    with checkpoint(list(given)) as path:
        model, mixed = Model(path, mixer=False), Model(path)
        data = model.training_data
        genome, test = data.genome, data.parts.test
        inner = test + np.array([[2 * CONTEXT, -2 * CONTEXT]])
        changes = random_substitutions(genome, inner, EACH, 0, 128)
        few = changes.take(np.random.default_rng(0).permutation(len(changes))[:FROM_SCRATCH])
        taken = seconds(lambda: model.score_changes(changes), lambda: from_scratch(model, few))
        what = f"{len(changes):,} alleles of {np.diff(test).sum():,} bases, a strand, and windows from scratch"
        print(line(what, "alleles/s", (len(changes), len(few)), taken), flush=True)
        dense = np.arange(int(inner[0, 0]), int(inner[0, 0]) + len(changes) // 3).repeat(3)
        alt = [np.array([1 + (genome.codes[at].item() + i % 3) % 4], np.uint8) for i, at in enumerate(dense.tolist())]
        every = changes_in(genome, dense, np.ones_like(dense), alt, 128)
        taken = seconds(lambda: model.score_changes(every), lambda: model.score_changes(changes))
        print(line("every substitution of a stretch, and as many at random", "alleles/s", (len(every),) * 2, taken))
        some = changes.take(np.arange(0, len(changes), 8))
        taken = seconds(lambda: mixed.score_changes(some), lambda: model.score_changes(some))
        print(line(f"{len(some)} alleles with the mixer, and without", "alleles/s", (len(some),) * 2, taken))
        options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "barebones": True}
        trainer = Trainer(accelerator="cpu", **options)

        def track(some: Model) -> None:
            Tracks.empty(len(genome)).add([some], genome, test)

        bases = float(np.diff(test).sum())
        taken = seconds(lambda: track(model), lambda: trainer.test(model.module, data, verbose=False))
        print(
            line("a track, bases read of both strands, and an evaluation of one", "bases/s", (2 * bases, bases), taken)
        )
        taken = seconds(lambda: track(mixed), lambda: track(model))
        print(line("a track with the mixer, and without", "bases/s", (2 * bases,) * 2, taken))


if __name__ == "__main__":
    main(*sys.argv[1:])
