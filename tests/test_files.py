"""Files are whole, plain and readable again."""

import json
import math
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genoseq.errors import UserError
from genoseq.files import read_metrics, read_objective, write_atomic, write_csv, write_json


def test_writes_text_and_bytes_that_others_may_read_and_makes_the_folder(tmp_path: Path) -> None:
    for name, content, held in (("b.txt", "G→C\n", "G→C\n".encode()), ("b.bin", b"\x00\r\n", b"\x00\r\n")):
        write_atomic(tmp_path / "a" / name, content)
        assert (tmp_path / "a" / name).read_bytes() == held
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["b.bin", "b.txt"]
    (tmp_path / "usual").write_text("")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "usual", tmp_path / "a" / "b.txt")}
    assert len(modes) == 1


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    write_atomic(path, "old")

    def half(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new and longer")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_plain_ordered_and_valid(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    cases = {
        "test/loss": (torch.tensor(1.5), 1.5),
        "b": (np.float64(0.1), 0.1),
        "n": (np.int64(7), 7),
        "nan": (math.nan, None),
        "inf": (np.float32("inf"), None),
        "yes": (True, True),
        "none": (None, None),
        "path": (Path("a/b"), str(Path("a/b"))),
        "list": ((1, [2.0, math.nan]), [1, [2.0, None]]),
        "array": (np.arange(2), [0, 1]),
        "name": ("σ", "σ"),
    }
    write_json(path, {key: value for key, (value, _) in cases.items()})
    text = path.read_text()
    assert text.startswith('{\n  "test/loss": 1.5,\n  "b": 0.1,\n  "n": 7,\n') and text.endswith("}\n") and "σ" in text
    assert list(json.loads(text).items()) == [(key, plain) for key, (_, plain) in cases.items()]
    with pytest.raises(TypeError, match="object has no plain form"):
        write_json(path, {"a": object()})
    assert path.read_text() == text


def test_csv_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    write_csv(path, [{"step": 1, "a,b": 0.1}, {"step": 2, "c": 1e-9}, {"step": 3, "a,b": None, "c": math.nan}])
    assert path.read_text().splitlines() == ['step,"a,b",c', "1,0.1,", "2,,1e-09", "3,,nan"]
    table = read_metrics(path)
    assert table == {"step": [1.0, 2.0, 3.0], "a,b": [0.1, None, None], "c": [None, 1e-9, None]}
    write_csv(path, [])
    assert read_metrics(path) == {}


@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_csv_keeps_every_bit(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    path = tmp_path_factory.getbasetemp() / "bits.csv"
    write_csv(path, [{"x": value} for value in values])
    assert read_metrics(path)["x"] == values


def test_bad_tables(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("step,a,b\n1,2,3\n2,4")  # cut short by a full disk
    assert read_metrics(path) == {"step": [1.0, 2.0], "a": [2.0, 4.0], "b": [3.0, None]}
    for line, wrong in (("2,x,1", "'x'"), ("2,1,1,1", "line 3")):
        path.write_text(f"step,a,b\n1,2,3\n{line}\n")
        with pytest.raises(UserError, match=rf"m\.csv .*{wrong}"):
            read_metrics(path)
    with pytest.raises(UserError, match=r"no .*gone\.csv"):
        read_metrics(tmp_path / "gone.csv")


@pytest.mark.parametrize(
    ("text", "value"),
    [('{"val/bits_per_base": 1.9}', 1.9), ('{"val/bits_per_base": null}', None), ("[]", None), ("{", None)],
)
def test_objective(tmp_path: Path, text: str, value: float | None) -> None:
    assert read_objective(tmp_path) is None
    (tmp_path / "result.json").write_text(text)
    assert read_objective(tmp_path) == value
