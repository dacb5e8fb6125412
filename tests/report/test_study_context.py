"""The study of context: stretches and last tenths by hand, seeds folded, what is missing said."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from study_folders import positions, sorted_by_job, study

from genoseq.errors import UserError
from genoseq.report.study_context import Scored, by_window, curve, write_study
from genoseq.sweeps.groups import Run

LENGTHS = (10, 100, 1000)


def made_bits(seq_len: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return 1.75 + 0.2 / np.arange(1, seq_len + 1) ** 0.5 + 0.01 * seed


def folder_of(folder: Path, seeds: int = 1) -> Path:
    settings = [{"data.seq_len": length, "seed": seed} for length in LENGTHS for seed in range(seeds)]
    tests = [float(made_bits(one["data.seq_len"], one["seed"]).mean()) for one in settings]
    config = {"batch_size": "${rows:${tokens_per_step},${data.seq_len}}"}
    study(folder, settings, tests, [{"seed": one["seed"], "train/steps": 600} for one in settings], config)
    for path, one in zip(sorted_by_job(folder), settings, strict=True):
        length = one["data.seq_len"]
        positions(path, [3000] * length, made_bits(length, one["seed"]).tolist())
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_figure_is_in_the_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(folder_of(tmp_path / "runs"), tmp_path / "out")
    table = rows(tmp_path / "out" / "results.csv")
    assert [int(row["data.seq_len"]) for row in table] == list(LENGTHS)
    assert [int(row["data.batch_size"]) for row in table] == [1000, 100, 10]
    assert {int(row["train/tokens"]) for row in table} == {6_000_000}
    for row in table:
        bits = made_bits(int(row["data.seq_len"]))
        assert float(row["test/bits_per_base"]) == pytest.approx(bits.mean())
        assert float(row["last_tenth/bits_per_base"]) == pytest.approx(bits[-max(1, len(bits) // 10) :].mean())
        assert float(row["baseline/bits_per_base"]) == 1.951
    text = " ".join(capsys.readouterr().out.split())
    assert "hpylori, 3 runs: 3 done demo scale: hidden 128, 6 M training tokens a run, one seed each" in text
    assert "1,000 10 600 1.7624 1.7565 60" in text and "order-6 table 1.9510" in text and "imm of tables" in text
    assert imread(tmp_path / "out" / "figure.png").shape == (750, 1200, 4)


def test_stretches_are_the_same_for_every_window_and_miss_nothing(tmp_path: Path) -> None:
    write_study(folder_of(tmp_path / "runs"), tmp_path)
    points = rows(tmp_path / "positions.csv")
    ends: dict[int, list[int]] = {}
    for length in LENGTHS:
        mine = [point for point in points if int(point["data.seq_len"]) == length]
        first, last = ([int(point[key]) for point in mine] for key in ("first", "last"))
        assert first == [1, *(at + 1 for at in last[:-1])] and last[-1] == length
        ends[length] = last
        for point, low, high in zip(mine, first, last, strict=True):
            assert float(point["bits_per_base"]) == pytest.approx(made_bits(length)[low - 1 : high].mean())
            assert int(point["n"]) == 3000 * (high - low + 1)
    assert ends[10][:-1] == ends[100][: len(ends[10]) - 1] == ends[1000][: len(ends[10]) - 1]


def test_seeds_are_folded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(folder_of(tmp_path / "runs", seeds=2), tmp_path / "out")
    assert len(rows(tmp_path / "out" / "results.csv")) == 6
    point = rows(tmp_path / "out" / "positions.csv")[0]
    assert float(point["bits_per_base"]) == pytest.approx(1.955)  # 1.95 and 1.96: deviations 0.005, se 0.005
    assert float(point["standard_error"]) == pytest.approx(0.005) and point["n"] == "6000"
    text = " ".join(capsys.readouterr().out.split())
    assert "mean of 2 seeds" in text and "± 0.0050" in text


def test_positions_weigh_by_what_they_scored() -> None:
    one = Scored(Run("r", Path("r"), {}), np.array([3.0, 1.0, 0.0]), np.array([1.0, 2.0, np.nan]))
    assert one.mean(1, 4) == pytest.approx(1.25) and np.isnan(one.last)
    (window,) = by_window([one])
    assert [(point["first"], point["last"]) for point in curve(window, 3)][-1][1] == 3


def test_what_is_missing_is_one_sentence(tmp_path: Path) -> None:
    folder_of(tmp_path)
    (tmp_path / "seq_len=100,seed=0" / "positions.csv").unlink()
    with pytest.raises(UserError, match=r"there is no .*positions.csv.*positions=10"):
        write_study(tmp_path, tmp_path)
    positions(tmp_path / "seq_len=100,seed=0", [1], [2.0])
    (tmp_path / "seq_len=100,seed=0" / ".hydra" / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"config.yaml cannot be read"):
        write_study(tmp_path, tmp_path)
    for length in LENGTHS:
        (tmp_path / f"seq_len={length},seed=0" / "result.json").unlink()
    with pytest.raises(UserError, match=r"no run in .* has been tested yet"):
        write_study(tmp_path, tmp_path)


@pytest.mark.slow
def test_real_runs(run_verb: Any, tiny: tuple[str, ...], tmp_path: Path, letters: Any) -> None:
    genome = tmp_path / "g.fa"
    genome.write_text(f">g\n{letters(6000)}\n")
    for length in (10, 100):
        words = (f"data.seq_len={length}", "tokens=4000", "tokens_per_step=1000", f"data.genome={genome}")
        own = [word for word in tiny if not word.startswith(("data.seq_len", "data.batch_size", "trainer.max_steps"))]
        ran = run_verb("train", tmp_path / "runs" / str(length), *own, "experiment=context", *words)
        assert ran.code == 0, ran.err
        assert len(rows(ran.folder / "positions.csv")) == length
    ran = run_verb("study", tmp_path, "name=context", f"dir={tmp_path / 'runs'}", f"out={tmp_path / 'out'}")
    assert ran.code == 0, ran.err
    table = rows(tmp_path / "out" / "results.csv")
    assert [(row["data.seq_len"], row["data.batch_size"], row["train/tokens"]) for row in table] == [
        ("10", "100", "4000"),
        ("100", "10", "4000"),
    ]
    assert "last tenth" in ran.out and (tmp_path / "out" / "figure.png").is_file()


def test_positions_are_asked_for_as_a_number(run_verb: Any, tiny: tuple[str, ...], tmp_path: Path) -> None:
    ran = run_verb("train", tmp_path / "run", *tiny, "positions=some")
    assert ran.code == 2 and "positions=some is not a number of windows" in ran.err
