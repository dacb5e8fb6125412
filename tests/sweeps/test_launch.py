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

import fake_slurm
import pytest
import yaml
from stub_jobs import GENOME, gone

from genoseq.sweeps import slurm
from genoseq.sweeps.jobs import read_record

pytestmark = pytest.mark.slow
Launch = Callable[..., Any]


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the metrics of every run that has a result, by name."""
    return {
        file.parent.name: {k: v for k, v in json.loads(file.read_text()).items() if k.startswith(("val/", "test/"))}
        for file in folder.glob("*/result.json")
    }


def states(folder: Path) -> dict[str, str]:
    return {job["name"]: job["state"] for job in read_record(folder)["jobs"]}


@pytest.fixture(scope="module")
def whole(launch: Launch, tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Launch, str]:
    """A sweep of two runs, how to launch it again, and what it printed; its configs are a copy at another place."""
    place = tmp_path_factory.mktemp("whole")
    shutil.copytree(Path(__file__).parents[2] / "conf", place / "conf")
    optimizer = place / "conf" / "optimizer" / "mine.yaml"
    optimizer.write_text("_target_: torch.optim.Adam\n_partial_: true\nlr: 0.003\nweight_decay: 0.01\n")

    def again(*overrides: str) -> Any:
        return launch(place / "sweep", "--config-path", str(place / "conf"), "optimizer=mine", *overrides)

    done = again(*tiny, "optimizer.lr=0.01,0.001")
    assert done.code == 0, done.err
    return place / "sweep", again, done.out


def test_every_job_has_a_folder_named_after_it_and_the_sweeps_configs(whole: tuple[Path, Launch, str]) -> None:
    folder, _, out = whole
    assert {"lr=0.01": "done", "lr=0.001": "done"}.items() <= states(folder).items()
    for name in ("lr=0.01", "lr=0.001"):
        config = yaml.safe_load((folder / name / ".hydra" / "config.yaml").read_text())
        assert f"lr={config['optimizer']['lr']}" == name and config["optimizer"]["_target_"] == "torch.optim.Adam"
        assert "frozen test" in (folder / name / "output.log").read_text()
    assert all((folder / name).is_file() for name in ("sweep.csv", "sweep.png", "jobs.json"))
    assert "2 jobs in" in out and "[2/2] done" in out


def test_it_is_repeated_for_nothing_refused_replicated_and_grows(
    whole: tuple[Path, Launch, str], tiny: tuple[str, ...]
) -> None:
    folder, launch, _ = whole
    before = {file: file.stat().st_mtime_ns for file in folder.glob("*/*")}
    again = launch(*tiny, "optimizer.lr=0.01,0.001")
    assert again.code == 0 and "2 finished before" in again.out
    other = launch(*tiny, "optimizer.lr=0.01,0.001", "trainer.max_steps=5")
    assert other.code == 2 and "trainer.max_steps=4" in other.err and "Traceback" not in other.err
    assert {file: file.stat().st_mtime_ns for file in folder.glob("*/*")} == before
    seeds = launch("hparams_search=replicate", "hydra.sweeper.best=1", "hydra.sweeper.seeds=[7]")
    assert seeds.code == 0, seeds.err + seeds.out
    (new,) = folder.glob("*seed=7/result.json")
    assert json.loads(new.read_text())["seed"] == 7
    more = launch(*tiny, "optimizer.lr=0.01,0.001,3e37")  # one that fails stops nobody
    assert more.code == 1 and "3 jobs in" in more.out and "2 finished before" in more.out
    assert "training has diverged: the train loss is nan" in more.out and "Traceback" not in more.err
    assert states(folder)["lr=3e+37"] == "failed" and len(results(folder)) == 3


def test_evaluate_sweeps_over_checkpoints(whole: tuple[Path, Launch, str], launch: Launch, tmp_path: Path) -> None:
    ckpts = ",".join(f"'{whole[0] / name / 'checkpoints' / 'best.ckpt'}'" for name in ("lr=0.01", "lr=0.001"))
    done = launch(tmp_path / "sweep", f"ckpt={ckpts}", "baseline=false", "trainer.accelerator=cpu", command="evaluate")
    assert done.code == 0, done.out + done.err
    assert len(list(tmp_path.glob("sweep/*/evaluation.json"))) == 2


@pytest.mark.parametrize("override", ["model=nope", "optimizer.lr=0.1,"])
def test_a_wrong_override_fails_before_anything_starts(
    override: str, launch: Launch, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    done = launch(tmp_path / "sweep", *tiny, "seed=0,1", override)
    assert done.code == 1 and not list(tmp_path.glob("sweep/*/*"))


@contextmanager
def under_way(arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Start a sweep that takes SIGINT, as in a terminal; it ends with the block."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
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


def wait_for(found: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not found():
        assert time.monotonic() < end and process.poll() is None, "the sweep ended before it could be disturbed"
        time.sleep(0.05)


def children(pid: int) -> dict[str, int]:
    """Return the process of each running job, by the name of the folder that it writes its output to."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    logs = {int(child): os.path.realpath(f"/proc/{child}/fd/1") for child in found}
    return {Path(log).parent.name: child for child, log in logs.items() if log.endswith("output.log")}


LONG = ("trainer.max_steps=300", "trainer.val_every=20", "data.seq_len=16,48", "hydra.launcher.n_jobs=2")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has gone")
def test_killed_stopped_and_resumed_gives_what_never_stopping_gives(
    launch: Launch, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    straight, folder = tmp_path / "straight", tmp_path / "sweep"
    words = [*[w for w in tiny if w.split("=")[0] not in str(LONG)], *LONG, f"data.genome={GENOME}"]
    with under_way(["-m", "genoseq.train", "-m", *words, f"sweep.dir={folder}"]) as process:
        wait_for(lambda: (folder / "seq_len=48" / "checkpoints" / "last.ckpt").exists(), process)
        os.kill(children(process.pid)["seq_len=48"], signal.SIGKILL)
        wait_for(lambda: states(folder)["seq_len=48"] == "failed", process)
        wait_for(lambda: (folder / "seq_len=16" / "checkpoints" / "last.ckpt").exists(), process)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130, out
    assert states(folder) == {"seq_len=16": "stopped", "seq_len=48": "failed"} and "SIGKILL" in out
    again = shlex.split(out.rsplit("Resume with: ", 1)[1].strip().splitlines()[0])
    with under_way(again[1:]) as process:
        wait_for(lambda: len(children(process.pid)) == 2, process)
        jobs = children(process.pid).values()
        busy = launch(folder, *words)
        assert busy.code == 2 and "another process runs the sweep" in busy.err
        process.kill()
        assert all(gone(pid) for pid in jobs), "a job went on alone"
    assert not results(folder)
    resumed = launch(folder, *words)
    assert resumed.code == 0 and "2 resumed from checkpoints" in resumed.out, resumed.out + resumed.err
    assert launch(straight, *words).code == 0
    assert results(folder) == results(straight) and len(results(folder)) == len(list(folder.glob("seq_len=*"))) == 2


def test_ddp_ranks_have_one_setting_whoever_starts_them(
    launch: Launch, tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    fake_slurm.install(tmp_path / "slurm", monkeypatch)
    monkeypatch.setattr(slurm, "_POLL", 0.1)
    words = [*[word for word in tiny if word != "trainer=cpu"], "trainer=ddp_cpu", "data.carry_tokens=64", "seed=0"]
    for launcher in ("local_pool", "submitit_slurm"):  # Lightning starts the ranks, SLURM does
        done = launch(tmp_path / launcher, f"hydra/launcher={launcher}", *words)
        assert done.code == 0, done.out + done.err
    # a rank with other settings would pull the average elsewhere
    assert results(tmp_path / "local_pool") == results(tmp_path / "submitit_slurm") != {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["local_pool", "slurm", "submitit_slurm"]
