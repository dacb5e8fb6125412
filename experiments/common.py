"""What the studies' ``plot.py`` share: the command, the runs of a sweep, Markdown tables, figures and baselines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from genoseq.app import resolvers
from genoseq.errors import UserError, fail
from genoseq.sweeps.read import read_sweep

Tables = dict[str, pd.DataFrame]
MARKERS = list("os^DvPX<>*hp")


def run_study(
    plot_file: str,
    record: Callable[[Path], Tables],
    table: Callable[[Tables], str],
    draw: Callable[[Tables, Path], None],
    argv: Sequence[str] | None = None,
) -> None:
    """Print a study's table as Markdown and draw its figures.

    Parameters
    ----------
    plot_file : str
        The calling ``plot.py``; the CSV files beside it are the recorded results.
    record : callable
        Return the results of a sweep's folder by the name of their CSV file.
    table, draw : callable
        Return the table of such results; draw their figures into a folder.
    argv : sequence of str, optional
        Command line arguments, by default those of the process.
    """
    here = Path(plot_file).parent
    parser = argparse.ArgumentParser(description=f"Table and figures of the study {here.name}.")
    help_sweep = "folder of the study's runs, to record their results first; by default the recorded ones are used"
    parser.add_argument("sweep", nargs="?", type=Path, metavar="SWEEP_FOLDER", help=help_sweep)
    parser.add_argument("--out", type=Path, default=here, help="folder for results and figures, by default %(default)s")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        files = list(here.glob("*.csv"))
        if args.sweep is not None:
            tables = record(args.sweep)
            files = [args.out / name for name in tables]
            for path in files:
                tables[path.name].to_csv(path, index=False)
        results = {path.name: pd.read_csv(path) for path in files}
        print(table(results))
        draw(results, args.out)
    except UserError as error:
        fail(str(error))


def finished_runs(folder: Path) -> pd.DataFrame:
    """Return the finished runs of a sweep, a row a run, and name the others on standard error.

    Raises
    ------
    UserError
        If no run is finished.
    """
    runs = read_sweep(folder).astype({"baseline/order": "Int64"})
    done = runs[runs["state"] == "done"].reset_index(drop=True)
    for run in runs[runs["state"] != "done"].itertuples():
        print(f"not in the table: {run.name} ({run.why or run.state})", file=sys.stderr)
    if done.empty:
        raise UserError(f"no run in {folder} is finished: give the study's command again, it resumes its runs")
    return done


def run_file(folder: Path, name: str, hint: str = "is it a run of genoseq.train?") -> Path:
    """Return the path of a file that a run has left, and refuse a run that lacks it."""
    path = folder / name
    if not path.is_file():
        raise UserError(f"there is no {path}: {hint}")
    return path


def configured(runs: pd.DataFrame, key: str) -> pd.Series:
    """Return the value of a config key in each run's ``.hydra/config.yaml``."""
    resolvers.register()
    configs = runs["folder"].map(lambda folder: OmegaConf.load(run_file(folder, ".hydra/config.yaml")))
    return configs.map(lambda config: OmegaConf.select(config, key))


def training_tokens(runs: pd.DataFrame) -> pd.Series:
    """Return the tokens that each run was trained on: steps × windows a step × tokens a window."""
    return runs["train/steps"] * configured(runs, "data.batch_size") * configured(runs, "data.seq_len")


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows of text as a Markdown table; what a row lacks is an empty cell."""
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads), *([row.get(head, "") for head in heads] for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def mean_error(values: pd.Series) -> str:
    """Return mean ± standard error with four decimals, the mean alone of a single value."""
    error = f" ± {values.sem():.4f}" if values.count() > 1 else ""
    return f"{values.mean():.4f}{error}"


def baselines(results: pd.DataFrame) -> dict[str, str]:
    """Return the names of the baselines by their prefix in the results."""
    orders = "/".join(f"{order:.0f}" for order in sorted(results["baseline/order"].unique()))
    return {"baseline": f"order-{orders} Markov model", "imm": "interpolated Markov model"}


def draw_baselines(axes: Axes, results: pd.DataFrame) -> None:
    """Draw the baselines' test bits per base, mean over the runs, as level lines."""
    for (key, label), style in zip(baselines(results).items(), ("--", ":"), strict=True):
        bits = results[f"{key}/bits_per_base"].mean()
        axes.axhline(bits, color="black", linestyle=style, label=f"{label} ({bits:.3f})")


def new_figure(columns: int = 1, height: float = 6, **kwargs: Any) -> tuple[Figure, Any]:
    """Return a figure with a row of axes, 10 inches wide, in seaborn's style."""
    sns.set_theme(style="whitegrid", palette="colorblind", font_scale=1.15)
    return plt.subplots(1, columns, figsize=(10, height), layout="constrained", **kwargs)


def draw_lines(axes: Axes, data: pd.DataFrame, x: str, y: str, by: str, **kwargs: Any) -> None:
    """Draw a line for each value of `by`, told apart by colour, marker and dashes."""
    style: dict[str, Any] = {"palette": "colorblind", "markersize": 9, **kwargs}
    sns.lineplot(data, x=x, y=y, hue=by, style=by, markers=MARKERS[: data[by].nunique()], ax=axes, **style)


def legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """Put the legend of the axes under them."""
    if axes.get_legend() is not None:
        axes.get_legend().remove()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG of 1,300 pixels' width."""
    figure.savefig(path, dpi=130)
    plt.close(figure)
