"""A job's name, command and record."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from genoseq.errors import UserError
from genoseq.overrides import quote
from genoseq.sweeps.jobs import Job, Record, command, read_record, reason, run_name, varied_keys
from genoseq.sweeps.launcher import lock

PARAMS = {"optimizer.lr": "tag(log, interval(1e-4, 1e-1))", "model.embed_dim": "choice(8,16)", "seed": "0"}


@pytest.mark.parametrize(
    ("params", "task", "varied"),
    [
        (None, ["a.b=10,50", "c=0.1", "model=rnn1,rnn2", "+x=choice(1,2)", "d=[a.fa,b.fa]"], ["a.b", "model", "x"]),
        (PARAMS, [], ["optimizer.lr", "model.embed_dim"]),
        (PARAMS, ["optimizer.lr=0.01", "data.k=2,4"], ["model.embed_dim", "data.k"]),  # the command narrows the space
    ],
)
def test_what_varies_is_what_has_several_values(
    params: dict[str, str] | None, task: list[str], varied: list[str]
) -> None:
    config = OmegaConf.create({"hydra": {"sweeper": {"params": params}, "overrides": {"task": task}}})
    assert varied_keys(config) == varied


@pytest.mark.parametrize(
    ("varied", "name"),
    [
        (["data.seq_len", "optimizer.lr"], "seq_len=50,lr=0.01"),  # short, in the order of the command
        ([], "run"),
        (["model.k", "data.k", "data/split"], "model.k=1,data.k=2,split=blocks"),  # the same last part: stay whole
    ],
)
def test_a_name_is_what_varies(varied: list[str], name: str) -> None:
    overrides = ["trainer.max_steps=300", "optimizer.lr=0.01", "data.seq_len=50", "sweep.dir=x"]
    assert run_name([*overrides, "model.k=1", "+data.k=2", "data/split=blocks"], varied) == name


@given(st.dictionaries(st.sampled_from(["a.x", "b.x", "c", "d/e"]), st.text("aé/ ,[]'\\_=", max_size=300), min_size=1))
def test_any_value_makes_a_file_name_and_order_does_not_matter(settings: dict[str, str]) -> None:
    overrides = [f"{key}={quote(value)}" for key, value in settings.items()]
    name = run_name(overrides, list(settings))
    assert name == run_name(overrides[::-1], list(settings))
    assert re.fullmatch(r"[A-Za-z0-9_.=+,-]{1,200}", name)
    other = {**settings, next(iter(settings)): next(iter(settings.values())) + "1"}
    assert run_name([f"{key}={quote(value)}" for key, value in other.items()], list(settings)) != name


def test_a_job_reads_the_configs_that_its_sweep_read(tmp_path: Path) -> None:
    sources = [("hydra", "hydra.conf", "pkg"), ("main", "/my/conf", "file"), ("command-line", "/more", "file")]
    hydra = {
        "runtime": {"config_sources": [dict(zip(("provider", "path", "schema"), one, strict=True)) for one in sources]},
        "job": {"config_name": "mine"},
        "overrides": {"hydra": ["hydra/launcher=ray", "hydra.launcher.n_jobs=2", "hydra.verbose=true", "hydra.mode=x"]},
    }
    line = command(OmegaConf.create({"hydra": hydra}), "genoseq.train", ["a=1"], tmp_path / "b=1", 3)
    flags = ["--config-path", "/my/conf", "--config-dir", "/more", "--config-name", "mine"]
    assert line[1:9] == ["-m", "genoseq.train", *flags]
    assert line[9:12] == ["a=1", "hydra.verbose=true", "hydra.mode=RUN"] and "hydra.job.num=3" in line
    assert f"hydra.run.dir='{tmp_path}/b=1'" in line


@pytest.mark.parametrize(
    ("code", "log", "why"),
    [
        (2, "genoseq: no such genome\n", "no such genome"),
        (1, "ValueError: x\n\nSet the environment variable HYDRA_FULL_ERROR=1 for", "exit code 1: ValueError: x"),
        (-15, "whatever", "killed by signal 15 (SIGTERM)"),
        (-9, "", "killed by signal 9 (SIGKILL; out of memory?)"),
        (3, None, "exit code 3"),
    ],
)
def test_why_a_job_failed(tmp_path: Path, code: int, log: str | None, why: str) -> None:
    if log is not None:
        (tmp_path / "output.log").write_text(log)
    assert reason(code, tmp_path / "output.log") == why


def test_the_record_keeps_what_was_known(tmp_path: Path) -> None:
    one, other = (Job(name, tmp_path / name, []) for name in ("one", "other"))
    one.state, one.seconds, one.attempts = "done", 3.0, 2
    Record(tmp_path, "train", ["a"]).update(one)
    again, later = Record(tmp_path, "train", ["a"]), Job("one", tmp_path / "one", [])
    again.add([later])
    assert (later.seconds, later.attempts) == (3.0, 2)
    later.state = "done"
    again.update(later, other)
    record = read_record(tmp_path)
    assert [(job["name"], job["state"]) for job in record["jobs"]] == [("one", "done"), ("other", "waiting")]
    assert (record["command"], record["varied"]) == ("train", ["a"])
    (tmp_path / "jobs.json").write_text("{")
    assert read_record(tmp_path) == {}


def test_a_sweep_runs_once(tmp_path: Path) -> None:
    with lock(tmp_path / "sweep"), pytest.raises(UserError, match="another process runs the sweep"):
        lock(tmp_path / "sweep")
    with lock(tmp_path / "sweep"):
        pass
