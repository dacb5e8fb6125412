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
    """Print what a run trains, on what, in two lines."""
    from genoseq.data.intervals import bases

    genome, parts = data.genome, data.parts
    size = sum(p.numel() for p in module.parameters())
    shares = ", ".join(f"{stage} {bases(parts.of(stage)):,}" for stage in ("train", "val", "test"))
    leak = " (leaks by design)" if parts.overlap(data.span) else ""
    split = f"random windows of the whole genome{leak}" if parts.splits_windows else shares
    print(f"{genome.name}: {len(genome):,} bases in {len(genome.records)} record(s); {split}")
    print(f"{type(module.net).__name__} with {size:,} parameters, {cfg.trainer.max_steps:,} steps ({cfg.scale} scale)")


def print_summary(result: Mapping[str, Any], folder: Path, console: Console | None = None) -> None:
    """Print the model beside its baselines, the leakage, and where the files are.

    `result` is the content of ``result.json``: what is missing or None shows as a dash. `folder` is the run's.
    """
    console = console or Console()

    def say(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=False)

    def say_whole(text: str) -> None:  # a path or a command must survive being copied
        console.print(Text(text), soft_wrap=True)

    console.print()
    for line in _about(result):
        say(line)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("")
    table.add_column("accuracy (%)", justify="right")
    table.add_column("bits per base", justify="right")
    for label, stage, style in _rows(result):
        accuracy, bits = _number(result, f"{stage}/accuracy"), _number(result, f"{stage}/bits_per_base")
        table.add_row(
            Text(label),
            "-" if accuracy is None else f"{100 * accuracy:.2f}",
            "-" if bits is None else f"{bits:.3f}",
            style=style,
        )
    console.print(table)
    console.print()
    say(leakage_line(result))
    if result.get("split/leaks"):
        say(_LEAKS, style="bold red")
    say_whole(f"files:   {folder}")
    say_whole(f"curves:  tensorboard --logdir {shlex.quote(str(folder))}")


def _about(result: Mapping[str, Any]) -> list[str]:
    """Return what was trained on what, and how long, as far as known."""

    def have(key: str, form: str) -> list[str]:
        value = result.get(key)
        return [] if value is None else [form.format(value)]

    data = have("genome/name", "{}") + have("genome/bases", "{:,} bases") + have("split/name", "{} split")
    work = (
        have("model/parameters", "{:,} parameters") + have("train/steps", "{:,} steps") + have("seconds", "{:,.0f} s")
    )
    work += have("train/tokens_per_second", "{:,.0f} tokens/s")
    return [", ".join(part) for part in (data, work) if part]


def _rows(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (label, stage, style) of each row."""
    # a token of several new bases is right only if all are; the count models predict base by base
    token, base = (", per token", ", per base") if (result.get("tokens/new_bases") or 1) > 1 else ("", "")
    mode, order = result.get("test/mode"), result.get("baseline/order")
    rows = [
        (f"model, {f'{mode} ' if mode else ''}test{token}", "test", "bold"),
        (f"baseline, {'' if order is None else f'order-{order} '}Markov model{base}", "baseline", ""),
        (f"interpolated Markov model{base}", "imm", ""),
        (f"chance{token}", "chance", ""),
    ]
    # a run told not to measure the count models (baseline=false) has no rows for them
    return [row for row in rows if row[1] not in ("baseline", "imm") or f"{row[1]}/bits_per_base" in result]


def _number(result: Mapping[str, Any], key: str) -> float | None:
    value = result.get(key)
    return None if value is None or math.isnan(value) else float(value)


def leakage_line(result: Mapping[str, Any]) -> str:
    """Return the sentence on a result's leakage."""
    positions, kmers = (_share(_number(result, f"leakage/{name}")) for name in ("positions", "shared_kmers"))
    return f"leakage: {positions} of test positions lie in a training window; {kmers} of test 24-mers occur in training"


def _share(fraction: float | None) -> str:
    if fraction is None:
        return "- %"
    return "<0.1 %" if 0 < fraction < 0.0005 else f"{100 * fraction:.1f} %"
