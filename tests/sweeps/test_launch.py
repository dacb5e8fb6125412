"""Sweeps from the command line: real runs of a few steps on this machine."""

import json
import os
import shlex
import shutil
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

from genoseq.sweeps.jobs import read_record

pytestmark = pytest.mark.slow
Launch = Callable[..., subprocess.CompletedProcess[str]]
Command = Callable[..., list[str]]


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the metrics of every run that has a result, by name."""
    return {
        file.parent.name: {k: v for k, v in json.loads(file.read_text()).items() if k.startswith(("val/", "test/"))}
        for file in folder.glob("*/result.json")
    }


def states(folder: Path) -> dict[str, str]:
    return {job["name"]: job["state"] for job in read_record(folder)["jobs"]}


@contextmanager
def under_way(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Start a sweep that takes SIGINT, as in a terminal; it ends with the block."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
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


def children(pid: int) -> dict[str, int]:
    """Return the process of each running job, by the name of its folder."""
    found = subprocess.run(["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return {
        row.split("hydra.run.dir='")[1].split("'")[0].rsplit("/", 1)[1]: int(row.split()[0])
        for row in found.splitlines()
        if "hydra.run.dir=" in row
    }


SPACE = ("optimizer.lr=0.01,0.001",)


def own_configs(place: Path) -> tuple[str, ...]:
    return ("--config-path", str(place / "conf"), "optimizer=mine")


@pytest.fixture(scope="module")
def whole(launch: Launch, tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A sweep of two runs, and what it printed; its configs are a copy at another place."""
    place = tmp_path_factory.mktemp("whole")
    shutil.copytree(Path(__file__).parents[2] / "conf", place / "conf")
    optimizer = place / "conf" / "optimizer" / "mine.yaml"
    optimizer.write_text("_target_: torch.optim.Adam\n_partial_: true\nlr: 0.003\n")
    done = launch(place / "sweep", *own_configs(place), *tiny, *SPACE)
    assert done.returncode == 0, done.stderr
    return place / "sweep", done.stdout


def test_every_job_has_a_folder_named_after_it_and_the_sweeps_configs(whole: tuple[Path, str]) -> None:
    folder, out = whole
    assert set(results(folder)) == {"lr=0.01", "lr=0.001"} and set(states(folder).values()) == {"done"}
    for name in results(folder):
        config = yaml.safe_load((folder / name / ".hydra" / "config.yaml").read_text())
        assert f"lr={config['optimizer']['lr']}" == name and config["optimizer"]["_target_"] == "torch.optim.Adam"
        assert "frozen test" in (folder / name / "output.log").read_text()
    assert all((folder / name).is_file() for name in ("sweep.csv", "sweep.png", "jobs.json"))
    assert "2 jobs in" in out and "[2/2] done" in out


def test_the_same_command_runs_nothing_and_other_settings_are_refused(
    whole: tuple[Path, str], launch: Launch, tiny: tuple[str, ...]
) -> None:
    folder, _ = whole
    before = {file: file.stat().st_mtime_ns for file in folder.glob("*/*")}
    again = launch(folder, *own_configs(folder.parent), *tiny, *SPACE)
    assert again.returncode == 0 and "2 finished before" in again.stdout
    other = launch(folder, *own_configs(folder.parent), *tiny, *SPACE, "trainer.max_steps=5")
    assert other.returncode == 2 and "trainer.max_steps=4" in other.stderr and "Traceback" not in other.stderr
    assert {file: file.stat().st_mtime_ns for file in folder.glob("*/*")} == before


def test_a_sweep_grows_and_its_best_runs_again(
    whole: tuple[Path, str], launch: Launch, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    mine, folder = own_configs(whole[0].parent), shutil.copytree(whole[0], tmp_path / "sweep")
    more = launch(folder, *mine, *tiny, "optimizer.lr=0.01,0.001,0.003")
    assert more.returncode == 0 and "3 jobs in" in more.stdout and "2 finished before" in more.stdout, more.stderr
    seeds = launch(folder, *mine, "hparams_search=replicate", "hydra.sweeper.best=1", "hydra.sweeper.seeds=[7]")
    assert seeds.returncode == 0, seeds.stderr + seeds.stdout
    (new,) = folder.glob("*seed=7/result.json")
    assert json.loads(new.read_text())["seed"] == 7 and len(results(folder)) == 4


def test_evaluate_sweeps_over_checkpoints(whole: tuple[Path, str], launch: Launch, tmp_path: Path) -> None:
    ckpts = ",".join(f"'{whole[0] / name / 'checkpoints' / 'best.ckpt'}'" for name in ("lr=0.01", "lr=0.001"))
    words = (f"ckpt={ckpts}", "baseline=false", "trainer.accelerator=cpu")
    done = launch(tmp_path / "sweep", *words, command="evaluate")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.glob("sweep/*/evaluation.json"))) == 2


@pytest.mark.parametrize("override", ["model=nope", "optimizer.lr=0.1,"])
def test_a_wrong_override_fails_before_anything_starts(
    override: str, launch: Launch, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    done = launch(tmp_path / "sweep", *tiny, "seed=0,1", override)
    assert done.returncode == 1 and not list(tmp_path.glob("sweep/*/*"))


def test_one_that_fails_is_named_and_stops_nobody(launch: Launch, tiny: tuple[str, ...], tmp_path: Path) -> None:
    done = launch(tmp_path / "sweep", *tiny, "trainer.max_steps=40", "optimizer.lr=1e30,0.01")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert states(tmp_path / "sweep") == {"lr=1e+30": "failed", "lr=0.01": "done"}
    assert "training has diverged: the train loss is nan" in done.stdout
    assert len(results(tmp_path / "sweep")) == 1


LONG = ("trainer.max_steps=300", "trainer.val_every=50", "trainer.log_every_n_steps=10", "data.seq_len=16,32,48")


def test_killed_stopped_and_resumed_gives_what_never_stopping_gives(
    launch: Launch, command: Command, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    straight, folder = tmp_path / "straight", tmp_path / "sweep"
    words = ["hydra.launcher.n_jobs=2", *[w for w in tiny if w.split("=")[0] not in str(LONG)], *LONG]
    assert launch(straight, *words).returncode == 0
    with under_way(command(folder, *words)) as process:
        wait_for(lambda: (folder / "seq_len=48" / "checkpoints" / "last.ckpt").exists(), process)
        os.kill(children(process.pid)["seq_len=48"], signal.SIGKILL)  # the first to begin; the third takes its place
        wait_for(lambda: (folder / "seq_len=16" / "metrics.csv").exists(), process)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert states(folder)["seq_len=48"] == "failed" and "SIGKILL" in out
    again = shlex.split(out.rsplit("Resume with: ", 1)[1].strip().splitlines()[0])
    resumed = subprocess.run([sys.executable, *again[1:]], capture_output=True, text=True, timeout=300)
    assert resumed.returncode == 0 and "resumed from checkpoints" in resumed.stdout, resumed.stdout + resumed.stderr
    assert results(folder) == results(straight) and len(results(folder)) == len(list(folder.glob("seq_len=*"))) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has gone")
def test_jobs_end_when_the_launcher_is_killed(
    launch: Launch, command: Command, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    words = [*tiny, "trainer.val_every=50", "trainer.max_steps=100000", "seed=0,1", "hydra.launcher.n_jobs=1"]
    with under_way(command(folder, *words)) as process:
        wait_for(lambda: (folder / "seed=0" / "checkpoints" / "last.ckpt").exists(), process)
        (job,) = children(process.pid).values()
        busy = launch(folder, *words)
        assert busy.returncode == 2 and "another process runs the sweep" in busy.stderr
        process.kill()
    for _ in range(300):
        if "Stopped at step" in (folder / "seed=0" / "output.log").read_text():
            break
        time.sleep(0.1)
    else:
        os.kill(job, signal.SIGKILL)
        pytest.fail("the job went on alone")


def test_ddp_jobs_have_one_setting_on_all_ranks(
    launch: Launch, command: Command, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    words = [word for word in tiny if word != "trainer=cpu"]
    done = launch(tmp_path / "sweep", *words, "trainer=ddp_cpu", "optimizer.lr=0.01,0.001")
    assert done.returncode == 0, done.stdout + done.stderr
    # a rank with other settings would pull the average elsewhere: the metrics are those of the run by itself
    alone = command(tmp_path, *words, "trainer=ddp_cpu", "optimizer.lr=0.01", f"hydra.run.dir={tmp_path / 'alone/run'}")
    alone.remove("-m") if alone.count("-m") == 1 else alone.pop(3)
    subprocess.run(alone, check=True, capture_output=True, timeout=120)
    assert results(tmp_path / "alone")["run"] == results(tmp_path / "sweep")["lr=0.01"]
    assert len(list((tmp_path / "sweep").glob("*/"))) == 2
