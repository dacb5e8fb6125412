"""Does a model that has seen no gene tell a broken one? Stop codons, frameshifts, and indels that were planted."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import seaborn as sns

from experiments import common
from experiments.broken_genes.detect import apart, recall, split_frames
from experiments.broken_genes.loci import chosen

EDITS = {
    "demo": ("demo", "interpolated Markov model"),
    "record": ("record", None),
    "other": ("record, of Klebsiella", "interpolated Markov model, of Klebsiella"),
    "folds": ("demo, five folds", "interpolated Markov model, five folds"),
}
"""Scored edits, and what their scores and those of the count models are called."""
SCAN = "reading-frame scan"


def scores(folder: Path, name: str) -> pd.DataFrame:
    """Return the scores of a command's edits, the best first."""
    return pd.read_csv(common.run_file(folder / name, "scores.tsv", "give the study's command again"), sep="\t")


def record(folder: Path) -> common.Tables:
    """Return what the scripts and commands of the study have left."""
    runs = common.finished_runs(folder)
    columns = ["name", "genome/name", "network/bits_per_base", "test/bits_per_base", "seconds", "host/device"]
    tables = {"runs.csv": runs.reindex(columns=columns)}
    for source, target in {"effects.csv": "results.csv", "loci.csv": "loci.csv"}.items():
        tables[target] = pd.read_csv(common.run_file(folder, source, "give the study's command again"))
    tables["edits.csv"] = pd.concat([ranks(scores(folder, f"edits-{name}"), name) for name in EDITS])
    tables["candidates.csv"] = scores(folder, "edits-folds").head(20)
    tables["planted.csv"] = found(folder)
    return tables


def ranks(edits: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return what the edits that mend known frameshifts gain, and their ranks, under a model and the count model."""
    rows = []
    change = edits["alt"].str.len() - edits["ref"].str.len()
    for locus, (place, start, mends) in chosen(edits).items():
        this = (edits["record"] == place) & (edits["pos"] == start + 1) & (change == mends)
        for score, label in zip(("llr", "imm_llr"), EDITS[name], strict=True):
            if this.any() and label:
                gain = float(edits.loc[this, score].iloc[0])
                rank = int((edits[score] > gain).sum()) + 1
                row = {"locus": locus, "model": label, "gain": gain, "rank": rank, "edits": len(edits)}
                rows.append(row | {"above": 1 - rank / len(edits), "median": edits[score].median()})
    return pd.DataFrame(rows)


def found(folder: Path) -> pd.DataFrame:
    """Return recall of planted indels at rates of false calls, by each way of looking for them."""
    planted = pd.read_csv(common.run_file(folder, "planted.csv", "run plant.py first"))
    letters = dict(each.split("\n")[:2] for each in (folder / "planted.fa").read_text().split(">")[1:])
    rows = []
    for kind, true in planted.groupby("record", sort=False):
        text = letters[str(kind)]
        calls = {SCAN: split_frames(text)}
        for name in ("demo", "record"):
            edits = scores(folder, f"planted-{name}")
            for score, label in (("llr", name), ("imm_llr", "interpolated Markov model")):
                some = edits.loc[(edits["record"] == kind) & (edits[score] > 0), ["pos", score]]
                some = some.set_axis(["at", "score"], axis=1).assign(at=some["pos"] - 1)
                calls[label] = apart(some)
        for label, some in calls.items():
            part = recall(some, true["start"].to_numpy(), len(text))
            rows.append(part.assign(kind=kind, method=label, planted=len(true), calls=len(some)))
    return pd.concat(rows, ignore_index=True)


def table(data: common.Tables) -> str:
    """Return the tables of the README."""
    effects, edits, planted = data["results.csv"], data["edits.csv"], data["planted.csv"]
    parts = []
    rows = []
    for model, some in effects.groupby("model", sort=False):
        row = {"area under the ROC curve": str(model)}
        last = some.iloc[-1]
        for downstream, value in zip(some["downstream"], some["stop"], strict=True):
            row[f"stop, {downstream} bases"] = f"{value:.3f}"
        row["stop, same base change"] = f"{last['stop, same base change']:.3f}"
        row["frameshift"] = "" if model == "codon usage" else f"{last['frameshift']:.3f}"
        rows.append(row | {"missense": f"{last['missense']:.3f}"})
    parts.append(common.markdown(rows))
    rows = []
    for model, some in edits.groupby("model", sort=False):
        row = {"gain in bits, and share of edits below it": str(model)}
        for each in some.itertuples():
            row[str(each.locus)] = f"{each.gain:+.1f}, {100 * each.above:.3f} %"
        rows.append(row | {"median": f"{some['median'].iloc[0]:+.1f}", "edits": f"{some['edits'].iloc[0]:,}"})
    parts.append(common.markdown(rows))
    for kind, some in planted.groupby("kind", sort=False):
        rows = []
        for method, part in some.groupby("method", sort=False):
            row = {f"found of {part['planted'].iloc[0]} in {kind} (%), at false calls per 100 kb": str(method)}
            row |= {f"{r.false_per_100kb:g}": f"{100 * r.recall:.1f}" for r in part.itertuples()}
            one = part.loc[part["false_per_100kb"] == 1, "median_distance"].iloc[0]
            rows.append(row | {"median distance, at 1": "" if pd.isna(one) else f"{one:.0f}"})
        parts.append(common.markdown(rows))
    return "\n\n".join(parts)


def draw(data: common.Tables, out: Path) -> None:
    """Draw the areas by bases downstream and the recall of planted indels; and each known frameshift."""
    figure, axes = common.new_figure(2, height=5.5)
    effects = data["results.csv"]
    effects = effects[effects["model"].isin(["demo", "record"])]
    long = effects.melt(["model", "downstream"], ["stop", "frameshift"], "kind", "area")
    sns.lineplot(long, x="downstream", y="area", hue="model", style="kind", markers=True, ax=axes[0], markersize=8)
    axes[0].set_xscale("symlog", base=2, linthresh=8)
    ticks = sorted(effects["downstream"].unique())
    axes[0].set_xticks(ticks, [str(tick) for tick in ticks])
    axes[0].set(
        xlim=(-1, 300), xlabel="bases read after the allele", ylabel="area under the ROC curve, against synonymous"
    )
    planted = data["planted.csv"]
    planted = planted[planted["kind"] == "frames"].assign(recall=100 * planted["recall"])
    common.draw_lines(axes[1], planted, "false_per_100kb", "recall", "method")
    axes[1].set(xscale="log", xlabel="false calls per 100,000 bases", ylabel="indels in genes that are found (%)")
    axes[1].legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    common.save(figure, out / "figure.png")
    loci = data["loci.csv"]
    names = loci["locus"].unique()
    figure, axes = common.new_figure(len(names), height=4.5, sharey=True)
    for ax, name in zip(axes, names, strict=True):
        for version, some in loci[loci["locus"] == name].groupby("version", sort=False):
            smooth = some["surprise"].rolling(31, center=True, min_periods=16).mean()
            ax.plot(some["base"], smooth, label=version)
        ax.axvline(0, color="0.5", linestyle=":")
        ax.set(title=name, xlabel="bases from the edit")
    axes[0].set_ylabel("surprise, mean of 31 bases (bits)")
    axes[0].legend()
    common.save(figure, out / "loci.png")


if __name__ == "__main__":
    common.run_study(__file__, record, table, draw)
