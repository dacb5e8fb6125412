"""Sweeps from the command line, on this machine's cores: real runs of a few steps."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

FILES = Path(__file__).parent.parent / "data" / "files"
GENOME = f"data.genome={FILES / 'hpylori_softmasked.fa'}"
pytestmark = pytest.mark.slow


def line(tiny: tuple[str, ...], *words: str, verb: str = "train") -> list[str]:
    given = {word.split("=")[0] for word in words}
    settings = [word for word in (*tiny, GENOME) if verb == "train" and word.split("=")[0] not in given]
    return [sys.executable, "-m", f"genoseq.{verb}", "-m", *settings, *words]


def launch(folder: Path, tiny: tuple[str, ...], *words: str, verb: str = "train") -> subprocess.CompletedProcess[str]:
    command = [*line(tiny, *words, verb=verb), f"sweep.dir={folder}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder.parent)


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the figures of every run that has a result, by name."""
    return {
        file.parent.name: {k: v for k, v in json.loads(file.read_text()).items() if k.startswith(("val/", "test/"))}
        for file in folder.glob("*/result.json")
    }


def states(folder: Path) -> dict[str, str]:
    return {job["name"]: job["state"] for job in json.loads((folder / "jobs.json").read_text())["jobs"]}


@contextmanager
def under_way(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Start a sweep; whatever goes wrong in the test, it does not go on."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(found: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end and process.poll() is None, "the sweep ended before it could be disturbed"
        time.sleep(0.05)


SPACE = ("data.seq_len=16,32", "optimizer.lr=0.01,0.001")
NAMES = {f"seq_len={s},lr={r}" for s in (16, 32) for r in (0.01, 0.001)}


@pytest.fixture(scope="module")
def whole(tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A sweep of four runs, and what it printed."""
    folder = tmp_path_factory.mktemp("whole") / "sweep"
    done = launch(folder, tiny, *SPACE)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_every_job_has_a_folder_named_after_it(whole: tuple[Path, str]) -> None:
    folder, out = whole
    assert set(results(folder)) == NAMES and set(states(folder).values()) == {"done"}
    for name in NAMES:
        config = yaml.safe_load((folder / name / ".hydra" / "config.yaml").read_text())
        assert f"seq_len={config['data']['seq_len']},lr={config['optimizer']['lr']}" == name
        assert "model, frozen test" in (folder / name / "output.log").read_text()
    assert all((folder / name).is_file() for name in ("sweep.csv", "sweep.json", "sweep.png", "jobs.json"))
    assert "4 job(s) in" in out and "[4/4] done" in out
    assert json.loads((folder / "sweep.json").read_text())["best"]


def test_the_same_command_again_runs_nothing(whole: tuple[Path, str], tiny: tuple[str, ...]) -> None:
    folder, _ = whole
    before = {file: file.stat().st_mtime_ns for file in folder.glob("*/*")}
    again = launch(folder, tiny, *SPACE)
    assert again.returncode == 0 and "4 finished before" in again.stdout
    assert {file: file.stat().st_mtime_ns for file in folder.glob("*/*")} == before


def test_a_sweep_grows_and_its_best_runs_again(whole: tuple[Path, str], tiny: tuple[str, ...]) -> None:
    folder, _ = whole
    more = launch(folder, tiny, "data.seq_len=16,32", "optimizer.lr=0.01,0.001,0.003")
    assert more.returncode == 0 and "6 job(s) in" in more.stdout and "4 finished before" in more.stdout
    assert len(results(folder)) == 6
    # what another test expects of the folder holds still: the first four are as they were
    seeds = launch(folder, (), "sweep=replicate", "hydra.sweeper.best=2", "hydra.sweeper.seeds=[0,7]")
    assert seeds.returncode == 0, seeds.stderr + seeds.stdout
    ranked = json.loads((folder / "sweep.json").read_text())["settings"]
    assert sorted(group["seeds"] for group in ranked) == [1, 1, 1, 1, 2, 2]  # seed 0 is the seed they had
    new = [name for name in results(folder) if "seed=7" in name]
    assert len(new) == 2
    assert json.loads((folder / new[0] / "result.json").read_text())["seed"] == 7


def test_other_settings_in_its_folder_are_refused(whole: tuple[Path, str], tiny: tuple[str, ...]) -> None:
    folder, _ = whole
    other = launch(folder, tiny, *SPACE, "trainer.max_steps=5")
    assert other.returncode == 2 and "holds a run with trainer.max_steps=4" in other.stderr
    assert "Traceback" not in other.stderr


@pytest.mark.parametrize("word", ["model=nope", "data.nope=1", "optimizer.lr=0.1,"])
def test_a_wrong_word_fails_before_anything_starts(word: str, tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = launch(tmp_path / "sweep", tiny, "data.seq_len=16,32", word)
    assert done.returncode == 1 and not list(tmp_path.glob("sweep/*/*"))


def test_one_that_fails_is_told_and_stops_nobody(tiny: tuple[str, ...], tmp_path: Path) -> None:
    words = ("optimizer.lr=1e30,0.01", "data.seq_len=16,100000", "trainer.max_steps=40")
    done = launch(tmp_path / "sweep", tiny, *words)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert states(tmp_path / "sweep") == {
        "lr=1e+30,seq_len=16": "failed",
        "lr=1e+30,seq_len=100000": "failed",
        "lr=0.01,seq_len=16": "done",
        "lr=0.01,seq_len=100000": "failed",
    }
    assert "training has diverged: the train loss is nan" in done.stdout
    assert "lower data.seq_len" in done.stdout
    assert len(results(tmp_path / "sweep")) == 1


LONG = ("trainer.max_steps=1500", "trainer.val_every=100", "trainer.log_every_n_steps=10", "data.seq_len=16,32,48")


def test_killed_stopped_and_resumed_gives_what_never_stopping_gives(tiny: tuple[str, ...], tmp_path: Path) -> None:
    straight, folder = tmp_path / "straight", tmp_path / "sweep"
    assert launch(straight, tiny, *LONG, "hydra.launcher.n_jobs=2").returncode == 0
    command = [*line(tiny, *LONG, "hydra.launcher.n_jobs=2"), f"sweep.dir={folder}"]
    with under_way(command) as process:
        wait_for(lambda: (folder / "seq_len=48" / "checkpoints" / "last.ckpt").exists(), process)
        os.kill(children(process.pid)["seq_len=48"], signal.SIGKILL)  # the first to begin; the third takes its place
        wait_for(lambda: (folder / "seq_len=16" / "metrics.csv").exists(), process)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert states(folder)["seq_len=48"] == "failed" and "SIGKILL" in out
    assert "Go on with: python -m genoseq.train -m" in out
    again = shlex.split(out.rsplit("Go on with: ", 1)[1].strip().splitlines()[0])
    resumed = subprocess.run([sys.executable, *again[1:]], capture_output=True, text=True, timeout=300)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert results(folder) == results(straight) and len(results(folder)) == 3
    assert len(list(folder.glob("seq_len=*"))) == 3


def children(pid: int) -> dict[str, int]:
    """Return the process of each running job, by the name of its folder."""
    found = subprocess.run(["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return {
        row.split("hydra.run.dir='")[1].split("'")[0].rsplit("/", 1)[1]: int(row.split()[0])
        for row in found.splitlines()
        if "hydra.run.dir=" in row
    }


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has gone")
def test_jobs_end_when_the_launcher_is_killed(tiny: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    words = ("trainer.max_steps=100000", "trainer.val_every=100", "data.seq_len=16,32", "hydra.launcher.n_jobs=1")
    with under_way([*line(tiny, *words), f"sweep.dir={folder}"]) as process:
        wait_for(lambda: (folder / "seq_len=32" / "checkpoints" / "last.ckpt").exists(), process)
        (job,) = children(process.pid).values()
        busy = launch(folder, tiny, *words)
        assert busy.returncode == 2 and "another process works on the sweep" in busy.stderr
        process.kill()
    for _ in range(300):
        if "Stopped at step" in (folder / "seq_len=32" / "output.log").read_text():
            break
        time.sleep(0.1)
    else:
        os.kill(job, signal.SIGKILL)
        pytest.fail("the job went on alone")


def test_ddp_jobs_have_one_setting_on_all_ranks(tiny: tuple[str, ...], tmp_path: Path) -> None:
    words = [word for word in tiny if word != "trainer=cpu"]
    done = launch(tmp_path / "sweep", tuple(words), "trainer=ddp_cpu", "optimizer.lr=0.01,0.001")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(results(tmp_path / "sweep")) == {"lr=0.01", "lr=0.001"}
    # a rank with other settings would pull the average elsewhere: the figures are those of the run by itself
    alone = line(tuple(words), "trainer=ddp_cpu", "optimizer.lr=0.01", f"hydra.run.dir={tmp_path / 'alone' / 'run'}")
    assert alone.pop(3) == "-m"
    subprocess.run(alone, check=True, capture_output=True, timeout=120)
    assert results(tmp_path / "alone")["run"] == results(tmp_path / "sweep")["lr=0.01"]
    assert len(list((tmp_path / "sweep").glob("*/"))) == 2


def test_evaluate_sweeps_over_checkpoints(whole: tuple[Path, str], tiny: tuple[str, ...], tmp_path: Path) -> None:
    folder, _ = whole
    ckpts = ",".join(f"'{folder / name / 'checkpoints' / 'best.ckpt'}'" for name in sorted(NAMES)[:2])
    done = launch(
        tmp_path / "sweep", tiny, f"ckpt={ckpts}", "baseline=false", "trainer.accelerator=cpu", verb="evaluate"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.glob("sweep/*/evaluation.json"))) == 2
