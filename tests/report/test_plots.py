"""The picture shows every figure there is, names it, and keeps the interesting range in view."""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from genoseq.files import read_metrics, write_csv
from genoseq.report.figures import confusion_figure, position_figure
from genoseq.report.plots import Curve, curves_figure, draw_curves, limits, points, spread_out

LINES = {"chance": 2.0, "baseline (order-6 table)": 1.951, "imm (orders ≤ 16)": 1.93}
SHARES = {"chance": 0.25, "baseline (order-6 table)": 0.355}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Return the metrics of a run that starts far above chance and tests at its end."""
    rows: list[dict[str, float]] = []
    for step in range(10, 1001, 10):
        bits = 1.94 + 2 * math.exp(-step / 60)
        rows.append({"step": step, "train/bits_per_base": bits, "train/accuracy": 0.36 - 0.3 * math.exp(-step / 60)})
        rows[-1] |= {"train/lr": 1e-3, "train/tokens_per_second": 31_000}
        if step % 100 == 0:
            rows[-1] |= {"val/bits_per_base": bits + 0.01, "val/accuracy": 0.35}
    rows[-1] |= {"test/bits_per_base": 1.954, "test/accuracy": 0.347}
    write_csv(tmp_path / "metrics.csv", rows)
    return tmp_path / "metrics.csv"


def _words(figure: Figure) -> str:
    return "\n".join(text.get_text() for holder in (figure, *figure.axes) for text in holder.texts)


def test_png_of_the_promised_size(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "curves.png"
    draw_curves(table, out, LINES, "hpylori", SHARES)
    head = out.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    assert (int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")) == (1200, 900)


def test_every_figure_is_drawn_and_named_with_its_value(table: Path) -> None:
    figure = curves_figure(read_metrics(table), LINES, "hpylori: THIS SPLIT LEAKS", SHARES)
    bits, accuracy, rate = figure.axes
    drawn = {line.get_label(): line for line in bits.get_lines()}
    assert {"train", "val", "test", *LINES} <= set(drawn)
    assert drawn["chance"].get_ydata()[0] == 2.0
    assert len(drawn["train"].get_xdata()) == 100 and len(drawn["val"].get_xdata()) == 10
    assert drawn["val"].get_linewidth() > drawn["train"].get_linewidth()
    assert {line.get_label(): line for line in accuracy.get_lines()}["chance"].get_ydata()[0] == 25
    assert [line.get_label() for line in rate.get_lines()] == ["lr"]
    words = _words(figure)
    for text in ("THIS SPLIT LEAKS", "chance 2.000", "baseline (order-6 table) 1.951", "imm (orders ≤ 16) 1.930"):
        assert text in words
    for text in ("test 1.954", "validation 1.950", "chance 25.0 %", "test 34.7 %", "median 31,000 tokens/s"):
        assert text in words
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels == ["bits per base", "accuracy (%)", "learning rate"] and rate.get_xlabel() == "optimizer steps"


def test_a_wild_start_does_not_squash_the_rest(table: Path) -> None:
    figure = curves_figure(read_metrics(table), LINES, "hpylori", SHARES)
    bottom, top = figure.axes[0].get_ylim()
    assert 1.9 < bottom < 1.93 and 2.0 < top < 2.05
    assert "starts above this scale, at 3.633" in _words(figure)
    assert "starts below this scale" in _words(figure)


def test_labels_do_not_overlap_and_stay_on_the_picture(table: Path) -> None:
    close = LINES | {"c": 1.9505, "imm of tables, both strands (orders ≤ 16)": 1.9501}
    figure = curves_figure(read_metrics(table), close, "hpylori", SHARES)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for axes in figure.axes for text in axes.texts]
    width, height = figure.get_size_inches() * figure.dpi
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height
        assert not any(box.overlaps(other) for other in boxes[:i])


@pytest.mark.parametrize(
    "rows", [[], [{"step": 5, "train/bits_per_base": 1.9}], [{"step": 0, "val/accuracy": math.nan}]]
)
def test_few_or_no_points(tmp_path: Path, rows: list[dict[str, float]]) -> None:
    write_csv(tmp_path / "m.csv", rows)
    draw_curves(tmp_path / "m.csv", tmp_path / "c.png", {}, "short")
    assert (tmp_path / "c.png").stat().st_size > 1000


def test_the_rate_is_logarithmic_only_where_it_spans() -> None:
    steps = [float(i) for i in range(100)]
    for rates, scale in (([1e-3] * 100, "linear"), ([1e-3 * 0.9**i for i in range(100)], "log")):
        figure = curves_figure({"step": steps, "train/lr": rates}, {}, "")
        assert figure.axes[2].get_yscale() == scale
    falling = [1e-3 * (1 - i / 100) for i in range(100)]
    assert curves_figure({"step": steps, "train/lr": falling}, {}, "").axes[2].get_yscale() == "linear"


def test_points_are_ordered_and_finite() -> None:
    metrics = {"step": [3.0, 1.0, 2.0, 4.0], "a": [0.3, 0.1, None, math.nan]}
    assert points(metrics, "a", 100) == Curve([1.0, 3.0], [10.0, 30.0])
    assert points(metrics, "b") == Curve([], [])


def test_limits() -> None:
    falling = Curve([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [9.0, 2.0, 1.9, 1.9, 1.9, 1.8])
    bottom, top = limits([falling], [2.0], falls=True)
    assert bottom < 1.8 and 2.0 < top < 2.1
    bottom, top = limits([falling], [], falls=False)
    assert top > 9
    assert limits([], [], falls=True) == (0.0, 1.0)
    bottom, top = limits([], [2.0], falls=True)
    assert bottom < 2.0 < top


def test_spread_out() -> None:
    assert spread_out([0.0, 50.0, 100.0], 10, 100) == [0.0, 50.0, 100.0]
    assert spread_out([50.0, 50.0], 10, 100) == [45.0, 55.0]
    assert spread_out([100.0, 100.0, 100.0], 10, 100) == [80.0, 90.0, 100.0]
    assert spread_out([0.0, 0.0, 12.0], 10, 100) == [0.0, 10.0, 20.0]
    rng = np.random.default_rng(0)
    for _ in range(100):
        heights = sorted(rng.uniform(0, 200, 7))
        out = spread_out(heights, 24, 200)
        assert all(b - a >= 24 - 1e-9 for a, b in pairwise(out))
        assert out[0] >= 0 and out[-1] <= 200 + 1e-9


def test_accuracy_by_position() -> None:
    figure = position_figure(np.linspace(0.25, 0.4, 200), 0.355, "by position")
    model, level = figure.axes[0].get_lines()
    stretches = model.get_ydata()  # means over stretches of a long window
    assert model.get_xdata()[0] == 1 and stretches[0] == pytest.approx(25)
    assert len(stretches) < 25 and np.all(np.diff(stretches) > 0) and 38 < stretches[-1] < 40
    whole = position_figure(np.linspace(0.25, 0.4, 40), None, "every position of a short one").axes[0].get_lines()[0]
    assert whole.get_ydata() == pytest.approx(np.linspace(25, 40, 40))
    assert level.get_ydata()[0] == pytest.approx(35.5)
    assert figure.axes[0].get_xscale() == "log"
    assert len(position_figure(np.array([0.25, np.nan]), None, "short").axes[0].get_lines()) == 1


def test_confusion_is_of_each_row() -> None:
    counts = np.array([[6, 2, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 5]])
    figure = confusion_figure(counts, "confusion")
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.texts][:8] == ["60.0 %", "20.0 %", "10.0 %", "10.0 %", "–", "–", "–", "–"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["A", "C", "T", "G"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["A\n10", "C\n0", "T\n4", "G\n5"]
    confusion_figure(np.zeros((4, 4), int), "empty").canvas.draw()
    with pytest.raises(ValueError, match="4, 4"):
        confusion_figure(np.zeros((5, 5), int), "wrong")
