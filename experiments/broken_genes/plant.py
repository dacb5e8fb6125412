"""Plant indels of one base into held-out runs of one letter, in genes and between them: ``plant.py STUDY_FOLDER``

Writes ``planted.fa``, the test part of the demo's genome twice, and ``planted.csv``, what was planted where.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genoseq.app.model import Model, genome_of
from genoseq.data.genes import reading_frames
from genoseq.errors import UserError, fail
from genoseq.files import write_atomic

PLANTED = 500
"""Indels of each kind."""
SHORTEST, MARGIN = 600, 60
"""Bases of the reading frames that are broken, and from an indel to their ends."""
APART = 150
"""Bases between two indels, and from an intergenic one to a reading frame a fifth of it, at least."""


def sites(text: str) -> dict[str, NDArray[Any]]:
    """Return starts of runs of three or more equal letters: one in each long reading frame, and those far from any."""
    runs = np.array([found.start() for found in re.finditer(r"A{3,}|C{3,}|G{3,}|T{3,}", text)])
    genome, rng = genome_of(text), np.random.default_rng(0)
    inner = []
    for frame in reading_frames(genome, SHORTEST):
        start, end = frame.span
        some = runs[(runs > start + MARGIN) & (runs < end - MARGIN)]
        if len(some):
            inner.append(int(rng.choice(some)))
    taken = np.zeros(len(text) + 1, dtype=bool)
    for frame in reading_frames(genome):
        start, end = frame.span
        taken[max(start - APART // 5, 0) : end + APART // 5] = True
    return {"frames": np.array(inner), "intergenic": runs[~taken[runs]]}


def plant(text: str, places: NDArray[Any], rng: np.random.Generator) -> tuple[str, list[dict[str, Any]]]:
    """Return a text whose runs at some places are a letter longer or shorter, and where they are in it."""
    chosen: list[int] = []
    for at in rng.permutation(places).tolist():
        if len(chosen) < PLANTED and all(abs(at - other) >= APART for other in chosen):
            chosen.append(at)
    out, rows, last, shift = [], [], 0, 0
    for at in sorted(chosen):
        change = int(rng.choice([-1, 1]))
        out += [text[last:at], text[at] if change > 0 else ""]
        last = at if change > 0 else at + 1
        rows.append({"start": at + shift, "change": change})
        shift += change
    return "".join([*out, text[last:]]), rows


def main(folder: str) -> None:
    """Write both files."""
    data = Model(Path(folder) / "demo" / "checkpoints" / "best.ckpt", mixer=False).training_data
    text, rng = data.genome.letters(*data.parts.test[0].tolist()), np.random.default_rng(1)
    records, rows = [], []
    for kind, places in sites(text).items():
        letters, found = plant(text, places, rng)
        records.append(f">{kind}\n{letters}\n")
        rows += [{"record": kind, "bases": len(letters)} | row for row in found]
    write_atomic(Path(folder) / "planted.fa", "".join(records))
    pd.DataFrame(rows).to_csv(Path(folder) / "planted.csv", index=False)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        fail(str(error))
