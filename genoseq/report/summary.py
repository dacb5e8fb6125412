"""The lines that a run prints: what it trains at its start, its results in a table at its end.

Imports no torch at module level, so that the table of a finished run is printed at once.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from genoseq.data.datamodule import GenomeData
    from genoseq.training.module import NextToken

_LEAKS = (
    "This split leaks: test windows overlap training windows, so this accuracy measures memory, "
    "not what the model has learnt about DNA."
)


def print_start(cfg: DictConfig, data: GenomeData, module: NextToken) -> None:
    """Print what a run trains, on what, and what of it is scored."""
    from genoseq.data.intervals import bases

    genome, parts, scored = data.genome, data.parts, data.scored_parts
    size = sum(p.numel() for p in module.parameters())
    shares = ", ".join(f"{stage} {bases(parts.of(stage)):,}" for stage in ("train", "val", "test"))
    some = [stage for stage in ("val", "test") if bases(scored.of(stage)) < bases(parts.of(stage))]
    leak = " (leaks by design)" if parts.overlap(data.span) else ""
    split = f"random windows of the whole genome{leak}" if parts.splits_windows else shares
    print(f"{genome.name}: {len(genome):,} bases in {len(genome.records)} record(s); {split}")
    if some:
        sizes = " and ".join(f"{bases(scored.of(stage)):,} bases of {stage}" for stage in some)
        settings = " and ".join({"val": "data.val_bases", "test": "data.eval_bases"}[stage] for stage in some)
        print(f"scored: {sizes}, evenly spread ({settings})")
    print(f"{type(module.net).__name__} with {size:,} parameters, {cfg.trainer.max_steps:,} steps ({cfg.scale} scale)")


def print_summary(result: Mapping[str, Any], folder: Path, console: Console | None = None) -> None:
    """Print the model beside its baselines, the leakage, and where the files are.

    `result` is the content of ``result.json``; what a stopped run has not measured shows as a dash.
    """
    console = console or Console()
    rows = [(f"model, {result['test/mode']} test", "test", "bold")]
    if "network/bits_per_base" in result:
        rows = [("network + mixer, frozen test", "test", "bold"), ("network + mixer, adaptive test", "adaptive", "")]
        rows.append(("network alone", "network", ""))
    if "baseline/order" in result:
        rows.append((f"baseline, order-{result['baseline/order']} Markov model", "baseline", ""))
        rows.append(("interpolated Markov model", "imm", ""))
    rows.append(("chance", "chance", ""))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("")
    table.add_column("accuracy (%)", justify="right")
    table.add_column("bits per base", justify="right")
    table.add_column("standard error", justify="right")
    for label, part, style in rows:
        accuracy, bits = (
            _show(result, f"{part}/accuracy", "{:.2f}", 100),
            _show(result, f"{part}/bits_per_base", "{:.3f}"),
        )
        error = _show(result, f"{part}/standard_error", "{:.3f}") if f"{part}/standard_error" in result else ""
        table.add_row(label, accuracy, bits, error, style=style)
    speed = _show(result, "train/tokens_per_second", "{:,.0f}")
    lines = (
        f"\n{result['genome/name']}, {result['genome/bases']:,} bases, {result['split/name']} split",
        f"{result['model/parameters']:,} parameters, {result['train/steps']:,} steps, {result['seconds']:,.0f} s, "
        f"{speed} tokens/s",
    )
    for line in lines:
        console.print(Text(line))
    console.print(table)
    console.print(Text(f"\n{leakage_line(result)}"))
    if result["split/leaks"]:
        console.print(Text(_LEAKS, style="bold red"))
    # a path or a command must survive being copied
    console.print(Text(f"files:   {folder}"), soft_wrap=True)
    console.print(Text(f"curves:  tensorboard --logdir {shlex.quote(str(folder))}"), soft_wrap=True)


def _show(result: Mapping[str, Any], key: str, form: str, factor: int = 1) -> str:
    value = result.get(key)
    return "-" if value is None or math.isnan(value) else form.format(factor * value)


def leakage_line(result: Mapping[str, Any]) -> str:
    """Return the sentence on a result's leakage."""
    positions, kmers = (
        "<0.1" if 0 < (result.get(key) or 0) < 0.0005 else _show(result, key, "{:.1f}", 100)
        for key in ("leakage/positions", "leakage/shared_kmers")
    )
    return (
        f"leakage: {positions} % of test positions lie in a training window; "
        f"{kmers} % of test 24-mers occur in training"
    )
