"""What the runs of the study of the split have measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from genoseq.errors import UserError
from genoseq.files import read_metrics
from genoseq.report.study_common import configured, training_tokens
from genoseq.sweeps.collect import collect
from genoseq.sweeps.groups import Run

BYSTANDER = "leakage_tables"
"""The experiment whose network is not trained: its runs measure tables only."""


class Score(NamedTuple):
    """Accuracy (fraction) and bits per base on a test part."""

    accuracy: float
    bits: float


@dataclass(frozen=True)
class Measured:
    """A tested run.

    Attributes
    ----------
    run : Run
    genome, split : str
    bases : int
        Length of the genome.
    stride : int or None
        Bases from one window's start to the next; None where bases are split, not windows.
    tables : list of Score
        By order, from 0.
    others : dict of str to Score
        The blend, chance, and the LSTM if it was trained.
    """

    run: Run
    genome: str
    split: str
    bases: int
    stride: int | None
    tables: list[Score]
    others: dict[str, Score]

    @property
    def label(self) -> str:
        """Its split, in words."""
        if self.stride is None:
            return self.split
        return "at every base" if self.stride == 1 else f"every {self.stride} bases"

    @property
    def best_order(self) -> int:
        """The order whose table scores highest on the test part."""
        return max(range(len(self.tables)), key=lambda order: self.tables[order].accuracy)


def read_runs(folder: Path) -> list[Measured]:
    """Return the tested runs of the folders in a folder, longest genome first, then from the closest windows on.

    Raises
    ------
    UserError
        If there is none, or one has not left its tables.
    """
    sweeps = [collect(sub) for sub in sorted(folder.iterdir()) if (sub / "jobs.json").is_file()]
    runs = [_measured(run) for sweep in sweeps for run in sweep.done]
    if not runs:
        raise UserError(f"no run in the folders of {folder} has been tested yet: let the study's commands end first")
    return sorted(runs, key=lambda one: (-one.bases, one.stride is None, one.stride or 0))


def _measured(run: Run) -> Measured:
    tables = read_metrics(run.folder / "orders.csv")
    pairs = zip(tables.get("accuracy", []), tables.get("bits_per_base", []), strict=True)
    scores = [Score(accuracy, bits) for accuracy, bits in pairs if accuracy is not None and bits is not None]
    names = {"imm": "imm", "chance": "chance"}
    if f"experiment={BYSTANDER}" not in run.words:
        names["test"] = "LSTM"
    stride = run.figure("split/window_stride")
    return Measured(
        run=run,
        genome=str(run.result["genome/name"]),
        split=str(run.result["split/name"]),
        bases=int(run.result["genome/bases"]),
        stride=None if stride is None else int(stride),
        tables=scores,
        others={
            name: Score(run.result[f"{stage}/accuracy"], run.result[f"{stage}/bits_per_base"])
            for stage, name in names.items()
        },
    )


def trained(runs: Sequence[Measured]) -> list[Measured]:
    """Return the runs whose network was trained."""
    return [one for one in runs if "LSTM" in one.others]


def largest(runs: Sequence[Measured]) -> list[Measured]:
    """Return the runs on the longest genome, one a split."""
    return list({one.stride: one for one in runs if one.bases == runs[0].bases}.values())


def scale(runs: Sequence[Measured]) -> str:
    """Return how large the trained networks were."""
    found = trained(runs)
    if not found:
        return "no network was trained"
    one = found[0]
    hidden, tokens = int(configured(one.run, "model.hidden_size")), training_tokens(one.run)
    return (
        f"{one.run.result['scale']} scale: LSTM of hidden {hidden} on {one.bases:,} bases, "
        f"{tokens / 1e6:.2g} M training tokens"
    )
