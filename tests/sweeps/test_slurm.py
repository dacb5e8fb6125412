"""Jobs through submitit: what SLURM is asked for, ranks, requeues and jobs that outlive their command."""

import os
import pickle
import signal
import sys
from pathlib import Path

import fake_slurm
import pytest
from stub_jobs import UNTIL_SAVED, began, make_job, make_launcher, result, run, when

from genoseq.errors import UserError
from genoseq.sweeps import slurm as backend
from genoseq.sweeps.launcher import Ended
from genoseq.sweeps.slurm import Shape, Slurm, SubmititLocal
from hydra_plugins.genoseq import launchers

pytest.importorskip("submitit")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(backend, "_POLL", 0.1)
    monkeypatch.setattr(backend, "_QUEUE", 1.0)
    return fake_slurm.install(tmp_path / "slurm", monkeypatch)


def test_what_slurm_is_asked_for(slurm: Path, tmp_path: Path) -> None:
    options = {"partition": "gpu", "account": "me", "mem_gb": 32, "setup": ["module load x"]}
    asks = Slurm(tmp_path, extra={"nice": 5}, **options)  # type: ignore[arg-type]
    text = asks.executor(Shape(nodes=2, tasks=4, gpus=4))._executor._make_submission_file_text("command", "id")
    for line in (
        *("nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "cpus-per-task=4", "mem=32GB", "time=240"),
        *("partition=gpu", "account=me", "signal=USR1@120", "nice=5", "open-mode=append"),
    ):
        assert f"#SBATCH --{line}\n" in text
    assert "qos" not in text and "constraint" not in text
    assert "export SUBMITIT_PREEMPT_SIGNAL=USR1\nmodule load x\n" in text
    assert "gpus" not in asks.executor(Shape(1, 2, 0))._executor._make_submission_file_text("command", "id")


def test_a_job_asks_for_what_its_trainer_says(tmp_path: Path) -> None:
    shape = Slurm(tmp_path).shape
    assert shape({"devices": 2, "num_nodes": 3, "accelerator": "gpu"}) == Shape(3, 2, 2)
    assert shape({"devices": 2, "accelerator": "cpu"}) == Shape(1, 2, 0)
    assert Slurm(tmp_path, devices_per_node=8).shape({"devices": "auto"}) == Shape(1, 8, 8)
    with pytest.raises(UserError, match="devices_per_node"):
        shape({"devices": "auto"})
    with pytest.raises(UserError, match=r"devices_per_node=4 and trainer\.devices=2"):
        Slurm(tmp_path, devices_per_node=4).shape({"devices": 2})
    with pytest.raises(UserError, match="one node"):
        SubmititLocal(tmp_path).shape({"devices": 2, "num_nodes": 2})


@pytest.mark.slow
def test_ranks_whose_time_is_up_save_and_queue_again(slurm: Path, tmp_path: Path) -> None:
    job = make_job(tmp_path / "sweep", 0, UNTIL_SAVED, devices=2)

    def time_is_up() -> None:
        for pid in fake_slurm.pids(slurm, "100"):
            os.kill(pid, signal.SIGUSR1)

    when(lambda: began(job, 0) and began(job, 1), time_is_up)
    assert run(make_launcher(launchers.SubmititSlurm, tmp_path / "sweep"), [job]) is None
    assert job.state == "done" and job.attempts == 2 and result(job)["saved"]
    ranks = [backend.json.loads((job.folder / f"began{rank}").read_text()) for rank in (0, 1)]
    assert [rank["RANK"] for rank in ranks] == [rank["LOCAL_RANK"] for rank in ranks] == ["0", "1"]
    assert ranks[0]["MASTER_PORT"] == ranks[1]["MASTER_PORT"] and ranks[0]["WORLD_SIZE"] == "2"


@pytest.mark.slow
def test_a_job_may_run_out_of_time_so_often_only(slurm: Path, tmp_path: Path) -> None:
    script = "(folder / 'worker').write_text(str(os.getppid()))\ntime.sleep(40); done()"
    job = make_job(tmp_path / "sweep", 0, script)
    worker = job.folder / "worker"
    when(lambda: worker.exists() and worker.read_text() != "", lambda: os.kill(int(worker.read_text()), signal.SIGUSR1))
    run(make_launcher(launchers.SubmititLocal, tmp_path / "sweep", max_num_timeout=0, timeout_min=1), [job])
    assert job.state == "failed" and "timed-out too many times" in str(job.why)
    assert (job.folder / "saved").exists()


@pytest.mark.slow
def test_a_job_that_slurm_ended_is_noticed_without_accounting(slurm: Path, tmp_path: Path) -> None:
    """As when its memory runs out: it leaves no result, and sacct has nothing to say."""
    job = make_job(tmp_path / "sweep", 0, "time.sleep(60)")
    when(lambda: began(job), lambda: [os.kill(pid, signal.SIGKILL) for pid in fake_slurm.pids(slurm, "100")])  # type: ignore[func-returns-value]
    run(make_launcher(launchers.SubmititSlurm, tmp_path / "sweep"), [job])
    assert job.state == "failed" and "ended without a result (FAILED); see" in str(job.why)


@pytest.mark.slow
def test_jobs_that_outlived_their_command_are_followed(slurm: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    job = make_job(sweep, 0, "time.sleep(1.5); done()")
    make_launcher(launchers.SubmititSlurm, sweep).backend.start([job])  # and this command ends
    again = make_job(sweep, 0, "done()")
    run(make_launcher(launchers.SubmititSlurm, sweep), [again])
    assert again.state == "done" and len(list(slurm.glob("*.sh"))) == 1


@pytest.mark.slow
def test_waiting_jobs_are_cancelled_by_a_stop(slurm: Path, tmp_path: Path) -> None:
    waits = Slurm(tmp_path / "sweep")
    waits.start([make_job(tmp_path / "sweep", i, "time.sleep(1)") for i in range(2)])
    waits.stop(kill=False)
    while waits._submitted:
        list(waits.poll())
    assert '["--state=PENDING", "100_0", "100_1"]' in (slurm / "scancel.log").read_text()


@pytest.mark.slow
def test_a_planted_result_does_not_run(slurm: Path, tmp_path: Path) -> None:
    waits = Slurm(tmp_path / "sweep")
    waits.start([make_job(tmp_path / "sweep", 0, "time.sleep(2)")])
    ((_, submitted),) = waits._submitted.values()
    # a name is refused before it is looked up, so no call can follow it
    backend._results(submitted)[0].write_bytes(pickle.dumps(("success", len)))
    (ended,) = [event for _, event in waits.poll() if isinstance(event, Ended)]
    assert ended.code is None and "builtins.len is not plain" in str(ended.why)


def test_without_submitit_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(SystemExit):
        Slurm(tmp_path).start([make_job(tmp_path, 0)])
    assert "pip install 'genoseq[submitit]'" in capsys.readouterr().err
