"""What the studies over windows and tokens share: their runs, the settings behind them, tables and pictures."""

from __future__ import annotations

import io
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from genoseq.app import resolvers
from genoseq.errors import UserError
from genoseq.files import write_atomic
from genoseq.report.figures import FAINT, INK
from genoseq.sweeps.collect import collect
from genoseq.sweeps.groups import Run, Stat, Sweep
from genoseq.sweeps.report_words import Level, count_line, genomes

OPPONENTS = ("baseline", "imm")
DASHES = {"baseline": (0, (6, 3)), "imm": (0, (1, 1.5))}


def read_study(folder: Path) -> Sweep:
    """Return the runs of a study.

    Raises
    ------
    UserError
        If none has been tested.
    """
    sweep = collect(folder)
    if not tested(sweep):
        raise UserError(
            f"no run in {folder} has been tested yet ({count_line(sweep)}): let the study's command end first"
        )
    return sweep


def tested(sweep: Sweep) -> list[Run]:
    """Return the runs that have a test figure."""
    return [run for run in sweep.done if run.test is not None]


def configured(run: Run, key: str) -> Any:
    """Return the value of a setting, as the run's own config has it.

    Raises
    ------
    UserError
        If the run's ``.hydra/config.yaml`` is missing or does not tell.
    """
    resolvers.register()
    file = run.folder / ".hydra" / "config.yaml"
    try:
        value = OmegaConf.select(OmegaConf.load(file), key)
    except (OSError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{file} cannot be read ({' '.join(str(error).split())})") from error
    if value is None:
        raise UserError(f"{file} does not say {key}: is {run.folder} a run of genoseq.train?")
    return value


def training_tokens(run: Run) -> int:
    """Return the tokens that a run was trained on: steps × windows × tokens a window."""
    return (run.step or 0) * int(configured(run, "data.batch_size")) * int(configured(run, "data.seq_len"))


def scale_line(settings: Sequence[Sequence[Run]]) -> str:
    """Return how large runs are (scale, hidden size, training tokens), and how many seeds each setting has."""
    runs = [run for members in settings for run in members]
    hidden = sorted({int(configured(run, "model.hidden_size")) for run in runs})
    tokens = statistics.fmean(training_tokens(run) for run in runs)
    few, most = min(map(len, settings)), max(map(len, settings))
    seeds = f"{few} to {most} seeds" if few < most else "one seed each" if most == 1 else f"mean of {most} seeds"
    sizes = " and ".join(map(str, hidden))
    return f"{runs[0].result.get('scale')} scale: hidden {sizes}, {tokens / 1e6:.2g} M training tokens a run, {seeds}"


def baselines(runs: Iterable[Run]) -> dict[str, Level]:
    """Return the count models by name: the mean over runs, which differ by the gap between parts only."""
    runs = list(runs)
    orders = {order for run in runs if (order := run.figure("baseline/order")) is not None}
    labels = {"baseline": f"order-{orders.pop():.0f} table" if len(orders) == 1 else "table of counts"}
    found = {}
    for name in OPPONENTS:
        bits = [value for run in runs if (value := run.figure(f"{name}/bits_per_base")) is not None]
        shares = [value for run in runs if (value := run.figure(f"{name}/accuracy")) is not None]
        if bits:
            accuracy = statistics.fmean(shares) if shares else None
            found[name] = Level(labels.get(name, "imm of tables"), statistics.fmean(bits), accuracy)
    return found


def told(stat: Stat, form: str = "{:.4f}") -> str:
    """Return mean ± standard error; the mean alone below two values."""
    if stat.mean is None:
        return "–"
    return form.format(stat.mean) + ("" if stat.se is None else f" ± {form.format(stat.se)}")


def print_study(
    sweep: Sweep,
    scale: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    levels: Sequence[Sequence[str]],
    files: Sequence[Path],
    console: Console | None = None,
) -> None:
    """Print the table of a study.

    Parameters
    ----------
    sweep : Sweep
    scale : str
        How large the runs were.
    heads : sequence of str
        Column titles.
    rows, levels : sequence of sequences of str
        Cells of the models, and under a line those of what they must beat.
    files : sequence of Path
        What was written.
    console : Console, optional
        Standard output if left out.
    """
    console = console or Console()
    console.print(Text(f"\n{', '.join([*genomes(sweep), count_line(sweep)])}\n{scale}"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, head in enumerate(heads):
        table.add_column(Text(head), justify="left" if i == 0 else "right", no_wrap=True)
    for i, row in enumerate(rows, start=1):
        table.add_row(*map(Text, row), end_section=i == len(rows))
    for row in levels:
        table.add_row(*map(Text, row))
    console.print(table)
    for run in sweep.runs:
        if run.test is None:
            console.print(Text(f"not in the table: {run.name} ({run.why or run.state})", style="yellow"))
    console.print(Text(f"files:   {'  '.join(map(str, files))}"), soft_wrap=True)


def canvas(title: str, scale: str, x: str, y: str = "test bits per base") -> tuple[Figure, Axes]:
    """Return an empty picture of 1200 × 750 pixels with one pair of axes.

    Parameters
    ----------
    title, scale : str
        The headline, and under it how large the runs were.
    x, y : str
        Labels of the axes, with units.
    """
    figure = Figure(figsize=(12, 7.5), dpi=100, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.12)  # type: ignore[union-attr, call-arg]
    axes = figure.add_subplot()
    figure.suptitle(title, x=0.012, ha="left", fontsize=18, weight="bold", color=INK)
    axes.set_title(scale, loc="left", fontsize=14, color=INK, pad=12)
    axes.set_xlabel(x, fontsize=16)
    axes.set_ylabel(y, fontsize=16)
    axes.tick_params(labelsize=15, color=INK, labelcolor=INK)
    axes.grid(color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def draw_levels(axes: Axes, levels: dict[str, Level]) -> None:
    """Draw the count models as level lines, named with their values in the legend."""
    for name, level in levels.items():
        label = f"{level.label} ({level.bits:.3f})"
        axes.axhline(level.bits, color=INK, linewidth=2, linestyle=DASHES[name], label=label, zorder=1.5)


def save(figure: Figure, legend: str | None, out: Path) -> None:
    """Put the legend beside the axes and write the picture."""
    (axes,) = figure.axes
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        borderaxespad=0.0,
        frameon=False,
        fontsize=14,
        title=legend,
        title_fontsize=14,
        alignment="left",
        labelspacing=0.7,
    )
    png = io.BytesIO()
    figure.savefig(png, format="png")
    write_atomic(out, png.getvalue())
