"""Jobs through submitit: on this machine, and through SLURM's commands as a stand-in plays them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import fake_slurm
import pytest
from omegaconf import OmegaConf

from genoseq.errors import UserError
from genoseq.sweeps.jobs import Job
from genoseq.sweeps.record import Record
from genoseq.sweeps.slurm import Shape, SubmititSlurm
from genoseq.sweeps.submitit_local import SubmititLocal

pytest.importorskip("submitit")
pytestmark = pytest.mark.slow
GENOME = Path(__file__).parents[1] / "data" / "files" / "hpylori_start.txt"

# a job that saves when it is told to, goes on from that, and says how it was started
BEGIN = """
import json, os, pathlib, signal, sys, time
from genoseq.app.runtime import exit_with_parent
folder, rank = pathlib.Path(FOLDER), os.environ.get("RANK", "0")
last = folder / "checkpoints" / "last.ckpt"
def save(*_):
    if rank == "0":
        last.parent.mkdir(exist_ok=True)
        last.touch()
    sys.exit(143 if rank == "0" else 130)
signal.signal(signal.SIGTERM, save)
exit_with_parent()
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
seen = {"argv": sys.argv[1:], **{name: os.environ.get(name) for name in names}}
(folder / f"seen{rank}.json").write_text(json.dumps(seen))
def done():
    if rank == "0":
        (folder / "result.json").write_text(json.dumps(seen))
"""
ON_AND_ON = "time.sleep(0 if len(sys.argv) > 1 else 40); done()"  # until it is told to save


def make_job(sweep: Path, num: int, script: str) -> Job:
    folder = sweep / f"job{num}"
    return Job(num, folder.name, folder, [], [sys.executable, "-c", f"FOLDER = {str(folder)!r}\n{BEGIN}\n{script}"])


def seen(job: Job, rank: int = 0) -> dict:
    return json.loads((job.folder / f"seen{rank}.json").read_text())


def given(launcher: SubmititSlurm, sweep: Path) -> SubmititSlurm:
    launcher.config = OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}})
    return launcher


def run(launcher: SubmititSlurm, sweep: Path, jobs: list[Job], **trainer: object) -> int | None:
    config = OmegaConf.create({"trainer": {"accelerator": "cpu", "devices": 1, **trainer}})
    return given(launcher, sweep).execute(jobs, [config] * len(jobs), Record(sweep, "train", []))


def when(found: Callable[[], bool], then: Callable[[], None]) -> None:
    """Do something beside the launcher, as soon as something else has happened."""

    def wait() -> None:
        until = time.monotonic() + 60
        while not found() and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(0.3)  # what was seen is written just before the job is ready
        then()

    threading.Thread(target=wait).start()


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = fake_slurm.install(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    from submitit.slurm.slurm import SlurmJob

    SlurmJob.watcher.clear()  # another test's job had the same number
    return folder


def test_what_slurm_is_asked_for(slurm: Path, tmp_path: Path) -> None:
    launcher = SubmititSlurm(partition="gpu", account="me", mem_gb=32, setup=["module load x"], extra={"nice": 5})
    executor = given(launcher, tmp_path / "sweep").executor(Shape(nodes=2, tasks=4, gpus=4))
    text = executor._executor._make_submission_file_text("command", "id")
    for line in (
        *("nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "cpus-per-task=4", "mem=32GB", "time=240"),
        *("partition=gpu", "account=me", "signal=USR1@120", "nice=5", "open-mode=append"),
    ):
        assert f"#SBATCH --{line}\n" in text
    assert "qos" not in text and "constraint" not in text
    assert "export SUBMITIT_PREEMPT_SIGNAL=USR1\nmodule load x\n" in text
    assert "gpus" not in launcher.executor(Shape(1, 2, 0))._executor._make_submission_file_text("command", "id")


def test_a_job_asks_for_what_its_trainer_says() -> None:
    shape = SubmititSlurm().shape
    assert shape({"devices": 2, "num_nodes": 3, "accelerator": "gpu"}) == Shape(3, 2, 2)
    assert shape({"devices": 2, "accelerator": "cpu"}) == Shape(1, 2, 0)
    assert SubmititSlurm(devices_per_node=8).shape({"devices": "auto"}) == Shape(1, 8, 8)
    with pytest.raises(UserError, match="devices_per_node"):
        shape({"devices": "auto"})
    with pytest.raises(UserError, match=r"devices_per_node=4 and trainer\.devices=2"):
        SubmititSlurm(devices_per_node=4).shape({"devices": 2})
    with pytest.raises(UserError, match="one node"):
        SubmititLocal().shape({"devices": 2, "num_nodes": 2})


def test_an_array_of_jobs_one_of_them_failing(slurm: Path, tmp_path: Path) -> None:
    scripts = ("done()", "print('genoseq: no such genome'); sys.exit(2)", "done()")
    jobs = [make_job(tmp_path / "sweep", i, script) for i, script in enumerate(scripts)]
    assert run(SubmititSlurm(array_parallelism=2), tmp_path / "sweep", jobs) is None
    assert [job.state for job in jobs] == ["done", "failed", "done"] and jobs[1].why == "no such genome"
    assert "#SBATCH --array=0-2%2" in (slurm / "100.sh").read_text()
    assert seen(jobs[0])["RANK"] is None and jobs[0].attempts == 1


def test_a_job_whose_time_is_up_saves_and_queues_again(slurm: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path / "sweep", 0, ON_AND_ON)

    def time_is_up() -> None:
        for pid in fake_slurm.pids(slurm, "100"):
            os.kill(pid, signal.SIGUSR1)

    when(lambda: all((job.folder / f"seen{rank}.json").exists() for rank in (0, 1)), time_is_up)
    assert run(SubmititSlurm(), tmp_path / "sweep", [job], devices=2) is None
    assert job.state == "done" and job.attempts == 2
    ranks = [seen(job, rank) for rank in (0, 1)]
    assert [rank["RANK"] for rank in ranks] == [rank["LOCAL_RANK"] for rank in ranks] == ["0", "1"]
    assert ranks[0]["argv"] == ranks[1]["argv"] == [f"ckpt='{job.folder / 'checkpoints' / 'last.ckpt'}'"]
    assert ranks[0]["MASTER_PORT"] == ranks[1]["MASTER_PORT"] and ranks[0]["WORLD_SIZE"] == "2"
    starts = sorted(file.name for file in (tmp_path / "sweep" / ".submitit" / "100").glob("start-*"))
    assert starts == ["start-000-000.json", "start-001-001.json"]


def test_a_job_may_run_out_of_time_so_often_only(tmp_path: Path) -> None:
    job = make_job(tmp_path, 0, "(folder / 'worker').write_text(str(os.getppid()))\ntime.sleep(40); done()")
    when((job.folder / "worker").exists, lambda: os.kill(int((job.folder / "worker").read_text()), signal.SIGUSR1))
    run(SubmititLocal(max_num_timeout=0, timeout_min=1), tmp_path, [job])
    assert job.state == "failed" and "timed-out too many times" in job.why
    assert job.resume  # what it saved is there to go on from


def test_jobs_that_outlived_their_command_are_followed(slurm: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    script = "(folder / 'began').touch(); time.sleep(2); done()"
    job = make_job(sweep, 0, script)
    first = given(SubmititSlurm(), sweep)
    first.begin([job], [OmegaConf.create({"trainer": {"accelerator": "cpu"}})])
    first.submit([job])  # and this command ends
    again = make_job(sweep, 0, script)
    run(SubmititSlurm(), sweep, [again])
    assert again.state == "done" and len(list(slurm.glob("*.sh"))) == 1


@pytest.mark.parametrize("kind", [SubmititSlurm, SubmititLocal])
def test_a_stop_saves(kind: type[SubmititSlurm], slurm: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    jobs = [make_job(sweep, i, ON_AND_ON) for i in range(2)]
    when(lambda: bool(list(sweep.glob("*/seen0.json"))), lambda: os.kill(os.getpid(), signal.SIGINT))
    assert run(kind(array_parallelism=1), sweep, jobs) == signal.SIGINT
    assert "stopped" in {job.state for job in jobs} <= {"stopped", "waiting"}
    if kind is SubmititSlurm:
        assert '["--state=PENDING", "100_' in (slurm / "scancel.log").read_text()
    again = [make_job(sweep, i, ON_AND_ON.replace("40", "0")) for i in range(2)]
    assert run(kind(array_parallelism=1), sweep, again) is None
    assert {job.state for job in again} == {"done"} and any(seen(job)["argv"] for job in again)


@pytest.mark.parametrize("launcher", ["submitit_local", "submitit_slurm"])
def test_two_ranks_train_as_one(launcher: str, slurm: Path, tmp_path: Path, tiny: tuple[str, ...]) -> None:
    words = ["-m", f"hydra/launcher={launcher}", "sweep.dir=sweep", *tiny, "trainer=ddp_cpu", "data.carry_tokens=64"]
    words += [f"data.genome={GENOME}", "seed=0"]
    ended = subprocess.run(
        [sys.executable, "-m", "genoseq.train", *words], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (file,) = (tmp_path / "sweep").glob("*/result.json")
    assert json.loads(file.read_text())["train/steps"] == 4
    assert "seed: 0" in (file.parent / ".hydra" / "config.yaml").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slurm", "sweep"]
