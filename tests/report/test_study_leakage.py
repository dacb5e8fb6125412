"""The study of the split: every run is in the table and in the picture, and the picture cuts and covers nothing."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from sweep_folders import Fake, write

from genoseq.errors import UserError
from genoseq.report import study_leakage
from genoseq.report.study_leakage import write_study
from genoseq.report.study_leakage_figure import leakage_figure
from genoseq.report.study_leakage_read import read_runs

STRIDES = (1, 10, 50, 100, 200)
WHOLE, EXCERPT = 1_652_982, 50_000


def seen(stride: int | None) -> float:
    return {1: 1.0, 10: 0.99999, 50: 0.983, 100: 0.742, 200: 0.0074, None: 0.0}[stride]


def tables(stride: int | None, bases: int) -> list[float]:
    """Return the accuracy of the table of each order: learning up to order 6, and memory beyond."""
    memory = [1 / (1 + bases / 0.8 / 4**k) for k in range(17)]
    learnt = [0.31, 0.38, 0.386, 0.397, 0.402, 0.406, 0.408, 0.406, 0.394, 0.372, 0.35, 0.331, 0.321, *[0.315] * 4]
    return [a + seen(stride) * m * (0.99 - a) for a, m in zip(learnt, memory, strict=True)]


def fake(stride: int | None, bases: int, lstm: bool) -> Fake:
    settings: dict[str, Any] = {"experiment": "leakage" if lstm else "leakage_tables"}
    settings |= {"data/split": "contiguous"} if stride is None else {"data.split.window_stride": stride}
    result = {
        "test/accuracy": 0.36 + 0.42 * seen(stride),
        "imm/accuracy": 0.43 + 0.56 * seen(stride),
        "leakage/positions": seen(stride),
        "leakage/shared_kmers": 0.02 + 0.97 * seen(stride),
        "genome/name": "hpylori" if bases == WHOLE else f"hpylori[0:{bases}]",
        "genome/bases": bases,
        "split/name": "contiguous" if stride is None else "random_windows",
        "split/window_stride": stride,
        "scale": "demo",
    }
    return Fake(settings, 1.9, result=result)


def fill(folder: Path, strides: tuple[int | None, ...], scopes: tuple[tuple[int, bool], ...]) -> None:
    fakes = [(stride, bases, fake(stride, bases, lstm)) for bases, lstm in scopes for stride in strides]
    write(folder, [one for _, _, one in fakes])
    for (stride, bases, _), job in zip(fakes, json.loads((folder / "jobs.json").read_text())["jobs"], strict=True):
        run = folder / job["name"]
        rows = [f"{k},{a},{2 - a}" for k, a in enumerate(tables(stride, bases))]
        (run / "orders.csv").write_text("\n".join(["order,accuracy,bits_per_base", *rows, ""]))
        config = {"model": {"hidden_size": 128}, "data": {"batch_size": 32, "seq_len": 200}}
        (run / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    scopes = ((EXCERPT, True), (WHOLE, False))
    fill(tmp_path / "random_windows", STRIDES, scopes)
    fill(tmp_path / "contiguous", (None,), scopes)
    return tmp_path


def assert_nothing_is_cut_or_covered(figure: Figure) -> None:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    for axes in figure.axes:
        inside = axes.get_tightbbox(renderer)
        assert inside is not None
        assert inside.x0 >= 0 and inside.x1 <= figure.bbox.width and inside.y0 >= 0 and inside.y1 <= figure.bbox.height
        legend = axes.get_legend()
        assert legend is not None
        box = legend.get_window_extent(renderer)
        assert not box.overlaps(axes.get_window_extent(renderer))
        assert min(text.get_fontsize() for text in legend.get_texts()) >= 13  # type: ignore[type-var]


def test_every_run_and_model_is_in_the_results(study: Path, tmp_path: Path, capsys: Any) -> None:
    write_study(study, tmp_path / "out")
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 * (17 + 2) + 6  # tables, blend and chance of each run; six networks
    networks = [row for row in rows if row["model"] == "LSTM"]
    assert {row["bases"] for row in networks} == {str(EXCERPT)}
    assert [row["window_stride"] for row in networks] == ["1", "10", "50", "100", "200", ""]
    (one,) = (row for row in rows if (row["bases"], row["window_stride"], row["order"]) == (str(WHOLE), "50", "12"))
    assert float(one["accuracy"]) == pytest.approx(tables(50, WHOLE)[12])
    assert float(one["leakage/positions"]) == seen(50)
    assert (tmp_path / "out" / "figure.png").read_bytes().startswith(b"\x89PNG")
    out = capsys.readouterr().out
    assert "demo scale: LSTM of hidden 128 on 50,000 bases, 1.9 M training tokens" in out
    assert "every 200 bases" in out and "contiguous" in out and "(k=6)" in out and "(k=16)" in out


def test_no_row_of_the_table_is_broken(study: Path) -> None:
    runs = read_runs(study)
    out = io.StringIO()
    study_leakage._show(runs, Console(file=out))
    lines = out.getvalue().splitlines()
    assert sum(line.startswith("hpylori") for line in lines) == len(runs) == 12
    assert "…" not in out.getvalue()


def test_the_picture_shows_every_split(study: Path) -> None:
    runs = read_runs(study)
    figure = leakage_figure(runs)
    left, right = figure.axes
    names = [text.get_text() for text in left.get_legend().get_texts()]  # type: ignore[union-attr]
    assert names == ["at every base", *(f"every {s} bases" for s in STRIDES[1:]), "contiguous", "chance"]
    assert len({(line.get_color(), line.get_marker()) for line in left.get_lines() if len(line.get_xdata()) == 17}) == 6
    assert [text.get_text() for text in right.get_xticklabels()] == ["1", "10", "50", "100", "200", "contiguous"]
    assert len(right.get_lines()) == 4
    assert_nothing_is_cut_or_covered(figure)


@pytest.mark.parametrize("scopes", [((WHOLE, False),), ((EXCERPT, True),)])
def test_half_a_study_is_drawn(tmp_path: Path, scopes: tuple[tuple[int, bool], ...]) -> None:
    fill(tmp_path / "random_windows", (1, 200), scopes)
    runs = read_runs(tmp_path)
    assert len(runs) == 2
    assert_nothing_is_cut_or_covered(leakage_figure(runs))


def test_what_is_missing_is_said(tmp_path: Path, study: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no run in the folders of .*empty has been tested"):
        read_runs(tmp_path / "empty")
    next((study / "contiguous").glob("*/orders.csv")).unlink()
    with pytest.raises(UserError, match=r"There is no .*tables\.csv"):
        read_runs(study)


@pytest.mark.slow
def test_the_study_s_commands_in_small(tmp_path: Path, run_verb: Callable[..., Any]) -> None:
    small = ("data.bases=12000", "trainer.max_steps=2", "model.hidden_size=16", "data.eval_windows=16")
    for split in ("data.split.window_stride=1", "data.split.window_stride=200", "data/split=contiguous"):
        sub = tmp_path / "runs" / ("contiguous" if "contiguous" in split else "random_windows")
        for experiment in ("leakage", "leakage_tables"):
            folder = sub / f"{experiment}-{split[-3:].strip('=e')}"
            ran = run_verb("train", folder, f"experiment={experiment}", split, *small)
            assert ran.code == 0, ran.err
        (sub / "jobs.json").write_text("{}")  # what a sweep's launcher leaves
    runs = read_runs(tmp_path / "runs")
    assert [one.stride for one in runs] == [1, 1, 200, 200, None, None]
    near, far, honest = (next(one for one in runs if one.stride == stride) for stride in (1, 200, None))
    assert near.tables[16].accuracy > 0.95 > 0.45 > max(far.tables[16].accuracy, honest.tables[16].accuracy)
    assert near.run.result["leakage/positions"] > 0.999
    assert 0 < far.run.result["leakage/positions"] < 0.02
    write_study(tmp_path / "runs", tmp_path / "out")
    assert (tmp_path / "out" / "results.csv").is_file()
