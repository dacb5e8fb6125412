"""What ``genoseq.evaluate`` leaves: figures by record and in all, beside the count models'."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.table import Table

from genoseq.baselines.fit import Baselines, chance, leakage, scored_on, stage_scores
from genoseq.baselines.markov import Score
from genoseq.data.coverage import covered
from genoseq.data.datamodule import GenomeData
from genoseq.evaluation.leakage import shared_kmers
from genoseq.report.provenance import provenance
from genoseq.report.result import about_data, baselines_result

FIGURES = ("loss", "accuracy", "bits_per_base", "perplexity")
SHOWN = 20  # records in the printed table; records.csv has all


def seen_elsewhere(home: GenomeData, data: GenomeData) -> dict[str, float]:
    """Return how much of another genome's 24-mers the training part of `home` holds."""
    codes = np.concatenate([home.genome.codes.numpy(), data.genome.codes.numpy()])
    share = shared_kmers(codes, covered(home.parts, "train", home.span), data.parts.test + len(home.genome))
    return {"leakage/positions": 0.0, "leakage/shared_kmers": share}


def by_record(baselines: Baselines, data: GenomeData) -> list[dict[str, Score]]:
    """Return both count models' scores of each record's test part."""
    part = scored_on(data, "test")
    edges = np.array([record.start for record in data.genome.records])
    owner = np.searchsorted(edges, part[:, 0], side="right") - 1
    out = [{"baseline": Score(), "imm": Score()} for _ in edges]
    for name, model in (("baseline", baselines.table), ("imm", baselines.imm)):
        for record, score in zip(owner, stage_scores(model, data, "test"), strict=True):
            out[record][name] += score
    return out


def evaluation_result(
    cfg: DictConfig,
    about: dict[str, Any],
    data: GenomeData,
    home: GenomeData | None,
    figures_in_all: dict[str, float],
    per_record: Sequence[dict[str, float]],
    device: str,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Gather the figures in all and by record.

    Parameters
    ----------
    about : dict
        What the checkpoint says of itself.
    home : GenomeData or None
        The data it was trained on; None leaves the count models and the leakage out.
    figures_in_all : dict
        The ``test/`` figures.
    per_record : sequence of dict
        Loss, accuracy, bits_per_base, perplexity and tokens of each record.
    device : str
        Kind of device that it ran on.
    """
    baselines = Baselines.fit(home) if home is not None and cfg.baseline else None
    scores = by_record(baselines, data) if baselines else [{} for _ in per_record]
    rows = []
    for record, figures, score in zip(data.genome.records, per_record, scores, strict=True):
        if figures["tokens"]:
            row: dict[str, Any] = {"record": record.name, "bases": record.length, "tokens": figures["tokens"]}
            row |= {name: figures[name] for name in FIGURES}
            for name, s in score.items():
                row |= {f"{name}/accuracy": s.accuracy, f"{name}/bits_per_base": s.bits_per_base}
            rows.append(row)
    total = {name: sum((s[name] for s in scores), Score()) for name in ("baseline", "imm")} if baselines else {}
    seen = {} if home is None else leakage(data) if home is data else seen_elsewhere(home, data)
    result = {
        **figures_in_all,
        **baselines_result(total, baselines),
        **chance(data),
        **seen,
        "test/mode": "frozen",
        "test/tokens": sum(row["tokens"] for row in rows),
        "test/part": "test part" if home is data else "whole genome",
        **about_data(data),
        "checkpoint": str(Path(cfg.ckpt).resolve()),
        "checkpoint/genome": about["genome"]["name"],
        "checkpoint/sha256": about["genome"]["sha256"],
        **provenance(device),
    }
    return result, rows


def print_evaluation(result: dict[str, Any], rows: list[dict[str, Any]], folder: Path) -> None:
    """Print the table by record and in all."""
    console = Console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("record")
    for title in ("tokens", "loss (nats)", "accuracy (%)", "bits/base", "baseline", "imm"):
        table.add_column(title, justify="right")
    total = {"record": "all", "tokens": result["test/tokens"]} | {n: result[f"test/{n}"] for n in FIGURES}
    total |= {k: v for k, v in result.items() if k.startswith(("baseline/", "imm/"))}
    for row in [*rows[:SHOWN], total]:
        count = (f"{row[k]:.3f}" if k in row else "–" for k in ("baseline/bits_per_base", "imm/bits_per_base"))
        table.add_row(
            row["record"],
            f"{row['tokens']:,}",
            f"{row['loss']:.4f}",
            f"{100 * row['accuracy']:.2f}",
            f"{row['bits_per_base']:.3f}",
            *count,
            end_section=row is rows[min(len(rows), SHOWN) - 1],
        )
    console.print(f"\n{result['genome/name']} ({result['test/part']}), trained on {result['checkpoint/genome']}")
    console.print(table)
    if len(rows) > SHOWN:
        console.print(f"… and {len(rows) - SHOWN} more records, in records.csv")
    console.print("baseline and imm: bits per base of the count models learnt from the same training part")
    if "leakage/shared_kmers" in result:
        share = 100 * result["leakage/shared_kmers"]
        console.print(f"leakage: {share:.1f} % of its 24-mers occur in the training part, on either strand")
    if result["split/leaks"]:
        console.print("This split leaks by design: the figures measure memory, not what was learnt about DNA.")
    console.print(f"files: {folder}", soft_wrap=True)
