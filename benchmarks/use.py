"""How fast a trained model of the bare command's size is used: evaluations, scores of alleles, tracks."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from lightning.pytorch import Trainer

from benchmarks.rows import Row, by_turns, seconds
from genoseq.app.build import few_threads, precision
from genoseq.app.model import Model
from genoseq.data.windows import TrainingWindows
from genoseq.evaluation.edits import random_substitutions
from genoseq.evaluation.haplotypes import CONTEXT, Changes
from genoseq.evaluation.tracks import Tracks

Call = Callable[[], object]
REPEATS, EACH, FROM_SCRATCH = 3, 400, 64
"""Repeats; alleles of each of the twelve kinds, and how many of all are read from scratch."""


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
def checkpoint() -> Iterator[str]:
    """Yield a checkpoint with a mixer that is made for it."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["trainer=cpu", "trainer.max_steps=200", "logger=none", f"hydra.run.dir={folder}/run"]
        subprocess.run([sys.executable, "-m", "genoseq.train", *words], check=True, stdout=subprocess.DEVNULL)
        yield f"{folder}/run/checkpoints/best.ckpt"


def compare(
    what: str,
    against: str,
    unit: str,
    amounts: tuple[float, float],
    calls: Sequence[Call],
    goal: str = "",
) -> Row:
    """Return a row of two rates, after one turn that does not count."""
    for call in calls:
        call()
    taken = by_turns(REPEATS, *(partial(seconds, call) for call in calls))
    ours, theirs = ([n / each for each in some] for n, some in zip(amounts, taken, strict=True))
    return Row(what, against, unit, ours, theirs, goal)


def rows(quick: bool) -> Iterator[Row]:
    """Measure."""
    if quick:
        return
    with checkpoint() as path:
        model, mixed = Model(path, mixer=False), Model(path)
        data = model.training_data
        genome, test = data.genome, data.parts.test
        inner = test + np.array([[2 * CONTEXT, -2 * CONTEXT]])
        options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "barebones": True}
        kind = precision("auto", "cpu")
        trainer = Trainer(accelerator="cpu", precision=kind, **options)
        bases = float(np.diff(test).sum())

        def evaluate() -> None:
            with few_threads(model.module.net, data.eval_rows):
                trainer.test(model.module, data, verbose=False)

        steps = data.steps_of(1)
        data.setup("fit")
        windows = TrainingWindows(data.parts, data.vocabulary, data.seq_len, data.batch_size, 0)
        batches = [data.on_after_batch_transfer(windows[step]) for step in range(min(steps, 200))]

        def forward() -> None:
            with few_threads(model.module.net, data.batch_size), torch.autocast("cpu", enabled=kind == "bf16-mixed"):
                for batch in batches:
                    model.module.score(batch)

        amounts = bases, float(len(batches) * data.batch_size * data.seq_len)
        yield compare(
            "evaluation, stateful", "the step's forward part", "bases/s", amounts, (evaluate, forward), ">= 0.9"
        )
        changes = random_substitutions(genome, inner, EACH, 0, 128)
        few = changes.take(np.random.default_rng(0).permutation(len(changes))[:FROM_SCRATCH])
        calls = (lambda: model.score_changes(changes), lambda: from_scratch(model, few))
        counts = (len(changes), len(few))
        yield compare("scores of random alleles", "windows from scratch", "alleles/s", counts, calls, ">= 10")
        some = changes.take(np.arange(0, len(changes), 8))
        calls = (lambda: mixed.score_changes(some), lambda: model.score_changes(some))
        yield compare("the same with the mixer", "without", "alleles/s", (len(some),) * 2, calls)

        def track(some: Model) -> None:
            Tracks.empty(len(genome)).add([some], genome, test)

        calls = (lambda: track(model), evaluate)
        yield compare("a track, both strands", "an evaluation of one", "bases/s", (2 * bases, bases), calls, ">= 0.9")
        calls = (lambda: track(mixed), lambda: track(model))
        yield compare("a track with the mixer", "without", "bases/s", (2 * bases,) * 2, calls)
