"""``genoseq.sweep`` reports on a folder and leaves no trace but its three files."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from sweep_folders import Fake, write


def sweep(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "genoseq.sweep", *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


def test_reports_and_writes_three_files_only(tmp_path: Path) -> None:
    name = "day,1=a"  # as a run's folder is named
    write(tmp_path / name, [Fake({"optimizer.lr": lr}, 1.9 + lr) for lr in (0.1, 0.01)])
    before = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    ended = sweep(tmp_path, f"dir={name}")
    assert ended.returncode == 0, ended.stderr
    after = {path.relative_to(tmp_path) for path in tmp_path.rglob("*")}
    assert after - before == {Path(name) / f"sweep.{kind}" for kind in ("csv", "json", "png")} and before <= after
    assert (tmp_path / name / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert f"files:   {name}\ncurves:  tensorboard --logdir {shlex.quote(name)}" in ended.stdout
    assert "\nBest on validation: lr=0.01, 1.9100 bits per base" in ended.stdout
    again = sweep(tmp_path, f"dir={name}")
    assert again.returncode == 0 and again.stdout == ended.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "genoseq: dir has no value and needs one: add dir=… to the command"),
        (("dir=empty",), "genoseq: the folder empty holds no run"),
    ],
)
def test_a_wrong_folder_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    (tmp_path / "empty").mkdir()
    ended = sweep(tmp_path, *arguments)
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith(sentence) and ended.stderr.count("\n") == 1
    assert list(tmp_path.rglob("*")) == [tmp_path / "empty"]


def test_torch_is_not_needed(tmp_path: Path) -> None:
    write(tmp_path / "s", [Fake({"seed": s}, 1.9) for s in (0, 1)])
    code = (
        "import sys; from genoseq.sweeps.table import write_sweep; write_sweep('s'); "
        "sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, timeout=120).returncode == 0
