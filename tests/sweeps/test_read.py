"""``read_sweep`` returns a row a run, whoever launched it, and no file in the folder harms it."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sweep_folders import Fake, grid, write

from genoseq.errors import UserError
from genoseq.sweeps.read import METRICS, OBJECTIVE, read_sweep

LR, LEN = "optimizer.lr", "data.seq_len"
FILES = ["result.json", "metrics.csv", "failed.json"] + [f".hydra/{n}.yaml" for n in ("overrides", "config", "hydra")]


def test_a_row_a_run_with_settings_state_and_metrics(tmp_path: Path) -> None:
    settings = grid(data__seq_len=[10, 50], optimizer__lr=["1e-1", 0.01])
    runs = read_sweep(write(tmp_path, [Fake(s | {"trainer.max_steps": 300}, 1.9, result={"n": 3}) for s in settings]))
    assert runs.attrs["varied"] == [LEN, LR]
    assert list(runs.columns[:8]) == ["name", "folder", "state", "why", "step", "max_steps", "latest", "overrides"]
    assert list(runs[LEN]) == [10, 10, 50, 50] and list(runs[LR]) == [0.1, 0.01, 0.1, 0.01]
    assert runs[LEN].dtype == "int64" and list(runs["n"]) == [3] * 4
    first = runs.iloc[0]
    assert first["overrides"] == ("data.seq_len=10", "optimizer.lr=1e-1", "trainer.max_steps=300")
    assert first["folder"] == tmp_path / first["name"] and (first["state"], first["step"]) == ("done", 300)
    assert first[OBJECTIVE] == 1.9 and first["genome/name"] == "hpylori"


def test_folders_of_another_launcher_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write(tmp_path, [Fake({LR: 0.001 * (i + 1)}, 1.9) for i in range(11)], jobs=False)
    for num in (7, 8):
        (tmp_path / str(num) / "result.json").unlink()
    (tmp_path / "8" / "metrics.csv").unlink()
    (tmp_path / "8" / "failed.json").write_text('{"why": "out of memory"}')
    (tmp_path / "evaluated").mkdir()
    (tmp_path / "evaluated" / "evaluation.json").write_text("{}")
    runs = read_sweep(tmp_path)
    assert list(runs["name"]) == [str(i) for i in range(11)]
    assert list(runs["state"]) == ["done"] * 7 + ["running", "failed"] + ["done"] * 2
    assert runs["why"][8] == "out of memory" and "nothing tells" in runs["why"][7]
    assert list(runs.loc[7, ["step", "max_steps", "latest"]]) == [150, 300, 2.125] and math.isnan(runs[OBJECTIVE][7])


def test_a_run_without_an_override_has_what_its_config_says(tmp_path: Path) -> None:
    told = [{}, {"model": "rnn2"}, {"data/split": "blocks", LEN: 64}, {"data.seed": 1}, {"model": "rnn1"}]
    runs = read_sweep(write(tmp_path, [Fake(settings, 1.9) for settings in told], jobs=False))
    assert runs.attrs["varied"] == ["model", "data/split", LEN, "data.seed"]
    assert list(runs.loc[0, runs.attrs["varied"]]) == ["rnn1", "contiguous", 32, 0]
    assert list(runs["data/split"]) == ["contiguous", "contiguous", "blocks", "contiguous", "contiguous"]


def test_places_and_hydras_own_settings_are_no_parameters(tmp_path: Path) -> None:
    own = [
        {"ckpt": f"a{i}", "sweep.dir": f"d{i}", "hydra.job.num": i, "hydra/launcher": f"l{i}", LR: i} for i in (1, 2)
    ]
    runs = read_sweep(write(tmp_path, [Fake(s, 1.9, name=str(s[LR])) for s in own]))
    assert runs.attrs["varied"] == [LR] and runs["overrides"][0] == ("optimizer.lr=1",)


def test_a_list_is_text(tmp_path: Path) -> None:
    values = ["true", 2, "[a,b]", "null", "'a b.fa'"]
    runs = read_sweep(write(tmp_path, [Fake({"x": value}, 1.9, name=str(i)) for i, value in enumerate(values)]))
    assert list(runs["x"]) == [True, 2, '["a", "b"]', None, "a b.fa"]


def test_what_lies_in_the_folder_goes_before_a_lagging_record(tmp_path: Path) -> None:
    write(tmp_path, [Fake({LR: i}, 1.9) for i in range(6)])
    content = json.loads((tmp_path / "jobs.json").read_text())
    for job, state in zip(content["jobs"], ("running", "waiting", "done", "failed", "running", "waiting"), strict=True):
        job["state"] = state
    (tmp_path / "jobs.json").write_text(json.dumps(content))
    for i in (1, 2, 4, 5):
        (tmp_path / f"lr={i}" / "result.json").unlink()
    for i in (4, 5):  # one that failed, and one that failed and is to be tried again
        (tmp_path / f"lr={i}" / "failed.json").write_text('{"why": "killed"}')
    (tmp_path / "lr=5" / "metrics.csv").unlink()
    runs = read_sweep(tmp_path)
    assert list(runs["state"]) == ["done", "running", "failed", "done", "failed", "waiting"]
    assert runs["why"][2] == "it ended without a result.json" and runs["why"][4] == "killed"


BOMB = "a: &a [x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
NAMES = ["lr=0", "../x", "..", "a\0", "y" * 9999, 3, None]
HOSTILE = [
    *("", "{", "[1, 2", '{"jobs": [{"na', "step,val/bits_per_base\n1,x\n", "\x00", "3", "[" * 1100, BOMB),
    '{"val/bits_per_base": ' + "9" * 4000 + ', "step": [1], "name": {"a": 2}, "train/steps": Infinity}',
    json.dumps({"command": "train", "jobs": [{"name": name} for name in NAMES] + [3], "varied": [[3]]}),
    *('{"trainer": {"max_steps": "${a}"}, "a": "${trainer.max_steps}"}', "- 3\n- [a]\n- null\n- '{'\n- 'a=[1,,'\n"),
    "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [PWNED]]",
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_half_written_and_hostile_files_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for jobs, names in ((True, ["jobs.json", *(f"lr=0/{name}" for name in FILES)]), (False, [f"0/{n}" for n in FILES])):
        for i, name in enumerate(names):
            folder = write(tmp_path / f"{jobs}{i}", [Fake({"lr": i}, 1.9 + i) for i in range(2)], jobs=jobs)
            (folder / name).write_text(content)
            runs = read_sweep(folder)
            assert 2.9 in set(runs[OBJECTIVE]) and all(len(n) < 99 and not {*n} & {*"/.\0"} for n in runs["name"])
    assert not (tmp_path / "PWNED").exists()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*METRICS, "name", "state", "seed", "a b"]), json_values, min_size=1))
@example({"val/bits_per_base": 2.0**63, "train/steps": 2.0**63})
def test_any_result_is_a_row(tmp_path_factory: pytest.TempPathFactory, result: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("sweep")
    write(folder, [Fake({"seed": 0}, 1.9), Fake({"seed": 1}, 1.9, state="waiting")])
    (folder / "seed=1").mkdir()
    (folder / "seed=1" / "result.json").write_text(json.dumps(result))
    runs = read_sweep(folder)
    assert list(runs["state"]) == ["done", "done"] and list(runs["name"]) == ["seed=0", "seed=1"]
    assert list(runs["seed"]) == [0, 1] and set(runs[list(METRICS)].dtypes) == {np.dtype(float)}
    value = result.get(OBJECTIVE)
    finite = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    assert runs[OBJECTIVE][1] == value if finite else math.isnan(runs[OBJECTIVE][1])


def test_no_sweep_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*missing"):
        read_sweep(tmp_path / "missing")
    with pytest.raises(UserError, match="holds no run"):
        read_sweep(tmp_path)
    write(tmp_path, [Fake({LR: 1}, 1.9)])
    with pytest.raises(UserError, match=f"it is a run's own, so give dir={tmp_path}"):
        read_sweep(tmp_path / "lr=1")
    (tmp_path / "evaluations").mkdir()
    (tmp_path / "evaluations" / "jobs.json").write_text('{"command": "evaluate", "jobs": [{"name": "x"}]}')
    with pytest.raises(UserError, match="holds no run"):
        read_sweep(tmp_path / "evaluations")
