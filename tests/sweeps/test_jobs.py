"""A job's folder and command."""

from pathlib import Path

import pytest
import yaml

from genoseq.errors import UserError
from genoseq.sweeps.jobs import Job, check_same, reason
from genoseq.sweeps.record import Record, lock, read_record


def make_job(folder: Path, *overrides: str) -> Job:
    return Job(0, folder.name, folder, list(overrides), ["train"])


def test_a_job_goes_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    job = make_job(tmp_path / "seq_len=10,lr=0.1")
    assert job.prepare() == ["train"] and job.folder.is_dir()
    (job.folder / "checkpoints").mkdir()
    (job.folder / "checkpoints" / "last.ckpt").touch()
    assert job.prepare() == ["train", f"ckpt='{job.folder}/checkpoints/last.ckpt'"]


def test_a_start_without_a_checkpoint_is_cleared_but_for_its_log(tmp_path: Path) -> None:
    job = make_job(tmp_path / "run")
    for name in ("checkpoints/best.ckpt", "checkpoints/last.ckpt.part", "metrics.csv", "output.log", "tb/events.1"):
        (job.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (job.folder / name).touch()
    assert job.prepare() == ["train"]
    assert [p.name for p in job.folder.rglob("*") if p.is_file()] == ["output.log"]
    assert not (job.folder / "checkpoints").exists()  # else the run would refuse the folder


@pytest.mark.parametrize("name", ["result.json", "evaluation.json"])
def test_a_result_is_the_end(tmp_path: Path, name: str) -> None:
    job = make_job(tmp_path)
    assert not job.finished
    (tmp_path / name).touch()
    assert job.finished


def test_a_folder_with_other_settings_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    file = tmp_path / ".hydra" / "overrides.yaml"
    file.write_text(yaml.safe_dump(["a=1", "b=2", "ckpt='x'", "sweep.dir=y"]))
    check_same(make_job(tmp_path, "b=2", "a=1", "sweep.dir=elsewhere"))
    with pytest.raises(UserError, match="holds a run with b=2, no c; give the sweep's own settings"):
        check_same(make_job(tmp_path, "a=1", "b=3", "c=1"))


@pytest.mark.parametrize(
    ("code", "log", "why"),
    [
        (2, "genoseq: no such genome\n", "no such genome"),
        (1, "ValueError: x\n\nSet the environment variable HYDRA_FULL_ERROR=1 for", "exit code 1: ValueError: x"),
        (-15, "whatever", "killed by signal 15 (SIGTERM)"),
        (-9, "", "killed by signal 9 (SIGKILL; was memory short?)"),
        (3, None, "exit code 3"),
    ],
)
def test_why_a_job_failed(tmp_path: Path, code: int, log: str | None, why: str) -> None:
    if log is not None:
        (tmp_path / "output.log").write_text(log)
    assert reason(code, tmp_path / "output.log") == why


def test_the_record_keeps_what_was_known(tmp_path: Path) -> None:
    one, other = make_job(tmp_path / "one"), make_job(tmp_path / "other")
    one.state, one.seconds, one.attempts = "done", 3.0, 2
    Record(tmp_path, "train", ["a"]).update(one)
    again = Record(tmp_path, "train", ["a"])
    later = make_job(tmp_path / "one")
    again.recall(later)
    assert (later.seconds, later.attempts) == (3.0, 2)
    again.update(other)
    assert [(job["name"], job["state"]) for job in read_record(tmp_path)] == [("one", "done"), ("other", "waiting")]
    (tmp_path / "jobs.json").write_text("{")
    assert read_record(tmp_path) == []


def test_a_sweep_is_worked_on_once(tmp_path: Path) -> None:
    held = lock(tmp_path / "sweep")
    with pytest.raises(UserError, match="another process works on the sweep"):
        lock(tmp_path / "sweep")
    held.release()
    lock(tmp_path / "sweep").release()
