"""Which window, learning rate and embedding? The settings ranked on validation: table and figure."""

from __future__ import annotations

from pathlib import Path

from experiments import common

ROWS = 10
SETTINGS = {"data.seq_len": "window (tokens)", "optimizer.lr": "learning rate", "model.embed_dim": "embedding"}
COLUMNS = [
    *("name", "state", "why", *SETTINGS, "seed", "val/bits_per_base", "test/bits_per_base", "test/accuracy"),
    *("baseline/order", "baseline/bits_per_base", "baseline/accuracy", "imm/bits_per_base", "imm/accuracy"),
    *("train/steps", "train/tokens_per_second", "seconds"),
]


def record(sweep: Path) -> common.Tables:
    """Return a row a run."""
    runs = common.finished_runs(sweep)
    for key in SETTINGS:
        runs[key] = common.configured(runs, key)
    return {"results.csv": runs.reindex(columns=COLUMNS)}


def table(data: common.Tables) -> str:
    """Return the table of the README: the best settings on validation."""
    results = data["results.csv"]
    by_setting = results.groupby(list(SETTINGS))
    mean = by_setting["val/bits_per_base"].mean().sort_values()
    rows = []
    for rank, setting in enumerate(mean.index[:ROWS], start=1):
        runs = by_setting.get_group(setting)
        row = {"rank": str(rank)} | {name: str(value) for name, value in zip(SETTINGS.values(), setting, strict=True)}
        row |= {
            "seeds": str(len(runs)),
            "validation bits per base": common.mean_error(runs["val/bits_per_base"]),
            "test bits per base": f"{runs['test/bits_per_base'].mean():.4f}",
            "test accuracy (%)": f"{100 * runs['test/accuracy'].mean():.2f}",
        }
        rows.append(row)
    for key, label in common.baselines(results).items():
        # they differ by the gap between the parts only, which a longer window widens
        bits, accuracy = (results[f"{key}/{name}"].min() for name in ("bits_per_base", "accuracy"))
        row = {"validation bits per base": label, "test bits per base": f"{bits:.4f}"}
        rows.append(row | {"test accuracy (%)": f"{100 * accuracy:.2f}"})
    return common.markdown(rows)


def draw(data: common.Tables, out: Path) -> None:
    """Draw validation bits per base by window, a line a learning rate and axes an embedding."""
    results = data["results.csv"].rename(columns=SETTINGS)
    embeddings = sorted(results["embedding"].unique())
    windows = sorted(results["window (tokens)"].unique())
    results["window (tokens)"] = results["window (tokens)"].map(windows.index)  # evenly spaced
    figure, panels = common.new_figure(len(embeddings), height=4.8, sharey=True, squeeze=False)
    bars = {"errorbar": "se", "err_style": "bars", "err_kws": {"capsize": 4}}
    for axes, embedding in zip(panels[0], embeddings, strict=True):
        runs = results[results["embedding"] == embedding]
        common.draw_lines(axes, runs, "window (tokens)", "val/bits_per_base", "learning rate", **bars)
        axes.set(title=f"embedding {embedding}", ylabel="validation bits per base")
        axes.set_xticks(range(len(windows)), windows)
        axes.get_legend().remove()
    handles = panels[0][0].get_legend_handles_labels()
    figure.legend(*handles, title="learning rate", loc="outside lower center", ncols=3, frameon=False)
    common.save(figure, out / "figure.png")


if __name__ == "__main__":
    common.run_study(__file__, record, table, draw)
