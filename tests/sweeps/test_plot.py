"""The picture of a sweep shows every finished run, cuts no label, and is not squashed by a diverged run."""

import math
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from sweep_folders import Fake, grid, write

from genoseq.sweeps.plot import draw_sweep, save_sweep
from genoseq.sweeps.read import OBJECTIVE, read_sweep

LR, LEN, DIM = "optimizer.lr", "data.seq_len", "model.embed_dim"


def bits(lr: float, length: int = 50, dim: int = 128) -> float:
    return 1.95 + 0.04 * abs(math.log10(lr) + 2) - 0.03 * math.log10(length) - 0.01 * math.log2(dim / 32)


def runs_of(settings: list[dict[str, Any]], step: float = 0.001) -> list[Fake]:
    return [Fake(setting, 1.9 + step * i) for i, setting in enumerate(settings)]


def sweeps() -> dict[str, list[Fake]]:
    """Return the runs of sweeps of all shapes, some of them failed, unfinished or diverged."""
    out = {"alone": [Fake({}, 1.9)]}
    seeds = grid(optimizer__lr=[0.1, 0.01, 0.001], seed=[0, 1, 2])
    out["one"] = [Fake(s, bits(s[LR]) + 0.01 * s["seed"]) for s in seeds]
    pairs = grid(data__seq_len=[10, 50, 200], optimizer__lr=[0.1, 0.01])
    out["two"] = [Fake(s, bits(s[LR], s[LEN])) for s in pairs]
    out["two"][0].state, out["two"][1].val = "failed", 1e5
    triples = grid(data__seq_len=[10, 50, 200], optimizer__lr=[0.1, 0.01, 0.001], model__embed_dim=[32, 128])
    out["three"] = [Fake(s, bits(s[LR], s[LEN], s[DIM])) for s in triples]
    out["three"][1].val = 1e5
    values = grid(model=["rnn1", "rnn3"], data__reverse_complement=["true", "false"], data__batch_size=[16, 64])
    out["five"] = runs_of(
        [v | {"data/split": s, LR: lr} for v in values for s in ("contiguous", "blocks") for lr in (1, 2)]
    )
    for i, run in enumerate(out["five"]):
        run.state, run.result = "done" if i < 29 else "waiting", {"split/leaks": True}
    rng = random.Random(0)
    drawn = [(10 ** rng.uniform(-4, -0.5), rng.uniform(0, 0.5), rng.choice([64, 128])) for _ in range(20)]
    out["at random"] = [Fake({LR: lr, "model.dropout": dropout, DIM: dim}, bits(lr)) for lr, dropout, dim in drawn]
    names = [f"a_rather_long_name_{i}" for i in range(15)]
    out["long names"] = runs_of(grid(model=names, data__seq_len=[10, 100]))
    bits_of = (0, 5, 77, 300, 1023)
    out["ten"] = runs_of([{f"data.a_long_parameter_{k}": (i >> k) & 1 for k in range(10)} for i in bits_of], 0.01)
    out["alike"] = runs_of(grid(optimizer__lr=[0.123411, 0.123412], data__seq_len=[10, 50]), 0)  # shown alike
    return out


SWEEPS = sweeps()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Figure]:
    """Return a function that draws a sweep, each once."""

    @cache
    def draw(name: str) -> Figure:
        figure = draw_sweep(read_sweep(write(tmp_path_factory.mktemp("sweep"), SWEEPS[name], jobs=False)))
        figure.draw_without_rendering()
        return figure

    return draw


def said(figure: Figure) -> str:
    return " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())


def panel(figure: Figure, name: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_xlabel() == name)


def dots(axes: Axes) -> list[float]:
    """Return the bits per base of the dots of a panel, in order."""
    places = np.concatenate([np.ma.getdata(made.get_offsets()) for made in axes.collections])
    return sorted(places[~np.isnan(places[:, 1]), 1].tolist())


@pytest.mark.parametrize("name", SWEEPS)
def test_every_label_is_whole_and_clear_of_the_legends(drawn: Callable[[str], Figure], name: str) -> None:
    figure = drawn(name)
    boxes = {f"{i} {axes.get_xlabel()}": axes.get_tightbbox() for i, axes in enumerate(figure.axes)}
    for what, box in (boxes | {"title": figure._suptitle.get_window_extent()}).items():  # type: ignore[attr-defined]
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height, what
    legends = [legend.get_window_extent() for part in (figure, *figure.subfigs) for legend in part.legends]
    assert legends and not [what for what, box in boxes.items() for legend in legends if legend.overlaps(box)]
    assert all(axes.get_ylabel() or axes.get_subplotspec().colspan.start for axes in figure.axes if axes.get_xlabel())


def test_one_parameter_shows_every_run_and_the_mean_but_no_test_baseline(drawn: Callable[[str], Figure]) -> None:
    figure = drawn("one")
    (axes,) = figure.axes
    assert dots(axes) == pytest.approx(sorted(bits(lr) + 0.01 * s for lr in (0.1, 0.01, 0.001) for s in range(3)))
    lines = [np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()]
    spans = [float(np.nanmax(y) - np.nanmin(y)) for y in lines if len(y) and not np.isnan(y).all()]
    assert any(span / 2 == pytest.approx(0.01 / math.sqrt(3)) for span in spans)
    assert not any(y in (pytest.approx(1.951), pytest.approx(1.93)) for line in lines for y in line)
    assert axes.get_xlabel() == "lr" and axes.get_ylabel() == "validation bits per base"
    assert "hpylori, 9 runs: 9 done" in said(figure) and "mean ± standard error" in said(figure)


def test_two_parameters_are_a_map_with_its_gap(drawn: Callable[[str], Figure]) -> None:
    board = drawn("two").axes[2]
    finished = [(0.1, 50), (0.1, 200), (0.01, 50), (0.01, 200)]
    assert {text.get_text() for text in board.texts} == {"1e+05", *(f"{bits(lr, n):.4f}" for lr, n in finished)}
    assert [t.get_text() for t in board.get_xticklabels()] == ["10", "50", "200"]
    low, high = board.collections[0].get_clim()
    assert low == pytest.approx(bits(0.01, 200)) and high < 2  # not stretched to 1e5
    assert "off the scale, up to 1e+05" in said(drawn("two")) and "6 runs: 5 done, 1" in said(drawn("two"))


def test_more_parameters_have_a_panel_each_and_a_line_a_setting(drawn: Callable[[str], Figure]) -> None:
    figure = drawn("three")
    for name in ("seq_len", "lr", "embed_dim"):
        axes = panel(figure, name)
        assert len(dots(axes)) == 18 and 1.8 < axes.get_ylim()[0] < axes.get_ylim()[1] < 2.1  # 1e5 squashes nothing
    lines = next(axes for axes in figure.axes if len(axes.get_xticks()) == 4 and not axes.collections)
    assert sum(len(line.get_xdata()) == 4 for line in lines.get_lines()) == 18


def test_notes_and_means_of_a_whole_grid_only(drawn: Callable[[str], Figure]) -> None:
    assert "mean ± sd over all the rest" in said(drawn("three"))
    assert not any("mean ±" in said(drawn(name)) for name in ("two", "five", "ten"))
    assert "this split leaks" in said(drawn("five")) and "this split leaks" not in said(drawn("one"))
    assert "2 more parameters not drawn" in said(drawn("ten"))


def test_many_numbers_are_drawn_by_their_size(drawn: Callable[[str], Figure]) -> None:
    figure = drawn("at random")
    assert panel(figure, "lr").get_xscale() == "log" and panel(figure, "dropout").get_xscale() == "linear"
    assert [label.get_text() for label in panel(figure, "embed_dim").get_xticklabels()] == ["64", "128"]
    assert len(dots(panel(figure, "lr"))) == 20


@pytest.mark.parametrize(
    ("values", "off"),
    [
        ([1.8, 1.9, 1.95, 40.0], 1),
        ([1.8, 40.0, 40.0, 41.0], 3),
        ([1.9, 1.9, 1.91], 0),
        ([1.9, 5.0], 1),
        ([3.0, 3.5, 4.0], 0),
        ([1.75, 1.8, 1.9, 2.01], 0),
        ([5.0, 5.0, 5.0], 0),
    ],
)
def test_values_off_the_scale(values: list[float], off: int) -> None:
    runs = pd.DataFrame({"x": range(len(values)), OBJECTIVE: values, "state": "done"})
    runs.attrs["varied"] = ["x"]
    figure = draw_sweep(runs)
    found, near = dots(figure.axes[0]), values[: len(values) - off]
    assert found[: len(near)] == pytest.approx(near)
    assert all(near[-1] < y < near[-1] + max(0.2 * (near[-1] - near[0]), 0.02) for y in found[len(near) :])
    assert ("off the scale" in said(figure)) == (off > 0)


def test_the_same_sweep_is_the_same_png_of_1300_pixels(tmp_path: Path) -> None:
    runs = read_sweep(write(tmp_path / "sweep", SWEEPS["two"]))
    for name in ("a.png", "b.png"):
        save_sweep(runs, tmp_path / name)
    content = (tmp_path / "a.png").read_bytes()
    assert content.startswith(b"\x89PNG") and int.from_bytes(content[16:20], "big") == 1300
    assert content == (tmp_path / "b.png").read_bytes() and len(list(tmp_path.iterdir())) == 3
