"""Do scores tell stop codons and frameshifts from synonymous substitutions? ``effects.py STUDY_FOLDER``

In 60 reading frames (ATG to a stop, 900 bases or more) of both strands of the test part, without annotation: 60 random
substitutions each, every stop-gaining one of one codon in eight, and a letter more or less in 20 runs of one letter.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from genoseq.app.model import Models
from genoseq.data.genes import AMINO_ACID, open_frames
from genoseq.data.variants import encode
from genoseq.errors import UserError, fail
from genoseq.evaluation.edits import changes_in

SHORTEST, FRAMES, EACH, RUNS, MARGIN = 900, 60, 60, 20, 60
DOWNSTREAM = (0, 8, 32, 64, 128, 256)
"""Bases after the allele that a score sums over."""
TURNED = str.maketrans("ACGT", "TGCA")


def alleles(text: str, turned: str, low: int, high: int, seed: int) -> pd.DataFrame:
    """Return alleles of reading frames: kind, and place, bases replaced and letters on the genome's strand."""
    n, rng = len(text), np.random.default_rng(seed)
    strands = {"+": (text, low, high), "-": (turned, n - high, n - low)}
    frames = [
        (strand, a + start, a + end - 3)
        for strand, (letters, a, b) in strands.items()
        for start, end in open_frames(encode(letters[a:b]), SHORTEST, ["ATG"]).tolist()
    ]
    rows: list[dict[str, Any]] = []

    def add(strand: str, at: int, ref: int, alt: str, **more: str) -> None:
        place, letters = (at, alt) if strand == "+" else (n - at - ref, alt.translate(TURNED)[::-1])
        rows.append({"at": place, "ref": ref, "alt": letters, **more})

    def substitute(strand: str, at: int, start: int, alt: str) -> None:
        letters, phase = strands[strand][0], (at - start) % 3
        codon = letters[at - phase : at - phase + 3]
        new = codon[:phase] + alt + codon[phase + 1 :]
        acid, before = AMINO_ACID[new], AMINO_ACID[codon]
        kind = "stop" if acid == "*" else "synonymous" if acid == before else "missense"
        add(strand, at, 1, alt, kind=kind, change=codon[phase] + alt, codon=codon, new=new)

    for i in rng.permutation(len(frames))[:FRAMES].tolist():
        strand, start, end = frames[i]
        letters = strands[strand][0]
        for at in rng.choice(np.arange(start + MARGIN, end - MARGIN), EACH, replace=False).tolist():
            substitute(strand, at, start, rng.choice([x for x in "ACGT" if x != letters[at]]))
        for codon in range(start + MARGIN, end - MARGIN - 2, 24):
            for at in range(codon, codon + 3):
                for alt in "ACGT".replace(letters[at], ""):
                    if AMINO_ACID[letters[codon:at] + alt + letters[at + 1 : codon + 3]] == "*":
                        substitute(strand, at, start, alt)
        runs = [m.start() for m in re.finditer(r"A{3,}|C{3,}|G{3,}|T{3,}", letters[start + MARGIN : end - MARGIN])]
        for at in rng.permutation(runs)[:RUNS].tolist():
            at += start + MARGIN
            longer = bool(rng.integers(2))
            add(strand, at, 0 if longer else 1, letters[at] if longer else "", kind="frameshift")
    return pd.DataFrame(rows, columns=["at", "ref", "alt", "kind", "change", "codon", "new"])


def auroc(positive: NDArray[Any], negative: NDArray[Any]) -> float:
    """Return the probability that a positive has the lower score (ties count half); nan without one of each."""
    if not len(positive) or not len(negative):
        return float("nan")
    ranks = rankdata(-np.concatenate([positive, negative]))[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


def within_change(table: pd.DataFrame, kind: str) -> float:
    """Return the AUROC of a kind against synonymous among substitutions of the same base change, averaged by size."""
    values, weights = [], []
    for _, part in table.groupby("change"):
        some, other = (part.loc[part["kind"] == each, "score"].to_numpy() for each in (kind, "synonymous"))
        if min(len(some), len(other)) > 20:
            values.append(auroc(some, other))
            weights.append(min(len(some), len(other)))
    return float(np.average(values, weights=weights)) if values else float("nan")


def measured(table: pd.DataFrame, label: str, downstream: int) -> dict[str, Any]:
    """Return a row of results of alleles with their ``score``."""
    kinds = ("stop", "frameshift", "missense", "synonymous")
    scores = {kind: table.loc[table["kind"] == kind, "score"].to_numpy() for kind in kinds}
    row: dict[str, Any] = {"model": label, "downstream": downstream}
    row |= {f"n {kind}": len(some) for kind, some in scores.items()}
    row |= {f"mean {kind}": some.mean() if len(some) else float("nan") for kind, some in scores.items()}
    row |= {kind: auroc(scores[kind], scores["synonymous"]) for kind in kinds[:3]}
    return row | {f"{kind}, same base change": within_change(table, kind) for kind in ("stop", "missense")}


def codon_usage(table: pd.DataFrame, strands: list[tuple[str, int, int]]) -> NDArray[np.float64]:
    """Return log2 of how much more often the new codon of a substitution is used in the training part's frames."""
    usage = Counter(
        letters[i : i + 3]
        for letters, a, b in strands
        for start, end in open_frames(encode(letters[a:b]), SHORTEST, ["ATG"]).tolist()
        for i in range(a + start, a + end - 3, 3)
    )
    told = table[["codon", "new"]].fillna("").to_numpy()
    return np.array([np.log2((usage[new] + 1) / (usage[codon] + 1)) for codon, new in told])


def main(folder: str) -> None:
    """Write effects.csv: one row a model and number of bases downstream."""
    rows: list[dict[str, Any]] = []
    for name in ("demo", "record"):
        for mixed in (False, True):
            models = Models(str(Path(folder) / name / "checkpoints" / "best.ckpt"), mixer=mixed)
            model, genome = models.models[0], models.genome
            other, text = genome.reverse_complement(), genome.letters()
            low, high = model.training_data.parts.test[0].tolist()
            table = alleles(text, turned := other.letters(), low + 1024, high - 1024, seed=0)
            at, ref = (table[key].to_numpy(dtype=np.int64) for key in ("at", "ref"))
            changes = changes_in(genome, at, ref, [encode(alt) for alt in table["alt"]], DOWNSTREAM[-1]).left_aligned()
            strands = (changes, changes.reverse_complement(other.codes.numpy()))
            sums = [model.score_changes(strand, [d + 1 for d in DOWNSTREAM[:-1]]) for strand in strands]
            scores = {f"{name}{', mixed' if mixed else ''}": np.mean(sums, axis=0)}
            if not mixed and name == "demo":
                counted = np.mean([model.score_changes_by_counts(strand) for strand in strands], axis=0)
                usage = codon_usage(table, [(text, 0, low), (turned, high - low, len(text))])
                scores |= {"interpolated Markov model": counted[:, None], "codon usage": usage[:, None]}
            for label, values in scores.items():
                for j, downstream in enumerate(DOWNSTREAM if values.shape[1] > 1 else DOWNSTREAM[-1:]):
                    rows.append(measured(table.assign(score=values[:, j]), label, downstream))
    pd.DataFrame(rows).to_csv(Path(folder) / "effects.csv", index=False, float_format="%.4f")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        fail(str(error))
