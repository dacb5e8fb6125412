"""Every study under experiments/: its quick version runs, and its page says what its make target does."""

import csv
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
STUDIES = sorted(path.parent.name for path in (ROOT / "experiments").glob("*/README.md"))


def commands(study: str, *variables: str) -> list[str]:
    """Return what ``make study-…`` would run."""
    words = ["make", "-n", "--no-print-directory", f"study-{study}", f"BIN={Path(sys.executable).parent}"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}  # these tests may run under make
    with tempfile.NamedTemporaryFile() as installed:  # newer than what make would install anew for
        words += [f"DONE={installed.name}", *variables]
        done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_the_quick_version_runs(study: str, tmp_path: Path) -> None:
    for command in commands(study, "QUICK=1", f"OUT={tmp_path}"):
        done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, command + done.stdout + done.stderr
    name = "sweep" if study == "sweep" else "results"
    rows = list(csv.DictReader((tmp_path / f"quick-{study}" / f"{name}.csv").open()))
    assert len(rows) >= 2
    assert (tmp_path / f"quick-{study}" / ("sweep.png" if study == "sweep" else "figure.png")).stat().st_size > 10_000


@pytest.mark.parametrize("study", STUDIES)
def test_the_page_says_what_the_target_runs(study: str) -> None:
    page = (ROOT / "experiments" / study / "README.md").read_text()
    told = [shlex.split(line) for block in re.findall(r"```bash\n(.*?)```", page, re.S) for line in block.splitlines()]
    runs = [shlex.split(line) for line in commands(study)]
    ours = [["python", *words[1:]] for words in runs if words[0].endswith("python")]
    assert all(words in told for words in ours), (ours, told)


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_has_its_numbers_and_its_picture(study: str) -> None:
    folder = ROOT / "experiments" / study
    page = (folder / "README.md").read_text()
    assert "TODO" not in page and (folder / "results.csv").is_file()
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page)
    assert pictures and all((folder / picture).is_file() for picture in pictures)
