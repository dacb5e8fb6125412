"""Surprise around known frameshifts, before the edit that mends each and after: ``loci.py STUDY_FOLDER``"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genoseq.app.model import Model, Models
from genoseq.errors import UserError, fail

LOCI = {
    "ilvG": ("K-12-MG1655", 3_949_556, -1),
    "rph": ("K-12-MG1655", 3_813_902, 1),
    "phnE": ("K-12-MG1655", 4_320_852, 1),
    "prfB": ("K-12-MG1655", 3_034_228, -1),
}
"""Record, start of the run of one letter (0-based), and the letters that mend it: genes of *E. coli* K-12 MG1655 that a
frameshift breaks, and prfB, whose ribosomes shift by one base at codon 26 (Craigen and Caskey, Nature 1986)."""
AROUND, CONTEXT = 200, 1024
"""Bases on each side that are shown, and read before them."""


def chosen(scores: pd.DataFrame) -> dict[str, tuple[str, int, int]]:
    """Return the known frameshifts, or, of another genome, the three edits that gain most."""
    if LOCI["ilvG"][0] in set(scores["record"]):
        return LOCI
    top = scores.head(3)
    return {
        f"edit {i}": (row.record, row.pos - 1, len(row.alt) - len(row.ref)) for i, row in enumerate(top.itertuples(), 1)
    }


def surprise(model: Model, text: str) -> NDArray[np.float64]:
    """Return -log2 p of each base of a sequence, the mean of both strands."""
    turned = text[::-1].translate(str.maketrans("ACGT", "TGCA"))
    bits = []
    for letters in (text, turned):
        log_probs = model.log_probs(letters)
        bits.append(-log_probs[np.arange(len(letters)), ["ACGT".index(x) for x in letters]] / np.log(2))
    return np.asarray((bits[0] + bits[1][::-1]) / 2, dtype=float)


def main(folder: str) -> None:
    """Write loci.csv: surprise by locus, and by base from the edited run."""
    models = Models(str(Path(folder) / "folds" / "*" / "checkpoints" / "best.ckpt"), mixer=False)
    scores = pd.read_csv(Path(folder) / "edits-folds" / "scores.tsv", sep="\t")
    first = {record.name: record.start for record in models.genome.records}
    rows: list[dict[str, Any]] = []
    for locus, (record, start, change) in chosen(scores).items():
        at = first[record] + start
        model = models.models[models.owners(np.array([at]))[0]]
        left = min(AROUND + CONTEXT, start)
        text = models.genome.letters(at - left, at + AROUND + CONTEXT)
        mended = text[:left] + (text[left] + text[left:] if change > 0 else text[left + 1 :])
        for version, letters in (("genome", text), ("mended", mended)):
            bits = surprise(model, letters)[max(left - AROUND, 0) : left + AROUND]
            rows += [{"locus": locus, "version": version, "base": i - min(left, AROUND), "surprise": bit}
                     for i, bit in enumerate(bits)]  # fmt: skip
    pd.DataFrame(rows).to_csv(Path(folder) / "loci.csv", index=False, float_format="%.4f")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except UserError as error:
        fail(str(error))
