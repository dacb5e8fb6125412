"""Results of ``genoseq.evaluate``: metrics by record and in all, beside the baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich import box
from rich.console import Console
from rich.table import Table

from genoseq.baselines.fit import CHANCE, Baselines, score_parts, scored_intervals
from genoseq.baselines.scoring import Score
from genoseq.data.intervals import bases
from genoseq.evaluation.blocks import Sums, prefixed
from genoseq.evaluation.leakage import leakage, leakage_on_other_genome
from genoseq.report.result import baselines_result, data_result, provenance
from genoseq.report.summary import leakage_line

if TYPE_CHECKING:
    from genoseq.data.datamodule import GenomeData

METRICS = ("loss", "accuracy", "bits_per_base", "perplexity")
SHOWN = 20  # records in the printed table; records.csv has all


def by_record(baselines: Baselines, data: GenomeData) -> list[dict[str, Score]]:
    """Return both count models' scores on the test part of each record."""
    first = np.array([record.start for record in data.genome.records])
    record = np.searchsorted(first, scored_intervals(data, "test")[:, 0], side="right") - 1
    out = [dict.fromkeys(baselines.models, Score()) for _ in first]
    for name, scores in zip(baselines.models, score_parts(list(baselines.models.values()), data, "test"), strict=True):
        for i, score in zip(record, scores, strict=True):
            out[i][name] += score
    return out


def evaluation_result(
    cfg: DictConfig,
    metadata: dict[str, Any],
    data: GenomeData,
    training_data: GenomeData | None,
    tokens: NDArray[np.float64],
    models: dict[str, Sums],
    device: str,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the result of an evaluation, and one row per record.

    Parameters
    ----------
    metadata : dict
        The checkpoint's.
    training_data : GenomeData or None
        The data it was trained on; without it there are no baselines and no leakage.
    tokens : ndarray of float64, shape (blocks, 4)
        Of each block of the genome, ``TokenMetrics.by_group``.
    models : dict
        Sums by block of what is scored: ``test``, and with a mixer ``adaptive`` and ``network``.
    """
    baselines = Baselines.fit(training_data) if training_data is not None and cfg.baseline else None
    scores = by_record(baselines, data) if baselines else [{} for _ in data.genome.records]
    rows = []
    for i, (record, score) in enumerate(zip(data.genome.records, scores, strict=True)):
        own = data.blocks.record == i
        if count := int(tokens[own, 3].sum()):
            row: dict[str, Any] = {"record": record.name, "bases": record.length, "tokens": count}
            metrics = prefixed({name: sums[own] for name, sums in models.items()})
            row |= {"loss": tokens[own, 0].sum() / count}
            row |= {key.removeprefix("test/"): value for key, value in metrics.items()}
            row |= {f"{name}/{metric}": value for name, s in score.items() for metric, value in s.metrics.items()}
            rows.append(row)
    result: dict[str, Any] = {"test/loss": tokens[:, 0].sum() / tokens[:, 3].sum(), **prefixed(models)}
    if baselines:
        sums = {name: sum((score[name] for score in scores), Score()) for name in baselines.models}
        result |= baselines_result(baselines, sums)
    result |= CHANCE
    if training_data is not None:
        result |= leakage(data) if training_data is data else leakage_on_other_genome(training_data, data)
    sampled = ", sampled" if bases(data.scored_parts.test) < bases(data.parts.test) else ""
    result |= {
        "test/mode": "frozen",
        "test/tokens": sum(row["tokens"] for row in rows),
        "test/part": ("test part" if training_data is data else "whole genome") + sampled,
        **data_result(data),
        "checkpoint": str(Path(cfg.ckpt).resolve()),
        "checkpoint/genome": metadata["genome"]["name"],
        "checkpoint/sha256": metadata["genome"]["sha256"],
        **provenance(device),
    }
    return result, rows


def print_evaluation(result: dict[str, Any], rows: list[dict[str, Any]], folder: Path) -> None:
    """Print the table by record and in all."""
    console = Console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("record")
    mixed = ("adaptive", "network") if "network/bits_per_base" in result else ()
    others = [*mixed, "baseline", "imm"]
    for title in ("tokens", "loss (nats)", "accuracy (%)", "bits/base", *others):
        table.add_column(title, justify="right")
    total = {"record": "all", "tokens": result["test/tokens"]} | {n: result[f"test/{n}"] for n in METRICS}
    total |= {k: v for k, v in result.items() if k.split("/")[0] in others}
    for row in [*rows[:SHOWN], total]:
        count = (f"{row[k]:.3f}" if k in row else "-" for k in (f"{name}/bits_per_base" for name in others))
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
    if "baseline/order" in result:
        models = f"baseline: order-{result['baseline/order']} Markov model, imm: interpolated Markov model"
        console.print(f"{models}; bits per base, learnt from the same training part")
    if "leakage/shared_kmers" in result:
        console.print(leakage_line(result))
    if "leakage/note" in result:
        console.print(f"({result['leakage/note']})")
    if result["split/leaks"]:
        console.print("This split leaks by design: these metrics measure memory, not what was learnt about DNA.")
    console.print(f"files: {folder}", soft_wrap=True)
