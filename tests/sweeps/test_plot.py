"""The picture of a sweep shows every finished run, cuts no word, and is not squashed by a run gone astray."""

import itertools
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from sweep_folders import Fake, grid, write

from genoseq.sweeps.collect import collect
from genoseq.sweeps.groups import Sweep
from genoseq.sweeps.plot import draw_sweep, sweep_figure
from genoseq.sweeps.report_scales import Scale, view_of
from genoseq.sweeps.report_words import Level

LR, LEN, DIM = "optimizer.lr", "data.seq_len", "model.embed_dim"


def bits(lr: float, length: int = 50, dim: int = 128) -> float:
    return 1.95 + 0.04 * abs(math.log10(lr) + 2) - 0.03 * math.log10(length) - 0.01 * math.log2(dim / 32)


def three(folder: Path) -> Sweep:
    """Return 36 runs, one of which diverged and one failed."""
    fakes = []
    for s in grid(data__seq_len=[10, 50, 100, 200], optimizer__lr=[0.1, 0.01, 0.001], model__embed_dim=[32, 128, 512]):
        odd = s[LR] == 0.1 and s[DIM] == 512
        fakes.append(Fake(s, bits(s[LR], s[LEN], s[DIM])))
        if odd and s[LEN] == 200:
            fakes[-1].val = 5.0
        if odd and s[LEN] == 100:
            fakes[-1].state = "failed"
    return collect(write(folder, fakes))


def two(folder: Path) -> Sweep:
    fakes = [Fake(s, bits(s[LR], s[LEN])) for s in grid(data__seq_len=[10, 50, 200], optimizer__lr=[0.1, 0.01])]
    fakes[0].state, fakes[1].val = "failed", 40.0
    return collect(write(folder, fakes))


def one(folder: Path) -> Sweep:
    values = grid(optimizer__lr=[0.1, 0.01, 0.001], seed=[0, 1, 2])
    return collect(write(folder, [Fake(s, bits(s[LR]) + 0.01 * s["seed"]) for s in values]))


def five(folder: Path) -> Sweep:
    """Return a sweep with groups and words among its parameters, not all finished, on a split that leaks."""
    values = grid(model=["rnn1", "rnn3"], data__reverse_complement=["true", "false"], optimizer__lr=[0.1, 0.001])
    values = [v | s for v in values for s in grid(data__batch_size=[16, 64])]
    values = [v | {"data/split": name} for v in values for name in ("contiguous", "random_windows")]
    leak = {"split/leaks": True}
    fakes = [Fake(v, bits(v[LR]) + i / 999, "waiting" if i > 28 else "done", result=leak) for i, v in enumerate(values)]
    return collect(write(folder, fakes))


def drawn_at_random(folder: Path) -> Sweep:
    rng = random.Random(0)
    fakes = []
    for _ in range(20):
        lr = 10 ** rng.uniform(-4, -0.5)
        fakes.append(Fake({LR: lr, "model.dropout": rng.uniform(0, 0.5), DIM: rng.choice([64, 128])}, bits(lr)))
    return collect(write(folder, fakes, jobs=False))


def pair_at_random(folder: Path) -> Sweep:
    runs = [(10 ** (-i / 4), i * 0.02) for i in range(16)]
    return collect(write(folder, [Fake({LR: lr, "model.dropout": d}, bits(lr)) for lr, d in runs], jobs=False))


def many_words(folder: Path) -> Sweep:
    names = [f"a_rather_long_name_{i}" for i in range(15)]
    values = grid(model=names, data__seq_len=[10, 100])
    return collect(write(folder, [Fake(s, 1.9 + 0.001 * i, name=str(i)) for i, s in enumerate(values)]))


def ten(folder: Path) -> Sweep:
    keys = [f"data.a_long_parameter_{i}" for i in range(10)]
    runs = [{key: (i >> k) & 1 for k, key in enumerate(keys)} for i in (0, 5, 77, 300, 1023)]
    return collect(write(folder, [Fake(s, 1.9 + 0.01 * i, name=str(i)) for i, s in enumerate(runs)]))


def seeds(folder: Path) -> Sweep:
    return collect(write(folder, [Fake({"seed": s}, 1.9 + 0.01 * s) for s in range(3)]))


def alone(folder: Path) -> Sweep:
    return collect(write(folder, [Fake({}, 1.9, name="run")]))


ALL = [one, two, three, five, drawn_at_random, pair_at_random, many_words, ten, seeds, alone]


def texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def said(figure: Figure) -> str:
    return " ".join("\n".join(text.get_text() for text in texts(figure)).split())


def dots(axes: Axes) -> list[tuple[float, float]]:
    """Return the round dots of a panel, and the star."""
    return [
        (float(x), float(y))
        for made in axes.collections
        if isinstance(made, PathCollection)
        for x, y in made.get_offsets()
    ]


def panel(figure: Figure, name: str) -> Axes:
    (found,) = [axes for axes in figure.axes if axes.get_xlabel() == name and axes.get_ylabel() in ("", *LABELS)]
    return found


LABELS = ("val bits per base", "validation bits per base")


@pytest.fixture(scope="module", params=ALL)
def figure(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Figure:
    """Return each kind of picture, drawn."""
    make: Callable[[Path], Sweep] = request.param
    made = sweep_figure(make(tmp_path_factory.mktemp("sweep")))
    made.canvas.draw()
    return made


def test_every_word_is_whole_on_the_picture(figure: Figure) -> None:
    words = [*figure.texts, *figure.legends[0].get_texts()]
    title = figure._suptitle  # type: ignore[attr-defined]
    boxes = {text.get_text(): text.get_window_extent() for text in [*words, title]}
    boxes |= {f"panel {i}": axes.get_tightbbox() for i, axes in enumerate(figure.axes)}
    for what, box in boxes.items():
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height
        assert inside, (what, box)
    assert all(text.get_fontsize() >= 12 for text in texts(figure))


def test_legend_and_labels_lie_clear_of_one_another(figure: Figure) -> None:
    (legend,) = figure.legends
    box = legend.get_window_extent()
    for axes in figure.axes:
        own = axes.get_tightbbox()
        assert not box.overlaps(own), axes.get_xlabel()
        assert own.y1 < figure._suptitle.get_window_extent().y0  # type: ignore[attr-defined]
        labels = [label for label in axes.get_xticklabels() if label.get_text()]
        if all(label.get_rotation() == 0 for label in labels):
            boxes = [label.get_window_extent() for label in labels]
            assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))


@pytest.mark.parametrize("make", [one, two, three])
def test_a_png_of_1300_pixels(tmp_path: Path, make: Callable[[Path], Sweep]) -> None:
    out = tmp_path / "sweep.png"
    draw_sweep(make(tmp_path / "s"), out)
    head = out.read_bytes()[:24]
    assert head.startswith(b"\x89PNG") and int.from_bytes(head[16:20], "big") == 1300
    assert out.stat().st_size > 10_000 and not list(tmp_path.glob(".*"))


def test_one_parameter_shows_every_run_and_the_mean(tmp_path: Path) -> None:
    figure = sweep_figure(one(tmp_path))
    (axes,) = figure.axes
    found = dots(axes)
    for lr in (0.1, 0.01, 0.001):
        for seed in range(3):
            assert any(y == pytest.approx(bits(lr) + 0.01 * seed) for _, y in found)
    (errors,) = axes.containers
    assert list(errors[0].get_ydata()) == pytest.approx([bits(lr) + 0.01 for lr in (0.001, 0.01, 0.1)])
    ends = [segment[:, 1] for segment in errors[2][0].get_segments()]
    assert (ends[0][1] - ends[0][0]) / 2 == pytest.approx(0.01 / math.sqrt(3))
    assert axes.get_xlabel() == "lr" and axes.get_ylabel() == "validation bits per base"
    assert "9 of 9 runs done" in said(figure) and "hpylori" in said(figure) and "standard error" in said(figure)


def test_two_parameters_are_a_map_with_its_gaps_and_its_best(tmp_path: Path) -> None:
    figure = sweep_figure(two(tmp_path))
    board = figure.axes[0]
    cells = {text.get_text() for text in board.texts}
    assert {"–", "40.000", f"{bits(0.01, 200):.3f}"} <= cells and len(board.texts) == 6
    assert any(patch.get_hatch() for patch in board.patches)
    best = board.patches[-1]
    along, down = (
        [label.get_text() for label in board.get_xticklabels()],
        [t.get_text() for t in board.get_yticklabels()],
    )
    middle = best.get_x() + best.get_width() / 2, best.get_y() + best.get_height() / 2
    assert along[round(middle[0])] == "200" and down[round(middle[1])] == "0.01"
    assert board.images[0].get_clim() == pytest.approx((bits(0.01, 200), bits(0.1, 50)))  # not stretched to 40
    assert board.images[0].get_cmap().name == "cividis_r"
    assert "1 beyond this scale (up to 40.00)" in said(figure) and "5 of 6 runs done (1 failed)" in said(figure)
    assert panel(figure, "lr") is not None and panel(figure, "seq_len") is not board


def test_more_parameters_have_a_panel_each_and_a_line_a_setting(tmp_path: Path) -> None:
    figure = sweep_figure(three(tmp_path))
    for name, values in (("seq_len", 4), ("lr", 3), ("embed_dim", 3)):
        axes = panel(figure, name)
        assert len(axes.get_xticks()) == values
        low, high = axes.get_ylim()
        assert 1.75 < low < 1.85 and 1.95 < high < 2.1  # the one at 5 squashes nothing
        triangles = [made for made in axes.collections if len(made.get_offsets()) and made.get_clip_on() is False]
        assert [len(made.get_offsets()) for made in triangles] == [1]
        assert len(dots(axes)) == 35 + 1  # and the star
    lines = next(axes for axes in figure.axes if "validation" in [t.get_text()[:10] for t in axes.get_xticklabels()])
    long = [line for line in lines.get_lines() if len(line.get_xdata()) > 10]
    assert len(long) == 35 and sum(line.get_linestyle() == ":" for line in long) == 1
    assert sum(line.get_linewidth() > 3 for line in long) == 3
    assert "1 beyond this scale (up to 5.00)" in said(figure) and "35 of 36 runs done (1 failed)" in said(figure)


def test_a_leaking_split_says_so(tmp_path: Path) -> None:
    figure = sweep_figure(five(tmp_path))
    assert "this split leaks" in said(figure) and "29 of 32 runs done (3 waiting)" in said(figure)
    assert "this split leaks" not in said(sweep_figure(one(tmp_path / "clean")))


def test_what_all_must_beat_is_drawn_and_named(tmp_path: Path) -> None:
    figure = sweep_figure(two(tmp_path))
    words = said(figure)
    assert "order-6 table, on the test part: 1.951" in words and "chance: 2.000" in words
    assert "imm of tables, on the test part: 1.930" in words
    heights = {line.get_ydata()[0] for line in panel(figure, "lr").get_lines() if len(line.get_ydata()) == 2}
    assert {1.951, 1.93} <= heights


def test_many_numbers_are_drawn_by_their_size(tmp_path: Path) -> None:
    figure = sweep_figure(drawn_at_random(tmp_path))
    lr, dropout, dim = panel(figure, "lr"), panel(figure, "dropout"), panel(figure, "embed_dim")
    assert lr.get_xscale() == "log" and dropout.get_xscale() == "linear"
    assert not lr.containers and not dropout.containers and len(dim.containers) == 1  # no mean of single trials
    assert len(dots(lr)) == 21 and max(x for x, _ in dots(lr)) < 1
    assert [label.get_text() for label in dim.get_xticklabels()] == ["64", "128"]


def test_parameters_that_are_left_out_are_counted(tmp_path: Path) -> None:
    assert "2 more parameters not drawn" in said(sweep_figure(ten(tmp_path)))


@pytest.mark.parametrize(
    ("values", "high"),
    [
        ([1.8, 1.9, 1.95, 40.0], 1.95),
        ([1.8, 40.0, 40.0, 41.0], 1.8),
        ([1.9, 1.9, 1.91], 1.91),
        ([1.9, 5.0], 1.9),
        ([3.0, 3.5, 4.0], 4.0),
        ([1.75, 1.8, 1.9, 2.01], 2.01),
    ],
)
def test_the_range_in_view(values: list[float], high: float) -> None:
    view = view_of(values, [Level("chance", 2.0, None)])
    assert (view.low, view.high) == (min(values), high)
    assert list(view.beyond) == [value for value in values if value > high]
    assert view.bottom < view.low and view.high < view.top < high + 0.5 * max(high - view.low, 1)


def test_a_far_level_is_left_out_of_view() -> None:
    near, far = Level("near", 1.95, None), Level("far", 2.0, None)
    view = view_of([1.90, 1.92], [near, far])
    assert view.levels == () and view.top < 1.93
    assert view_of([1.85, 1.92], [near, far]).levels == (near,)


def test_scales() -> None:
    assert Scale.of([0.1, 0.01, 0.1]) == Scale("categories", (0.01, 0.1))
    assert Scale.of(["b", 2, None, 10]).values == (2, 10, "b", None)
    few = Scale.of([0.1, 0.01, 0.001], few="log")
    assert few.kind == "log" and [few.part(v) for v in (0.001, 0.01, 0.1)] == pytest.approx([0, 0.5, 1])
    assert few.ticks() == [(0.0, "0.001"), (pytest.approx(0.5), "0.01"), (1.0, "0.1")]
    assert Scale.of([1, 29], few="log").kind == "categories"
    assert Scale.of([10 ** (i / 4) for i in range(13)]).kind == "log"
    assert Scale.of([0.001, *(i / 20 for i in range(1, 20))]).kind == "linear"  # wide, but evenly drawn
    assert Scale.of([5]).part(5) == 0.5 and Scale.of([True, 1]).values in ((True, 1), (1, True))
