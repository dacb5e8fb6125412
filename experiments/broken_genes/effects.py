"""Do scores tell stop-gaining from synonymous substitutions in held-out reading frames? ``effects.py NAME=CKPT …``

Reading frames (ATG to a stop, 900 bases or more) of both strands in the last fifth, no annotation: in 60 of them, 60
random substitutions each, and every stop-gaining one of one codon in eight.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from Bio.Data.CodonTable import unambiguous_dna_by_id
from numpy.typing import NDArray
from scipy.stats import rankdata

from genoseq.app.model import Models
from genoseq.errors import UserError, fail
from genoseq.evaluation.edits import changes_in

SHORTEST, FRAMES, EACH, MARGIN = 900, 60, 60, 60
DOWNSTREAM = (0, 8, 32, 128)
"""Bases after the substitution that a score sums over."""
TABLE = unambiguous_dna_by_id[11]
CODE = {**TABLE.forward_table, **dict.fromkeys(TABLE.stop_codons, "*")}


def frames(text: str, low: int, high: int) -> list[tuple[int, int]]:
    """Return (start, end without the stop) of reading frames of one strand between two positions."""
    found = []
    for frame in range(3):
        start = None
        for at in range(low + frame, high - 2, 3):
            codon = text[at : at + 3]
            if CODE.get(codon) == "*":
                if start is not None and at - start >= SHORTEST:
                    found.append((start, at))
                start = None
            elif codon == "ATG" and start is None:
                start = at
    return found


def substitutions(text: str, turned: str, low: int, high: int, seed: int) -> pd.DataFrame:
    """Return substitutions in held-out reading frames: place and letter on the genome's strand, kind, and codons."""
    n, rng = len(text), np.random.default_rng(seed)
    strands = {"+": (text, frames(text, low, high)), "-": (turned, frames(turned, n - high, n - low))}
    all_frames = [(strand, *frame) for strand, (_, found) in strands.items() for frame in found]
    rows: list[dict[str, Any]] = []

    def add(strand: str, at: int, start: int, alt: str) -> None:
        letters, phase = strands[strand][0], (at - start) % 3
        codon = letters[at - phase : at - phase + 3]
        new = codon[:phase] + alt + codon[phase + 1 :]
        kind = "stop" if CODE[new] == "*" else "synonymous" if CODE[new] == CODE[codon] else "missense"
        place, letter = (at, alt) if strand == "+" else (n - 1 - at, alt.translate(str.maketrans("ACGT", "TGCA")))
        rows.append({"at": place, "alt": letter, "kind": kind, "change": codon[phase] + alt, "ref": codon, "new": new})

    for i in rng.permutation(len(all_frames))[:FRAMES].tolist():
        strand, start, end = all_frames[i]
        letters = strands[strand][0]
        for at in rng.choice(np.arange(start + MARGIN, end - MARGIN), EACH, replace=False).tolist():
            add(strand, at, start, rng.choice([x for x in "ACGT" if x != letters[at]]))
        for codon in range(start + MARGIN, end - MARGIN - 2, 24):
            for at in range(codon, codon + 3):
                for alt in "ACGT".replace(letters[at], ""):
                    new = letters[codon:at] + alt + letters[at + 1 : codon + 3]
                    if CODE[new] == "*":
                        add(strand, at, start, alt)
    return pd.DataFrame(rows)


def auroc(positive: NDArray[Any], negative: NDArray[Any]) -> float:
    """Return the probability that a positive has the lower score (ties count half)."""
    ranks = rankdata(-np.concatenate([positive, negative]))[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


def within_change(table: pd.DataFrame, score: str, kind: str) -> float:
    """Return the AUROC of a kind against synonymous among substitutions of the same base change, averaged by size."""
    values, weights = [], []
    for _, part in table.groupby("change"):
        some, other = (part.loc[part["kind"] == each, score].to_numpy() for each in (kind, "synonymous"))
        if min(len(some), len(other)) > 20:
            values.append(auroc(some, other))
            weights.append(min(len(some), len(other)))
    return float(np.average(values, weights=weights)) if values else float("nan")


def main(out: str, *named: str) -> None:
    """Write effects.csv: one row a model and number of bases downstream."""
    rows: list[dict[str, Any]] = []
    for name, path in (text.split("=", 1) for text in named):
        for mixed in (False, True):
            models = Models(path, mixer=mixed)
            model, genome = models.models[0], models.genome
            if mixed and model.mixer is None:
                continue
            other = genome.reverse_complement()
            low, high = model.training_data.parts.test[0].tolist()
            text, turned = genome.letters(), other.letters()
            table = substitutions(text, turned, low + 1024, high - 1024, seed=0)
            at, alt = table["at"].to_numpy(), [np.array(["NACTG".index(x)], dtype=np.uint8) for x in table["alt"]]
            changes = changes_in(genome, at, np.ones_like(at), alt, DOWNSTREAM[-1])
            strands = (changes, changes.reverse_complement(other.codes.numpy()))
            sums = [model.score_changes(strand, [d + 1 for d in DOWNSTREAM[:-1]]) for strand in strands]
            scores = {f"{name}{', mixed' if mixed else ''}": np.mean(sums, axis=0)}
            if not mixed:
                counted = np.mean([model.score_changes_by_counts(strand) for strand in strands], axis=0)
                scores[f"interpolated Markov model ({name})"] = np.repeat(counted[:, None], len(DOWNSTREAM), axis=1)
                usage = Counter(
                    letters[i : i + 3]
                    for letters, (a, b) in ((text, (0, low)), (turned, (high - low, len(text))))
                    for start, end in frames(letters, a, b)
                    for i in range(start, end, 3)
                )
                gain = [
                    np.log2((usage[new] + 1) / (usage[ref] + 1))
                    for ref, new in zip(table["ref"], table["new"], strict=True)
                ]
                scores[f"codon usage ({name})"] = np.repeat(np.array(gain)[:, None], len(DOWNSTREAM), axis=1)
            for label, values in scores.items():
                for j, downstream in enumerate(DOWNSTREAM):
                    table["score"] = values[:, j]
                    by_kind = {
                        k: table.loc[table["kind"] == k, "score"].to_numpy() for k in ("stop", "missense", "synonymous")
                    }
                    row: dict[str, Any] = {"model": label, "downstream": downstream}
                    row |= {f"n {k}": len(v) for k, v in by_kind.items()}
                    row["stop"] = auroc(by_kind["stop"], by_kind["synonymous"])
                    row["stop, same base change"] = within_change(table, "score", "stop")
                    row["missense"] = auroc(by_kind["missense"], by_kind["synonymous"])
                    row["missense, same base change"] = within_change(table, "score", "missense")
                    rows.append(row)
                    print(row, flush=True)
    pd.DataFrame(rows).to_csv(Path(out), index=False, float_format="%.4f")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        fail(str(error))
