"""The plots show every metric there is, and keep the interesting range in view."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from genoseq.files import write_csv
from genoseq.report.plots import confusion_figure, curves_figure, draw_curves, position_figure

LINES = {
    "chance": {"val/bits_per_base": 2.0, "test/bits_per_base": 2.0, "val/accuracy": 0.25, "test/accuracy": 0.25},
    "baseline, order-6 Markov model": {"val/bits_per_base": 1.951, "test/bits_per_base": 1.949},
}


@pytest.fixture
def metrics() -> pd.DataFrame:
    """Return the metrics of a run that starts far above chance and tests at its end."""
    step = np.arange(10, 1001, 10)
    table = pd.DataFrame({"step": step, "train/bits_per_base": 1.94 + 2 * np.exp(-step / 60), "train/lr": 1e-3})
    table["train/accuracy"] = 0.36 - 0.3 * np.exp(-step / 60)
    table["val/bits_per_base"] = (table["train/bits_per_base"] + 0.01).where(step % 100 == 0)
    table.loc[len(step) - 1, ["test/bits_per_base", "test/accuracy"]] = 1.954, 0.347
    return table


def test_every_metric_is_drawn_and_named(metrics: pd.DataFrame) -> None:
    figure = curves_figure(metrics.sample(frac=1, random_state=0), "hpylori: THIS SPLIT LEAKS", LINES)
    bits, accuracy, rate = figure.axes
    drawn = {str(line.get_label()): line for line in bits.get_lines()}
    assert drawn["train"].get_xdata() == pytest.approx(metrics["step"])
    assert drawn["train"].get_ydata() == pytest.approx(metrics["train/bits_per_base"])
    assert len(drawn["validation"].get_xdata()) == 10 and drawn["test"].get_xydata().tolist() == [[1000, 1.954]]
    assert drawn["baseline, order-6 Markov model"].get_ydata()[0] == 1.951
    diamonds = [line.get_xydata().tolist() for line in bits.get_lines() if line.get_marker() == "D"]
    assert diamonds == [[[1000, 1.954]], [[1000, 2.0]], [[1000, 1.949]]]
    assert len(accuracy.get_lines()) == 3 + 2 and len(rate.get_lines()) == 1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["train", "validation", "test", *LINES]
    assert figure.get_suptitle() == "hpylori: THIS SPLIT LEAKS"
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels == ["bits per base", "accuracy", "learning rate"] and rate.get_xlabel() == "optimizer steps"
    bottom, top = bits.get_ylim()  # the wild start does not squash the rest
    assert 1.9 < bottom < 1.94 and 2.0 < top < 2.05


@pytest.mark.parametrize(
    "rows", [[], [{"step": 5, "train/bits_per_base": 1.9}], [{"step": 0, "val/accuracy": math.nan}]]
)
def test_png_of_few_or_no_points(tmp_path: Path, rows: list[dict[str, float]]) -> None:
    write_csv(tmp_path / "m.csv", rows)
    draw_curves(tmp_path / "m.csv", tmp_path / "c.png", "short", {})
    head = (tmp_path / "c.png").read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    assert (int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")) == (1200, 900)


def test_accuracy_by_position() -> None:
    figure = position_figure(np.linspace(0.25, 0.4, 200), 0.355, "by position")
    model, level = figure.axes[0].get_lines()
    means = np.asarray(model.get_ydata())
    assert model.get_xydata()[0] == pytest.approx([1, 0.25])
    assert len(means) < 25 and np.all(np.diff(means) > 0) and 0.38 < means[-1] < 0.4
    assert level.get_ydata()[0] == 0.355 and figure.axes[0].get_xscale() == "log"
    short = np.append(np.linspace(0.25, 0.4, 39), np.nan)
    (line,) = position_figure(short, None, "each position of a short window").axes[0].get_lines()
    assert line.get_ydata() == pytest.approx(short, nan_ok=True)


def test_confusion_of_bases() -> None:
    confusion = MulticlassConfusionMatrix(4, normalize="true")
    confusion.update(torch.tensor([0, 0, 0, 1, 3]), torch.tensor([0, 0, 0, 0, 3]))
    axes = confusion_figure(confusion, "confusion").axes[0]
    assert [t.get_text() for t in axes.texts][:4] == ["0.75", "0.25", "0.0", "0.0"]
    assert [t.get_text() for t in axes.get_xticklabels()] == list("ACTG")
    assert [t.get_text() for t in axes.get_yticklabels()] == list("ACTG")
