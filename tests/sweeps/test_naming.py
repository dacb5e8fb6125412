"""Names of a sweep's runs."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from genoseq.overrides import quote
from genoseq.sweeps.naming import run_name, varied_keys


def config(task: list[str], params: dict[str, str] | None = None) -> DictConfig:
    return OmegaConf.create({"hydra": {"sweeper": {"params": params}, "overrides": {"task": task}}})


def test_what_varies_is_what_has_several_values() -> None:
    task = ["data.seq_len=10,50", "optimizer.lr=0.1", "model=rnn1,rnn2", "+x=choice(1,2)", "data.genome=[a.fa,b.fa]"]
    assert varied_keys(config(task)) == ["data.seq_len", "model", "x"]


def test_the_sweepers_own_space_counts_and_the_command_narrows_it() -> None:
    params = {"optimizer.lr": "tag(log, interval(1e-4, 1e-1))", "model.embed_dim": "choice(8,16)", "seed": "0"}
    assert varied_keys(config([], params)) == ["optimizer.lr", "model.embed_dim"]
    assert varied_keys(config(["optimizer.lr=0.01", "data.k=2,4"], params)) == ["model.embed_dim", "data.k"]


def test_a_name_is_short_and_in_the_order_of_the_command() -> None:
    overrides = ["trainer.max_steps=300", "optimizer.lr=0.01", "data.seq_len=50", "sweep.dir=x"]
    assert run_name(overrides, ["data.seq_len", "optimizer.lr"]) == "seq_len=50,lr=0.01"
    assert run_name(overrides, []) == "run"


def test_checkpoints_vary_in_evaluations() -> None:
    names = {run_name([f"ckpt='/runs/{n}/checkpoints/best.ckpt'"], ["ckpt"]) for n in "ab"}
    assert len(names) == 2 and all(name.startswith("ckpt=") for name in names)


def test_keys_with_the_same_last_word_stay_whole() -> None:
    overrides = ["model.k=1", "data.k=2", "data/split=blocks"]
    assert run_name(overrides, ["model.k", "data.k", "data/split"]) == "model.k=1,data.k=2,split=blocks"


@pytest.mark.parametrize(("one", "other"), [("a/b", "a_b"), ("x" * 200, "x" * 201), ("[a,b]", "[a,c]"), ("é", "è")])
def test_what_a_folder_cannot_be_called_is_told_apart(one: str, other: str) -> None:
    names = [run_name([f"data.genome={quote(value)}"], ["data.genome"]) for value in (one, other)]
    assert names[0] != names[1]
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9_.=+,-]{1,200}", name)


@given(st.dictionaries(st.sampled_from(["a.x", "b.x", "c", "d/e"]), st.text(max_size=300), min_size=1))
def test_any_value_makes_a_file_name_and_order_does_not_matter(settings: dict[str, str]) -> None:
    overrides = [f"{key}={quote(value)}" for key, value in settings.items()]
    name = run_name(overrides, list(settings))
    assert name == run_name(overrides[::-1], list(settings))
    assert "/" not in name and "\0" not in name and 0 < len(name.encode()) < 200
    other = {**settings, next(iter(settings)): next(iter(settings.values())) + "1"}
    assert run_name([f"{key}={quote(value)}" for key, value in other.items()], list(settings)) != name
