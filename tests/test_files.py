"""Files are whole, plain and readable again."""

import json
import math
import stat
from pathlib import Path

import numpy as np
import pytest
import torch

from genoseq.errors import UserError
from genoseq.files import read_metrics, write_atomic, write_csv, write_json


def test_writes_text_and_bytes_and_makes_the_folder(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "b.txt", "G→C\n")
    write_atomic(tmp_path / "a" / "b.bin", b"\x00\r\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "G→C\n".encode()
    assert (tmp_path / "a" / "b.bin").read_bytes() == b"\x00\r\n"
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["b.bin", "b.txt"]


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


def test_others_may_read_the_file(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    write_atomic(tmp_path / "ours", "")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_json_is_plain_ordered_and_valid(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    obj = {
        "test/loss": torch.tensor(1.5),
        "b": np.float64(0.1),
        "n": np.int64(7),
        "nan": math.nan,
        "inf": np.float32("inf"),
        "yes": True,
        "none": None,
        "path": Path("a/b"),
        "list": (1, [2.0, math.nan]),
        "array": np.arange(2),
        "name": "σ",
    }
    write_json(path, obj)
    text = path.read_text()
    assert text.startswith('{\n  "test/loss": 1.5,\n  "b": 0.1,\n  "n": 7,\n') and text.endswith("}\n")
    assert "σ" in text and "NaN" not in text
    assert list(json.loads(text)) == list(obj)
    assert json.loads(text) | {} == {
        "test/loss": 1.5,
        "b": 0.1,
        "n": 7,
        "nan": None,
        "inf": None,
        "yes": True,
        "none": None,
        "path": str(Path("a/b")),
        "list": [1, [2.0, None]],
        "array": [0, 1],
        "name": "σ",
    }


def test_json_refuses_what_has_no_plain_form_and_keeps_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "r.json", {"a": 1})
    with pytest.raises(TypeError, match="object has no plain form"):
        write_json(tmp_path / "r.json", {"a": object()})
    assert json.loads((tmp_path / "r.json").read_text()) == {"a": 1}


def test_csv_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    write_csv(path, [{"step": 1, "a,b": 0.1}, {"step": 2, "c": 1e-9}, {"step": 3, "a,b": None, "c": math.nan}])
    assert path.read_text().splitlines() == ['step,"a,b",c', "1,0.1,", "2,,1e-09", "3,,nan"]
    columns = read_metrics(path)
    assert columns["step"] == [1.0, 2.0, 3.0]
    assert columns["a,b"] == [0.1, None, None]
    assert columns["c"][:2] == [None, 1e-9] and math.isnan(columns["c"][2] or 0)


def test_csv_without_rows(tmp_path: Path) -> None:
    write_csv(tmp_path / "m.csv", [])
    assert read_metrics(tmp_path / "m.csv") == {}


def test_a_line_cut_short_lacks_its_last_cells(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("step,a,b\n1,2,3\n2,4")
    assert read_metrics(tmp_path / "m.csv") == {"step": [1.0, 2.0], "a": [2.0, 4.0], "b": [3.0, None]}


@pytest.mark.parametrize("line", ["2,x,1", "2,1,1,1"])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "m.csv").write_text(f"step,a,b\n1,2,3\n{line}\n")
    with pytest.raises(UserError, match=r"m\.csv, line 3"):
        read_metrics(tmp_path / "m.csv")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no .*gone\.csv"):
        read_metrics(tmp_path / "gone.csv")
