"""The closing table shows the right numbers, and what they are worth."""

import io
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from genoseq.report.summary import print_summary

RESULT: dict[str, Any] = {
    "test/accuracy": 0.3712,
    "test/bits_per_base": 1.9434,
    "test/mode": "frozen",
    "baseline/order": 6,
    "baseline/accuracy": 0.369,
    "baseline/bits_per_base": 1.951,
    "imm/accuracy": 0.38,
    "imm/bits_per_base": 1.93,
    "chance/accuracy": 0.25,
    "chance/bits_per_base": 2.0,
    "leakage/positions": 0.0,
    "leakage/shared_kmers": 0.0123,
    "train/steps": 2000,
    "train/tokens_per_second": 31000.3,
    "seconds": 172.3,
    "split/name": "contiguous",
    "split/leaks": False,
    "genome/name": "hpylori",
    "genome/bases": 1_652_982,
    "tokens/k": 1,
    "tokens/stride": 1,
    "tokens/new_bases": 1,
    "model/parameters": 1_234_567,
}


def _print(result: dict[str, Any], folder: str = "outputs/run", **console: Any) -> str:
    out = io.StringIO()
    print_summary(result, Path(folder), Console(file=out, width=80, **console))
    return out.getvalue()


def _row(text: str, start: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return line.split()


def test_rows_hold_the_metrics() -> None:
    text = _print(RESULT)
    assert _row(text, "model")[-2:] == ["37.12", "1.943"]
    assert _row(text, "baseline, order-6 Markov model")[-2:] == ["36.90", "1.951"]
    assert _row(text, "interpolated Markov model")[-2:] == ["38.00", "1.930"]
    assert _row(text, "chance")[-2:] == ["25.00", "2.000"]
    assert "accuracy (%)" in text and "bits per base" in text and "frozen" in text
    assert "hpylori, 1,652,982 bases, contiguous split" in text
    assert "per token" not in text and "per base," not in text
    measured = {key: value for key, value in RESULT.items() if not key.startswith(("baseline/", "imm/"))}
    assert "Markov" not in _print(measured)  # baseline=false


def test_a_terminal_and_none() -> None:
    text = _print(RESULT | {"split/leaks": True})
    assert "\x1b" not in text and max(map(len, text.splitlines())) <= 80
    assert "\x1b[1m" in _print(RESULT, force_terminal=True)
    out = io.TextIOWrapper(raw := io.BytesIO(), encoding="ascii")
    print_summary({}, Path("x"), Console(file=out, width=80))
    out.flush()
    assert b"chance" in raw.getvalue()


def test_leakage() -> None:
    text = " ".join(_print(RESULT).split())
    assert "0.0 % of test positions lie in a training window; 1.2 % of test 24-mers occur in training" in text
    assert "memory" not in text
    text = " ".join(_print(RESULT | {"split/leaks": True, "leakage/positions": 1.0}).split())
    assert "100.0 % of test positions" in text
    assert "this accuracy measures memory, not what the model has learnt about DNA" in text
    assert "<0.1 % of test positions" in _print(RESULT | {"leakage/positions": 1e-5})


@pytest.mark.parametrize("tokens", [{"tokens/new_bases": 3}, {"tokens/k": 3, "tokens/stride": 3}])
def test_accuracies_of_different_things_are_told_apart(tokens: dict[str, int]) -> None:
    text = _print(RESULT | tokens | {"chance/accuracy": 1 / 64})
    assert "model, frozen test, per token" in text and "chance, per token" in text
    assert "order-6 Markov model, per base" in text and "interpolated Markov model, per base" in text
    assert _row(text, "chance")[-2:] == ["1.56", "2.000"]
    overlapping = {"tokens/k": 3, "tokens/stride": 1, "tokens/new_bases": 1}
    assert "per token" not in _print(RESULT | overlapping)


@pytest.mark.parametrize("missing", [{}, dict.fromkeys(RESULT), {"test/accuracy": math.nan}])
def test_what_is_missing_is_a_dash(missing: dict[str, Any]) -> None:
    text = _print(missing)
    for start in ("model", "chance", *(("baseline", "interpolated") if "imm/bits_per_base" in missing else ())):
        assert _row(text, start)[-2:] == ["–", "–"]
    assert "None" not in text and "nan" not in text


def test_paths_survive_being_copied() -> None:
    folder = "outputs/a run/" + "x" * 90
    text = _print(RESULT, folder)
    assert folder in text
    assert f"tensorboard --logdir '{folder}'" in text


def test_needs_neither_torch_nor_hydra() -> None:
    code = "import sys; import genoseq.report.summary; sys.exit(bool({'torch', 'hydra', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
