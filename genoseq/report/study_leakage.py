"""The study of the split: what memory alone scores, by how far apart windows start that are split at random."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from genoseq.files import write_csv
from genoseq.report.study_leakage_figure import draw_leakage
from genoseq.report.study_leakage_read import Measured, Score, read_runs, scale

_ABOUT = ("leakage/positions", "leakage/shared_kmers", "baseline/order", "train/steps", "seconds", "seed")
_SHOWN = (6, 12, 16)  # orders of tables in the printed table
_HEADS = ("genome", "windows start", "seen", "24-mers", *(f"order {k}" for k in _SHOWN), "best table", "imm", "LSTM")
_MEANS = (
    "Accuracy (%) / bits per base on the test part. seen: test positions inside a training window (%); 24-mers: those "
    "of the test part that occur in training (%); best table: of orders 0 to 16, the most accurate on the test part."
)


def write_study(folder: Path, out: Path) -> None:
    """Write results.csv and figure.png, and print the table.

    Parameters
    ----------
    folder : Path
        Holds the runs in one folder for each command.
    out : Path
    """
    runs = read_runs(folder)
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "results.csv", [row for one in runs for row in _rows(one)])
    draw_leakage(runs, out / "figure.png")
    _show(runs, Console())
    print(f"files:   {out / 'results.csv'}  {out / 'figure.png'}")


def _rows(one: Measured) -> list[dict[str, Any]]:
    """Return a run's rows of results.csv, one a model."""
    about = {"genome": one.genome, "bases": one.bases, "split": one.split, "window_stride": one.stride}
    models: list[tuple[str, int | None, Score]] = [("table", order, score) for order, score in enumerate(one.tables)]
    models += [(name, None, score) for name, score in one.others.items()]
    return [
        about
        | {"model": name, "order": order, "accuracy": score.accuracy, "bits_per_base": score.bits}
        | {key: one.run.result.get(key) for key in _ABOUT}
        for name, order, score in models
    ]


def _pair(score: Score | None) -> str:
    return "–" if score is None else f"{100 * score.accuracy:.1f} / {score.bits:.3f}"


def _share(one: Measured, key: str) -> str:
    value = one.run.figure(key)
    return "–" if value is None else f"{100 * value:.1f}"


def _cells(one: Measured) -> list[str]:
    best = one.best_order
    return [
        one.genome,
        one.label,
        *(_share(one, f"leakage/{name}") for name in ("positions", "shared_kmers")),
        *(_pair(one.tables[order]) for order in _SHOWN),
        f"{_pair(one.tables[best])} (k={best})",
        *(_pair(one.others.get(name)) for name in ("imm", "LSTM")),
    ]


def _show(runs: Sequence[Measured], console: Console) -> None:
    # a file or a pipe has no width of its own, and a row must not be broken
    console.width = console.width if console.is_terminal else 165
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, head in enumerate(_HEADS):
        table.add_column(Text(head), justify="left" if i < 2 else "right", no_wrap=True)
    for i, one in enumerate(runs):
        last = i + 1 == len(runs) or runs[i + 1].genome != one.genome
        table.add_row(*map(Text, _cells(one)), end_section=last)
    console.print(Text(f"\n{scale(runs)}"))
    console.print(table)
    console.print(Text(_MEANS))
