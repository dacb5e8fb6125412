"""Fewer bits than the best DNA compressors? Bits per base beside theirs, and where the gain comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns

from experiments import common
from genoseq.evaluation.blocks import Sums, base_metrics

HERE = Path(__file__).parent
COLUMNS = [
    *("genome", "model", "seed", "genome/bases", "test/bits_per_base", "test/standard_error"),
    *("adaptive/bits_per_base", "adaptive/standard_error", "network/bits_per_base", "network/standard_error"),
    *("imm/bits_per_base", "mixed/difference", "mixed/standard_error", "mixed/median"),
    *("reading/difference", "reading/standard_error", "reading/median", "blocks"),
    *("val/bits_per_base", "test/accuracy", "train/steps", "model/parameters", "seconds"),
    "mixer/seconds",
    *("host/peak_memory", "host/device", "precision"),
]


def difference(one: Sums, other: Sums) -> tuple[float, float]:
    """Return by how many bits per base one model needs more than another, paired by block, and the standard error."""
    found = base_metrics(np.stack([*(one - other)[:, :2].T, one[:, 2]], axis=1))
    return found["bits_per_base"], found["standard_error"]


def record(sweep: Path) -> common.Tables:
    """Return a row a run with its differences by block; of characters the blocks, smaller mixers and occurrences."""
    runs = common.finished_runs(sweep)
    runs["genome"], runs["model"] = runs["genome/name"], [model(run) for run in runs.to_dict("records")]
    for run in runs.itertuples():
        blocks = pd.read_csv(common.run_file(run.folder, "blocks.csv"))
        sums = {
            name: np.stack([blocks[f"{name}/bits_per_base"] * blocks["bases"] * np.log(2), *[blocks["bases"]] * 2], 1)
            for name in ("test", "adaptive", "network")
        }
        runs.loc[run.Index, "blocks"] = len(blocks)
        for key, pair in {"mixed": ("test", "network"), "reading": ("adaptive", "test")}.items():
            one, other = (sums[name] for name in pair)
            runs.loc[run.Index, [f"{key}/difference", f"{key}/standard_error"]] = difference(one, other)
            runs.loc[run.Index, f"{key}/median"] = np.median((one - other)[:, 0] / one[:, 2]) / np.log(2)
    runs = runs.sort_values(["genome/bases", "tokens/k", "tokens/stride", "model"])
    tables = {"results.csv": runs.reindex(columns=COLUMNS)}
    for name in ("blocks.csv", "ablation.csv", "occurrences.csv"):
        parts = [
            pd.read_csv(common.run_file(run["folder"], name, "run ablation.py first")).assign(
                genome=run["genome"], model=run["model"]
            )
            for run in runs[runs["model"].map(is_bare)].to_dict("records")
        ]
        tables[name] = pd.concat(parts, ignore_index=True)
    return tables


def model(run: dict[str, Any]) -> str:
    """Return what a run is called: its experiment, else its network and tokens."""
    experiment = [each.partition("=")[2] for each in run["overrides"] if each.startswith("experiment=")]
    kind = "overlapping" if run["tokens/stride"] == 1 else "disjoint"
    tokens = "characters" if run["tokens/k"] == 1 else f"{kind} {run['tokens/k']:.0f}-mers"
    return experiment[0] if experiment else f"{run['model/name']}, {tokens}"


def is_bare(model: str) -> bool:
    """Return whether a model is the bare command's, whose smaller mixers are fitted too."""
    return model.endswith(", characters")


def table(data: common.Tables) -> str:
    """Return the table of the README: each genome's runs, then what compressors need for it."""
    reference = pd.read_csv(HERE / "reference.csv")
    rows = []
    for genome, runs in data["results.csv"].groupby("genome", sort=False):
        for run in runs.to_dict("records"):
            row = {"genome": genome, "model": run["model"]}
            names = {"frozen": "test", "adaptive": "adaptive", "network alone": "network", "imm": "imm"}
            row |= {head: f"{run[f'{key}/bits_per_base']:.4f}" for head, key in names.items()}
            for head, key in {"frozen − network": "mixed", "adaptive − frozen": "reading"}.items():
                row[head] = f"{run[f'{key}/difference']:.4f} ± {run[f'{key}/standard_error']:.4f}".replace("-", "−")
            row |= {"seconds": f"{run['seconds']:.0f}", "peak memory (MB)": f"{run['host/peak_memory'] / 1e6:,.0f}"}
            rows.append(row)
        for quoted in reference[reference["genome"] == genome].to_dict("records"):
            row = {"genome": genome, "model": f"{quoted['compressor']}, quoted"}
            rows.append(row | {name: f"{quoted[name]:.3f}".replace("nan", "–") for name in ("frozen", "adaptive")})
    return common.markdown(rows)


def draw(data: common.Tables, out: Path) -> None:
    """Draw what experts save over the network alone: by the longest context, and by where the test's bases occur."""
    figure, (left, right) = common.new_figure(2, height=6.5, sharey=True)
    smaller = data["ablation.csv"]
    smaller = smaller[smaller["network"]]
    alone = data["results.csv"].set_index(["genome", "model"])["network/bits_per_base"]
    network = smaller.set_index(["genome", "model"]).index.map(alone)
    points = smaller.assign(saved=network - smaller["test/bits_per_base"], longest=smaller["longest"].astype(str))
    points["repeat models"] = np.where(points["repeats"], "with", "without")
    lines = {"hue": "genome", "style": "repeat models", "markers": True, "markersize": 8, "errorbar": None}
    sns.lineplot(points, x="longest", y="saved", ax=left, **lines)
    left.set(xlabel="longest context counted (bases), frozen", ylabel="bits per base saved")

    classes = data["occurrences.csv"]
    names = list(dict.fromkeys(classes["where"]))
    genomes = list(classes["genome"].unique())
    colours = sns.color_palette("Set2")[: len(names)]
    for place, genome in enumerate(genomes):
        mine = classes[classes["genome"] == genome]
        for shift, key in ((-0.2, "test"), (0.2, "adaptive")):
            saved = mine["share"] * (mine["network/bits_per_base"] - mine[f"{key}/bits_per_base"])
            right.bar(place + shift, saved, 0.38, bottom=saved.cumsum() - saved, color=colours)
    for name, colour in zip(names, colours, strict=True):
        right.bar(0, 0, color=colour, label=name)
    right.set_xticks(range(len(genomes)), [f"frozen  adaptive\n{genome}" for genome in genomes], fontsize="small")
    right.legend(title="where its 24-mer occurs")
    for axes, columns in ((left, 2), (right, 1)):
        sns.move_legend(axes, "lower center", bbox_to_anchor=(0.5, 1), ncols=columns, frameon=False, fontsize="small")
    common.save(figure, out / "figure.png")


if __name__ == "__main__":
    common.run_study(__file__, record, table, draw)
