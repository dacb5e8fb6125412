"""The study of the report says what its runs and the report say, and no more."""

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
from matplotlib.figure import Figure
from omegaconf import DictConfig
from sweep_folders import Fake, write

from genoseq.app import resolvers
from genoseq.errors import UserError
from genoseq.paths import conf_dir
from genoseq.report import study_report_read
from genoseq.report.study_report import write_study
from genoseq.report.study_report_figure import model_figure, summary_figure
from genoseq.report.study_report_read import by_model, read_cited, read_runs

SPLITS = ("random_windows", "contiguous")
PASSES = 0.01  # how far the passes over the genome may be from the report's


def result(model: int, split: str) -> dict[str, Any]:
    leaks = split == "random_windows"
    return {
        "scale": "small",
        "genome/name": "klebsiella[0:50000]",
        "genome/bases": 50_000,
        "model/parameters": 298_405 * model,
        "train/steps": 2800,
        "test/accuracy": 0.9134 if leaks else 0.3151,
        "test/bits_per_base": 0.421 if leaks else 1.987,
        "baseline/order": 12 if leaks else 3,
        "baseline/accuracy": 0.999 if leaks else 0.331,
        "baseline/bits_per_base": 0.012 if leaks else 1.955,
        "imm/accuracy": 0.999 if leaks else 0.337,
        "leakage/positions": 0.9996 if leaks else 0.0,
        "tokens/new_bases": 1,
        "split/leaks": leaks,
        "split/name": split,
    }


def losses(model: int, split: str) -> str:
    """Return a metrics.csv in which the model learns its training part by heart."""
    known = 1.36 if model == 1 else 5.5
    lines = ["step,train/loss,val/loss"]
    for step in range(50, 2801, 50):
        train = 0.3 + (known - 0.3) * math.exp(-step / 900)
        val = train + 0.02 if split == "random_windows" else 1.37 + step / 1500
        lines.append(f"{step},{train:.4f},{val:.4f}" if step % 250 == 0 else f"{step},{train:.4f},")
    return "\n".join(lines) + "\n"


def study(folder: Path, *, failed: tuple[int, str] | None = None) -> Path:
    """Write a study's runs as a sweep leaves them."""
    fakes = []
    for model in (1, 2, 3):
        for split in SPLITS:
            given = {"experiment": f"report{model}", "data/split": split}
            state, why = ("failed", "training has diverged") if (model, split) == failed else ("done", None)
            fakes.append(Fake(given, 1.9, state=state, why=why, result=result(model, split)))
    write(folder, fakes)
    for model in (1, 2, 3):
        for split in SPLITS:
            (folder / f"experiment=report{model},split={split}" / "metrics.csv").write_text(losses(model, split))
    return folder


def rows(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((out / "results.csv").read_text())))


def inside(figure: Figure) -> None:
    """Nothing is cut off, and the legend is clear of the axes."""
    figure.draw_without_rendering()
    assert figure.get_size_inches().tolist() == [12, 7.5] and figure.dpi == 100
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= 1200 and box.y0 >= 0
    assert box.y1 <= figure.axes[0].get_tightbbox().y0 + 1
    for text in [*figure.texts, *figure.axes[0].texts, *legend.get_texts()]:
        assert text.get_window_extent().x1 <= 1200 and text.get_window_extent().y1 <= 750, text
        assert text.get_fontsize() >= 13


def test_writes_a_row_a_run_and_the_report_s_figures_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    write_study(study(tmp_path / "runs"), out)
    names = {"results.csv", "table.md", "figure.png", "model1.png", "model2.png", "model3.png"}
    assert {path.name for path in out.iterdir()} == names
    table = rows(out)
    assert [(row["model"], row["split"]) for row in table] == [(str(m), s) for m in (1, 2, 3) for s in SPLITS]
    assert [row["report/accuracy"] for row in table] == ["0.6612", "", "0.79", "", "0.328", ""]
    assert table[0]["report/last_loss"] == "0.8062" and table[0]["report/steps"] == "10000"
    assert float(table[0]["train/last_loss"]) == pytest.approx(float(losses(1, SPLITS[0]).split(",")[-2]), abs=1e-4)
    for row in table:
        want = result(int(row["model"]), row["split"])
        assert float(row["test/accuracy"]) == want["test/accuracy"]
        assert int(row["baseline/order"]) == want["baseline/order"]
    text = (out / "table.md").read_text()
    assert text.startswith("small scale: the first 50,000 bases of klebsiella.\n")
    lines = [line for line in text.splitlines() if line.startswith("| Model 1 ")]
    assert lines[0].split(" | ")[1:5] == ["random_windows", "66.12 / –", "91.34 / 0.421", "99.90 / 0.012"]
    assert lines[1].split(" | ")[1:5] == ["contiguous", "–", "31.51 / 1.987", "33.10 / 1.955"]
    assert "The split random_windows leaks" in text and "Chance is 25 / 2." in text
    shown = capsys.readouterr().out
    assert "99.90 / 0.012" in shown and "The split random_windows leaks" in shown and str(out) in shown


def test_what_was_not_run_stays_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(study(tmp_path / "runs", failed=(3, "random_windows")), tmp_path / "out")
    (row,) = [row for row in rows(tmp_path / "out") if (row["model"], row["split"]) == ("3", "random_windows")]
    assert row["state"] == "failed" and row["test/accuracy"] == row["baseline/accuracy"] == ""
    assert "Model 3 on random_windows has no result: failed (training has diverged)." in capsys.readouterr().out
    assert "training has diverged" in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.parametrize("failed", [None, (3, "random_windows")])
def test_figures_hold_every_label(tmp_path: Path, failed: tuple[int, str] | None) -> None:
    cited = read_cited(tmp_path)
    runs = read_runs(study(tmp_path / "runs", failed=failed), cited)
    inside(summary_figure(runs, cited))
    for model, some in by_model(runs).items():
        figure = model_figure(some, cited[model])
        inside(figure)
        title = figure.get_suptitle()
        assert "small scale" in title and "50,000" in title and "2,800 steps" in title
        # each run's own steps, and the report's over the same width
        line = next(line for line in figure.axes[0].lines if str(line.get_label()).startswith("the report's"))
        assert np.nanmax(line.get_xdata()) == pytest.approx(cited[model].curve.steps[-1] * 2800 / cited[model].steps)


def test_a_table_s_line_is_in_nats_a_token(tmp_path: Path) -> None:
    cited = read_cited(tmp_path)
    one = read_runs(study(tmp_path / "runs"), cited)[0]
    assert one.nats("baseline/bits_per_base") == pytest.approx(0.012 * math.log(2))
    assert one.nats("chance/bits_per_base") == pytest.approx(math.log(4))


def test_the_report_s_figures_agree_with_its_curves(tmp_path: Path) -> None:
    cited = read_cited(tmp_path)
    assert {model: (one.accuracy, one.steps) for model, one in cited.items()} == {
        1: (0.6612, 10_000),
        2: (0.79, 15_000),
        3: (0.3280, 1_000),
    }
    assert all(one.curve.values[-1] == one.loss and one.curve.steps[-1] < one.steps for one in cited.values())


def test_mistakes_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cited = read_cited(tmp_path)
    write(tmp_path / "none", [Fake({"experiment": "report1"}, state="running")])
    with pytest.raises(UserError, match=r"no run in .* is done"):
        read_runs(tmp_path / "none", cited)
    write(tmp_path / "twice", [Fake({"experiment": "report1", "seed": seed}, 1.9) for seed in (0, 1)])
    with pytest.raises(UserError, match="are both Model 1 on"):
        read_runs(tmp_path / "twice", cited)
    write(tmp_path / "other", [Fake({"optimizer.lr": lr}, 1.9) for lr in (0, 1)])
    with pytest.raises(UserError, match="is no run of the report's models"):
        read_runs(tmp_path / "other", cited)
    monkeypatch.setattr(study_report_read, "conf_dir", lambda: tmp_path / "genoseq" / "conf")
    with pytest.raises(UserError, match=r"there is no .*report\.csv; run this in a checkout"):
        read_cited(tmp_path / "out")


def compose(experiment: str) -> DictConfig:
    resolvers.register()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra.compose("train", [f"experiment={experiment}", "data/split=contiguous"])


def test_the_small_recipes_are_the_report_s_but_for_their_size() -> None:
    readme = (conf_dir().parent / "experiments" / "report" / "README.md").read_text()
    assert "data.bases=50000" in readme
    for model in (1, 2, 3):
        small, full = compose(f"report{model}"), compose(f"model{model}")
        assert small.scale == "small" and full.scale == "report"
        for key in ("seq_len", "k", "stride", "carry_tokens", "reverse_complement"):
            assert small.data[key] == full.data[key]
        for key in ("num_layers", "dropout", "forget_bias"):
            assert small.model[key] == full.model[key]
        assert small.optimizer == full.optimizer and small.scheduler._target_ == full.scheduler._target_
        assert full.model.hidden_size == 4 * small.model.hidden_size
        assert full.model.embed_dim == 4 * small.model.embed_dim
        assert full.data.batch_size == 32 * small.data.batch_size
        here = small.trainer.max_steps * small.data.batch_size / 50_000
        there = full.trainer.max_steps * full.data.batch_size / 5_682_322
        assert here == pytest.approx(there, rel=PASSES)
        assert small.data.split._target_.endswith("ContiguousSplit") and not small.data.carry_state


@pytest.mark.slow
def test_from_runs_to_figures(tmp_path: Path, run_verb: Callable[..., Any], tiny: tuple[str, ...]) -> None:
    for split in SPLITS:
        words = [word for word in tiny if not word.startswith(("data.seq_len", "baseline"))]
        given = (f"data/split={split}", "data.bases=8000", "data.eval_windows=8", *words)
        ran = run_verb("train", tmp_path / "runs" / split, "experiment=report2", *given)
        assert ran.code == 0, ran.err
    told = run_verb("study", tmp_path, "name=report", f"dir={tmp_path / 'runs'}", f"out={tmp_path / 'out'}")
    assert told.code == 0 and "the first 8,000 bases of hpylori" in told.out, told.err
    first, second = rows(tmp_path / "out")
    assert (first["split"], second["split"]) == SPLITS and first["leakage/positions"] > second["leakage/positions"]
    assert first["report/accuracy"] == "0.79" and float(first["baseline/accuracy"]) > 0.9
    assert (tmp_path / "out" / "model2.png").stat().st_size > 10_000
