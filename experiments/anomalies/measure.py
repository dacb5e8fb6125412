"""Plant anomalies into held-out sequence and score windows of it: ``measure.py RUN_FOLDER FOREIGN_GENOME …``

Writes ``planted.csv`` (kind, start, end) and ``windows.csv`` (start, and scores by each method) into the run's folder.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from genoseq.app.model import Model, genome_of
from genoseq.data.intervals import as_intervals
from genoseq.data.sources import load_genome
from genoseq.data.variants import encode
from genoseq.errors import UserError, fail
from genoseq.evaluation.edits import letters_of
from genoseq.evaluation.sampling import shuffled
from genoseq.evaluation.tracks import Tracks, window_scores

LENGTH = 2000
"""Bases of what is planted."""
EACH = 40
"""Of each kind, at most: two are at least their length apart."""
WINDOW, STEP = 1000, 100


def kinds(text: str, foreign: dict[str, str], rng: np.random.Generator) -> dict[str, Callable[[int], tuple[str, int]]]:
    """Return, by kind, what takes the place of the bases from a position on, and how many bases it replaces."""

    def from_elsewhere(other: str) -> Callable[[int], tuple[str, int]]:
        def insert(_: int) -> tuple[str, int]:
            at = int(rng.integers(0, len(other) - LENGTH))
            return other[at : at + LENGTH], 0

        return insert

    def reverse(at: int) -> tuple[str, int]:
        return text[at : at + LENGTH][::-1].translate(str.maketrans("ACGT", "TGCA")), LENGTH

    def shuffle(at: int) -> tuple[str, int]:
        return letters_of(shuffled(encode(text[at : at + LENGTH]), rng)), LENGTH

    made = {f"from {name}": from_elsewhere(other) for name, other in foreign.items()}
    # a misjoin leaves a stretch out: only the place where two ends meet is wrong
    return made | {"shuffled": shuffle, "inverted": reverse, "misjoined": lambda at: ("", LENGTH)}


def plant(text: str, foreign: dict[str, str]) -> tuple[str, pd.DataFrame]:
    """Return a text with anomalies, and where they are."""
    rng = np.random.default_rng(0)
    makers = kinds(text, foreign, rng)
    each = min(EACH, len(text) // (3 * LENGTH) // len(makers))
    names = rng.permutation([name for name in makers for _ in range(each)])
    room = len(text) // len(names)
    out, rows, last, length = [], [], 0, 0
    for i, name in enumerate(names.tolist()):
        at = i * room + LENGTH + int(rng.integers(0, room - 3 * LENGTH + 1))
        letters, replaced = makers[name](at)
        start = length + at - last
        out += [text[last:at], letters]
        length, last = start + len(letters), at + replaced
        rows.append({"kind": name, "start": start, "end": length})
    return "".join([*out, text[last:]]), pd.DataFrame(rows)


def scored(path: Path, text: str) -> pd.DataFrame:
    """Return the scores of a sequence's windows: the track's, without and with the mixer, and the count model's."""
    genome = genome_of(text)
    table = pd.DataFrame()
    for name, mixed in (("network", False), ("network and mixer", True)):
        model, tracks = Model(path, mixer=mixed), Tracks.empty(len(genome))
        tracks.add([model], genome, as_intervals([(0, len(genome))]))
        found = window_scores(tracks, genome.records, WINDOW, STEP)
        table["start"] = starts = np.array([start for _, start, _ in found])
        table[name] = [score for _, _, score in found]
    # the count model's own expectation is not known: its mean surprise
    sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(tracks.get("imm_surprise", 0, len(genome))), dtype=float)])
    table["interpolated Markov model"] = (sums[starts + WINDOW] - sums[starts]) / WINDOW
    return table


def main(folder: str, *foreign: str) -> None:
    """Write both files."""
    path = Path(folder) / "checkpoints" / "best.ckpt"
    data = Model(path).training_data
    text = data.genome.letters(*data.parts.test[0].tolist())
    others = {Path(name).name.partition(".")[0]: load_genome(name).letters().replace("N", "") for name in foreign}
    changed, planted = plant(text, others)
    scored(path, changed).to_csv(Path(folder) / "windows.csv", index=False, float_format="%.4f")
    planted.to_csv(Path(folder) / "planted.csv", index=False)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        fail(str(error))
