"""The study of the report: its three models on its own split and on an honest one, beside tables of counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from genoseq.files import write_atomic, write_csv
from genoseq.report.study_report_figure import draw_models, draw_summary
from genoseq.report.study_report_read import Cited, Trained, facts, read_cited, read_runs, scale

_KEYS = (
    *("scale", "genome/name", "genome/bases", "model/parameters", "train/steps", "test/accuracy", "test/bits_per_base"),
    *("test/loss", "val/bits_per_base", "baseline/order", "baseline/accuracy", "baseline/bits_per_base"),
    *("imm/accuracy", "imm/bits_per_base", "chance/accuracy", "chance/bits_per_base", "leakage/positions"),
    *("leakage/shared_kmers", "tokens/new_bases", "split/leaks", "train/tokens_per_second", "seconds", "seed"),
    *("precision", "host/device", "version/genoseq", "version/torch"),
)
_COLUMNS = ("model", "split", "report", "ours", "order-k table", "k", "imm", "leakage", "last loss", "report's")
_MEANS = (
    "report, ours, table, imm: accuracy (%) / bits per base on the test part; leakage: test positions that lie in a "
    "training window; last loss, and the report's: in training, nats a token."
)


def write_study(folder: Path, out: Path) -> None:
    """Write results.csv, table.md, a figure of each model and figure.png, and print the table.

    Parameters
    ----------
    folder : Path
        The runs: experiments whose names end in the number of the report's model, each on one or more splits.
    out : Path
    """
    cited = read_cited(out)
    runs = read_runs(folder, cited)
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "results.csv", [_row(one, cited[one.model]) for one in runs])
    cells = [_cells(one, cited[one.model]) for one in runs]
    write_atomic(out / "table.md", _markdown(cells, runs))
    draw_models(runs, cited, out)
    draw_summary(runs, cited, out / "figure.png")
    _show(cells, runs, Console())
    print(f"files:   {out}")


def _row(one: Trained, cited: Cited) -> dict[str, Any]:
    """Return a run's row of results.csv; the report's figures stand where they belong, with its kind of split."""
    theirs = {"accuracy": cited.accuracy, "last_loss": cited.loss, "steps": cited.steps} if one.leaks else {}
    last = one.train.values[-1] if one.train.values else None
    return (
        {"model": one.model, "split": one.split, "state": one.run.state, "why": one.run.why}
        | {f"report/{key}": theirs.get(key) for key in ("accuracy", "last_loss", "steps")}
        | {"train/last_loss": last}
        | {key: one.run.result.get(key) for key in _KEYS}
    )


def _cells(one: Trained, cited: Cited) -> list[str]:
    figure = one.run.figure
    order, leak = figure("baseline/order"), figure("leakage/positions")
    return [
        f"Model {one.model}",
        one.split,
        f"{100 * cited.accuracy:.2f} / –" if one.leaks else "–",
        *(_pair(one, stage) for stage in ("test", "baseline")),
        "–" if order is None else f"{order:.0f}",
        _pair(one, "imm"),
        "–" if leak is None else f"{100 * leak:.1f} %",
        f"{one.train.values[-1]:.4f}" if one.train.values else "–",
        f"{cited.loss:.4f}" if one.leaks else "–",
    ]


def _pair(one: Trained, stage: str) -> str:
    accuracy, bits = one.run.figure(f"{stage}/accuracy"), one.run.figure(f"{stage}/bits_per_base")
    return "–" if accuracy is None or bits is None else f"{100 * accuracy:.2f} / {bits:.3f}"


def _markdown(cells: Sequence[Sequence[str]], runs: Sequence[Trained]) -> str:
    rule = ["---", "---", *["---:"] * (len(_COLUMNS) - 2)]
    lines = ["| " + " | ".join(row) + " |" for row in (_COLUMNS, rule, *cells)]
    return "\n".join([scale(runs) + ".", "", *lines, "", "\n".join([_MEANS, *facts(runs)]), ""])


def _show(cells: Sequence[Sequence[str]], runs: Sequence[Trained], console: Console) -> None:
    # a file or a pipe has no width of its own, and a row must not be broken
    console.width = console.width if console.is_terminal else 130
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, title=scale(runs), title_justify="left")
    for i, name in enumerate(_COLUMNS):
        table.add_column(name, justify="left" if i < 2 else "right")
    for row, one in zip(cells, runs, strict=True):
        table.add_row(*map(Text, row), style="" if one.leaks else "bold")
    console.print(table)
    for line in ("", _MEANS, *facts(runs)):
        console.print(Text(line))
