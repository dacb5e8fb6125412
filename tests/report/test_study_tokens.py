"""The study of tokens: kinds told apart, bases counted, seeds folded."""

import csv
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread
from study_folders import study

from genoseq.report.study_tokens import write_study

KS = (2, 4, 6)


def folder_of(folder: Path, seeds: int = 1) -> Path:
    kinds = [("char", 1), *(("kmer", k) for k in KS), *(("kmer_disjoint", k) for k in KS)]
    settings = [{"data": data, "data.k": k, "seed": seed} for data, k in kinds for seed in range(seeds)]
    results = []
    for one in settings:
        stride = one["data.k"] if one["data"] == "kmer_disjoint" else 1
        told = {"tokens/k": one["data.k"], "tokens/stride": stride, "tokens/new_bases": stride, "seed": one["seed"]}
        results.append(told | {"train/steps": 1000})
    tests = [1.76 + 0.01 * one["data.k"] * (one["data"] != "kmer") + 0.02 * one["seed"] for one in reversed(settings)][
        ::-1
    ]
    return study(folder, settings, tests, results, {"batch_size": 64, "seq_len": 32})


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_kinds_and_bases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(folder_of(tmp_path / "runs"), tmp_path / "out")
    table = rows(tmp_path / "out" / "results.csv")
    assert [(row["tokens"], int(row["k"])) for row in table] == [
        ("characters", 1),
        *(("overlapping", k) for k in KS),
        *(("disjoint", k) for k in KS),
    ]
    assert {row["train/tokens"] for row in table} == {"2048000"}
    assert [int(row["train/bases"]) for row in table] == [2_048_000] * 4 + [2_048_000 * k for k in KS]
    text = " ".join(capsys.readouterr().out.split())
    assert "characters 4 1.7700 2.0 M 36.00 % 60" in text and "6-mers, disjoint 4,096 1.8200 12.3 M 36.00 % 60" in text
    assert "imm of tables 1.9300 42.60 %" in text
    assert imread(tmp_path / "out" / "figure.png").shape == (750, 1200, 4)


def test_seeds_are_folded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(folder_of(tmp_path / "runs", seeds=3), tmp_path / "out")
    assert len(rows(tmp_path / "out" / "results.csv")) == 21
    # 1.77, 1.79, 1.81: sd 0.02, se 0.02 / √3
    assert "1.7900 ± 0.0115" in capsys.readouterr().out


@pytest.mark.slow
def test_real_runs(run_verb: Any, tiny: tuple[str, ...], tmp_path: Path, letters: Any) -> None:
    genome = tmp_path / "g.fa"
    genome.write_text(f">g\n{letters(6000)}\n")
    own = [word for word in tiny if not word.startswith("trainer.max_steps")]
    for name, *words in (
        ("char", "data=char"),
        ("k2", "data=kmer", "data.k=2"),
        ("d3", "data=kmer_disjoint", "data.k=3"),
    ):
        words += ["experiment=tokens", "tokens=1024", f"data.genome={genome}"]
        ran = run_verb("train", tmp_path / "runs" / name, *own, *words)
        assert ran.code == 0, ran.err
    ran = run_verb("study", tmp_path, "name=tokens", f"dir={tmp_path / 'runs'}", f"out={tmp_path / 'out'}")
    assert ran.code == 0, ran.err
    table = rows(tmp_path / "out" / "results.csv")
    assert [(row["tokens"], row["k"], row["train/bases"]) for row in table] == [
        ("characters", "1", "1024"),
        ("overlapping", "2", "1024"),
        ("disjoint", "3", "3072"),
    ]
