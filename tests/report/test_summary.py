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
    "model/parameters": 1_234_567,
}
LEAKS = "this accuracy measures memory, not what the model has learnt about DNA"


def _print(result: dict[str, Any], folder: str = "outputs/run", **console: Any) -> str:
    out = io.StringIO()
    print_summary(result, Path(folder), Console(file=out, width=80, **console))
    return out.getvalue()


def _rows(text: str) -> dict[str, list[str]]:
    """Return the two numbers of each row by the row's label."""
    lines = [
        line.rsplit(maxsplit=2) for line in text.splitlines() if line.startswith(("model", "base", "int", "chance"))
    ]
    return {label: numbers for label, *numbers in lines}


def test_rows_hold_the_metrics() -> None:
    text = _print(RESULT)
    assert _rows(text) == {
        "model, frozen test": ["37.12", "1.943"],
        "baseline, order-6 Markov model": ["36.90", "1.951"],
        "interpolated Markov model": ["38.00", "1.930"],
        "chance": ["25.00", "2.000"],
    }
    for part in ("accuracy (%)", "bits per base", "hpylori, 1,652,982 bases, contiguous split", "31,000 tokens/s"):
        assert part in text
    measured = {key: value for key, value in RESULT.items() if not key.startswith(("baseline/", "imm/"))}
    assert list(_rows(_print(measured))) == ["model, frozen test", "chance"]  # baseline=false


def test_what_a_stopped_run_has_not_measured_is_a_dash() -> None:
    known = {k: v for k, v in RESULT.items() if not k.startswith(("test/a", "test/b", "baseline/", "imm/", "leakage/"))}
    for result in (known | {"train/tokens_per_second": None}, RESULT | {"test/accuracy": math.nan}):
        text = _print(result)
        assert _rows(text)["model, frozen test"][0] == "-" and _rows(text)["chance"] == ["25.00", "2.000"]
        assert "None" not in text and "nan" not in text
        assert ("leakage: - % of" in text) == ("- tokens/s" in text) == (result["train/tokens_per_second"] is None)


@pytest.mark.parametrize(
    ("leaked", "said"),
    [
        ({}, "0.0 %"),
        ({"split/leaks": True, "leakage/positions": 1.0}, "100.0 %"),
        ({"leakage/positions": 1e-5}, "<0.1 %"),
    ],
)
def test_leakage(leaked: dict[str, Any], said: str) -> None:
    text = " ".join(_print(RESULT | leaked).split())
    assert (
        f"leakage: {said} of test positions lie in a training window; 1.2 % of test 24-mers occur in training" in text
    )
    assert (LEAKS in text) == ("split/leaks" in leaked)


def test_a_terminal_and_none() -> None:
    folder = "outputs/a run/" + "x" * 90
    text = _print(RESULT | {"split/leaks": True}, folder)
    whole = [f"files:   {folder}", f"curves:  tensorboard --logdir '{folder}'"]  # to be copied
    assert text.splitlines()[-2:] == whole
    assert "\x1b" not in text and max(map(len, text.splitlines()[:-2])) <= 80
    assert "\x1b[1m" in _print(RESULT, force_terminal=True)
    out = io.TextIOWrapper(raw := io.BytesIO(), encoding="ascii")
    print_summary(RESULT, Path("x"), Console(file=out, width=80))
    out.flush()
    assert b"chance" in raw.getvalue()


def test_needs_neither_torch_nor_hydra() -> None:
    code = "import sys; import genoseq.report.summary; sys.exit(bool({'torch', 'hydra', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
