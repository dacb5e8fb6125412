"""What a file from outside names: refused before anything is imported, or built as a plain class of its place."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from genoseq.data.datamodule import GenomeData
from genoseq.data.split import ContiguousSplit, Split
from genoseq.data.tokenizer import KmerTokenizer, Tokenizer
from genoseq.errors import UserError
from genoseq.models.lstm import LSTM
from genoseq.trust import check_overrides, check_target, instantiate_trusted, trusted_class

NAMES = st.sampled_from(
    ["genoseq", "mylab", "mylabs", "hydra", "os", "evil", "models", "Net", "_x", "1x", "a b", "", "ü"]
)
README = Path(__file__).parent.parent / "README.md"
PLACES = {"tokenizer": Tokenizer, "split": Split}
MYLAB = """
import pathlib
from os import system
from torch import nn
from torch.nn import Linear

pathlib.Path(__file__).with_name("imported").touch()

class Net(nn.Module):
    def __init__(self, vocab_size, sizes=(), options=None):
        super().__init__()
        self.sizes, self.options = sizes, options

    @classmethod
    def load(cls, **_):
        raise AssertionError("a class method was called")

class Plain:
    pass

def make(**_):
    raise AssertionError("a function was called")
"""


@pytest.fixture
def mylab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the user's on Python's path; return the file that it makes when it is imported."""
    (tmp_path / "mylab.py").write_text(MYLAB)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mylab", raising=False)
    return tmp_path / "imported"


@given(
    st.lists(NAMES, min_size=1, max_size=4).map(".".join),
    st.sets(st.sampled_from(["mylab", "mylab.models", "os", "hydra"])),
)
def test_a_target_is_allowed_by_its_path_alone(target: str, trust: set[str]) -> None:
    before = set(sys.modules)
    parts = target.split(".")
    inside = any(parts[: len(p)] == p for p in [["genoseq"], *(t.split(".") for t in trust)])
    allowed = inside and all(part.isidentifier() for part in parts) and parts[0] != "hydra"
    try:
        check_target(target, sorted(trust))
    except UserError as error:
        assert not allowed and "\n" not in str(error)
    else:
        assert allowed
    assert set(sys.modules) == before


@given(st.text(max_size=30))
def test_any_text_is_refused_in_one_printable_sentence(text: str) -> None:
    with pytest.raises(UserError) as refused:
        check_target(text)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("target", [None, 3, ["os.system"], b"genoseq.x", "genoseq." + "x" * 10_000])
def test_no_text_or_no_end_of_it(target: Any) -> None:
    with pytest.raises(UserError) as refused:
        trusted_class(target, object)
    assert len(str(refused.value)) < 300


def test_a_package_runs_only_once_it_is_trusted(mylab: Path) -> None:
    node = {"_target_": "mylab.Net", "vocab_size": 1, "sizes": [1, 2], "options": {"text": "${oc.env:HOME}"}}
    with pytest.raises(UserError, match=r"'mylab.Net' is neither .* add trust=\[mylab\]"):
        instantiate_trusted(node, nn.Module)
    assert not mylab.exists()
    net: Any = instantiate_trusted(node, nn.Module, ["mylab"], vocab_size=7)
    assert mylab.exists() and net.sizes == [1, 2]
    assert net.options == {"text": "${oc.env:HOME}"}  # taken literally


@pytest.mark.parametrize(
    "target",
    [
        "genoseq.files.os.getcwd",  # reachable, not defined there
        "genoseq.files.write_atomic",  # a function
        "genoseq.files.Path",  # another package's class
        "genoseq.errors.UserError",  # no network
        "genoseq.data.tokenizer.KmerTokenizer",
        "genoseq.models.lstm.nn.Linear",
        "genoseq.models.lstm.LSTM.from_pretrained",
        "genoseq.no.such.module",
        "genoseq",
        "mylab.make",
        "mylab.system",
        "mylab.Linear",
        "mylab.Net.load",
        "mylab.Plain",
        "mylab.nothing",
        "mylab",
        "hydra.utils.get_method",
        "hydra._internal.utils._locate",
    ],
)
def test_only_classes_of_their_place_defined_there(mylab: Path, target: str) -> None:
    with pytest.raises(UserError):
        instantiate_trusted({"_target_": target, "vocab_size": 5}, nn.Module, ["mylab", "hydra"])


def test_a_class_by_another_name_of_its_package() -> None:
    assert trusted_class("genoseq.app.checkpoint.NextToken", nn.Module).__module__ == "genoseq.training.module"


@pytest.mark.parametrize(
    "argument",
    [
        {"embed_dim": {"_target_": "os.system", "command": "true"}},
        {"embed_dim": [{"deep": {"_target_": "genoseq.models.lstm.LSTM"}}]},
        {"embed_dim": nn.Identity()},
        {"embed_dim": {1: 2}},
        {"_args_": [5]},
        {"_partial_": True},
        {"__class__": 1},
        {3: 4},
        {"heads": 3},
        {"hidden_size": -1},
        {"hidden_size": "${oc.env:HOME}"},
    ],
    ids=str,
)
def test_arguments_are_plain_values_of_the_class(argument: dict[Any, Any]) -> None:
    with pytest.raises(UserError):
        instantiate_trusted({"_target_": "genoseq.models.lstm.LSTM", **argument}, nn.Module, vocab_size=5)


def test_a_list_that_holds_itself() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(UserError, match="embed_dim"):
        instantiate_trusted({"_target_": "genoseq.models.lstm.LSTM", "embed_dim": endless}, nn.Module)


def test_hydra_s_way_to_pass_arguments_is_let_be() -> None:
    node = {"_target_": "genoseq.models.lstm.LSTM", "_convert_": "all", "_recursive_": False, "embed_dim": 3}
    net: Any = instantiate_trusted(node, nn.Module, vocab_size=5, hidden_size=4)
    assert isinstance(net, LSTM) and net.embedding.weight.shape == (5, 3)


def data_node(**nodes: Any) -> dict[str, Any]:
    split = {"_target_": "genoseq.data.split.ContiguousSplit", "test": 0.3}
    tokenizer = {"_target_": "genoseq.data.tokenizer.KmerTokenizer", "_partial_": True}
    return {
        "_target_": "genoseq.data.datamodule.GenomeData",
        "genome": "hpylori",
        "k": 3,
        "tokenizer": tokenizer,
        "split": split,
        **nodes,
    }


def test_the_objects_that_data_needs() -> None:
    data = instantiate_trusted(data_node(), GenomeData, places=PLACES)
    assert isinstance(data.tokenizer, KmerTokenizer) and isinstance(data.split, ContiguousSplit)
    assert data.vocabulary.k == 3


@pytest.mark.parametrize(
    "nodes",
    [
        {"tokenizer": {"_target_": "genoseq.data.split.ContiguousSplit"}},
        {"tokenizer": {"_target_": "os.system", "_partial_": True}},
        {
            "tokenizer": {
                "_target_": "genoseq.data.tokenizer.KmerTokenizer",
                "_partial_": True,
                "k": {"_target_": "os.x"},
            }
        },
        {"split": {"_target_": "genoseq.data.split.ContiguousSplit", "_args_": []}},
        {"split": {"_target_": "genoseq.data.tokenizer.CharTokenizer"}},
        {"split": {"_target_": "genoseq.data.split.ContiguousSplit", "test": {"_target_": "os.getcwd"}}},
        {"genome": {"_target_": "os.getcwd"}},
        {"split": {"test": 0.2}},
        {"tokenizer": "char"},
    ],
    ids=str,
)
def test_another_object_in_its_place(nodes: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        instantiate_trusted(data_node(**nodes), GenomeData, places=PLACES)


@pytest.mark.parametrize(
    "override",
    [
        "model._target_=os.system",
        "+callbacks.mine={_target_:os.system,command:true}",
        "model={deep:[{_target_:builtins.eval}]}",
        "optimizer._target_=torch.optim.SGD",
        "optimizer._target_=genoseq.trust.check_target",
        "model._target_=${oc.env:HOME}",
        "model=${oc.create:'{_target_: os.system}'}",
        "model.x='${${r.name}:\"{_target_: os.system}\"}'",
        "model=../../../tmp/evil",
        "+../evil=x",
        "data/split@hydra.launcher=contiguous",
        "hydra/launcher=basic",
        "hydra.searchpath=[file:///tmp]",
        "model._target_=genoseq.models.lstm.LSTM,os.system",
        "no value",
    ],
)
def test_recorded_overrides_that_are_refused(override: str) -> None:
    with pytest.raises(UserError):
        check_overrides(["seed=1", override])


def test_recorded_overrides_that_are_settings(mylab: Path) -> None:
    check_overrides(
        [
            "seed=1",
            "+a.b=2",
            "~logger",
            "model=rnn2",
            "data/split=bed",
            "data.split.file=../parts.bed",
            "data.genome=[a.fa,../b.fa]",
            "scheduler.total_steps=${trainer.max_steps}",
            "model._target_=genoseq.models.lstm.LSTM",
        ]
    )
    with pytest.raises(UserError):
        check_overrides(["model._target_=mylab.Net"])
    assert not mylab.exists()
    check_overrides(["model._target_=mylab.Net"], ["mylab"])


@pytest.mark.slow
def test_the_network_of_the_readme(tmp_path: Path, tiny: tuple[str, ...]) -> None:
    section = README.read_text().partition("## Your own network")[2].partition("\n## ")[0]
    code, commands = (re.findall(rf"```{language}\n(.*?)```", section, re.S)[0] for language in ("python", "bash"))
    node = re.findall(r"`(\{_target_.*?\})`", section)[0]
    (tmp_path / "mylab.py").write_text(code)
    (folder := tmp_path / "conf" / "model").mkdir(parents=True)
    (folder / "gru.yaml").write_text(node)
    sizes = [*(text for text in tiny if not text.startswith("model.")), "data.bases=20000"]
    more = [sizes, [*sizes, "trainer.max_steps=6"], ["baseline=false", "trainer.precision=32-true"]]
    for n, (line, extra) in enumerate(zip(commands.strip().splitlines(), more, strict=True)):
        command = f"{line.partition('  #')[0]} {' '.join(extra)}".replace("python ", f"{sys.executable} ", 1)
        command += "" if "hydra.run.dir" in command else f" hydra.run.dir=run{n}"
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    first, resumed, measured = (
        json.loads((tmp_path / name).read_text())
        for name in ("gru/result.json", "run1/result.json", "run2/evaluation.json")
    )
    assert (first["train/steps"], resumed["train/steps"]) == (4, 6)
    assert measured["test/loss"] == pytest.approx(first["test/loss"], rel=1e-6)
