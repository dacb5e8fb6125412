"""What a file from outside names: refused before anything is imported, or built as a plain class of its place."""

import json
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from genoseq.data.datamodule import GenomeData
from genoseq.data.split import Split
from genoseq.data.tokenizer import Tokenizer
from genoseq.errors import UserError
from genoseq.trust import check_overrides, instantiate_trusted, trusted_class

NAMES = ["genoseq", "mylab", "mylabs", "hydra", "os", "evil", "models", "Net", "_x", "1x", "a b", "", "ü"]
PLACES = {"tokenizer": Tokenizer, "split": Split}
LSTM = "genoseq.models.lstm.LSTM"
SPLIT = "genoseq.data.split.ContiguousSplit"
KMER = "genoseq.data.tokenizer.KmerTokenizer"
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
        raise SystemExit("called")

class Plain:
    pass

def make(**_):
    raise SystemExit("called")
"""


@pytest.fixture
def mylab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the user's on Python's path; return the file that it makes when it is imported."""
    (tmp_path / "mylab.py").write_text(MYLAB)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mylab", raising=False)
    return tmp_path / "imported"


@given(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4), st.sets(st.sampled_from(["mylab.models", "os", "hydra"]))
)
def test_what_is_imported_is_known_from_the_path_alone(parts: list[str], trust: set[str]) -> None:
    target = ".".join(parts)
    inside = any(parts[: len(p)] == p for p in [["genoseq"], *(t.split(".") for t in trust)])
    allowed = inside and all(part.isidentifier() for part in parts) and parts[0] != "hydra"
    with mock.patch("importlib.import_module", side_effect=ImportError) as load, pytest.raises(UserError):
        trusted_class(target, object, sorted(trust))
    assert load.called == allowed


@given(st.text(max_size=30) | st.none() | st.binary() | st.just("genoseq." + "x" * 10_000) | st.lists(st.text()))
def test_anything_else_is_refused_in_one_printable_sentence(target: Any) -> None:
    with pytest.raises(UserError) as refused:
        trusted_class(target, object)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 300


def test_a_package_runs_only_once_it_is_trusted(mylab: Path) -> None:
    node = {"_target_": "mylab.Net", "vocab_size": 1, "sizes": [1, 2], "options": {"text": "${oc.env:HOME}"}}
    with pytest.raises(UserError, match=r"'mylab.Net' is neither .* add trust=\[mylab\]"):
        instantiate_trusted(node, nn.Module)
    assert not mylab.exists()
    net: Any = instantiate_trusted(node, nn.Module, ["mylab"], vocab_size=7)
    assert mylab.exists() and net.sizes == [1, 2]
    assert net.options == {"text": "${oc.env:HOME}"}  # taken literally


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)
OURS = ["files.Path", "errors.UserError", "models.lstm.nn.Linear", "models.lstm.LSTM.load", "no.such", "trust.parse"]
MYLABS = ["make", "system", "Linear", "Net.load", "Plain", "nothing"]
NO_NETWORKS = [*(f"genoseq.{name}" for name in OURS), *(f"mylab.{name}" for name in MYLABS), "genoseq", "mylab", KMER]
NO_NETWORKS += ["hydra.utils.get_method", "hydra._internal.utils._locate"]
NO_ARGUMENTS: list[dict[Any, Any]] = [
    {"embed_dim": [{"deep": {"_target_": LSTM}}]},
    {"embed_dim": nn.Identity()},
    {"embed_dim": ENDLESS},
    {"_args_": [5]},
    {"_partial_": True},
    {"__class__": 1},
    {3: 4},
    {"heads": 3},
    {"hidden_size": -1},
    {"hidden_size": "${oc.env:HOME}"},
]
NODES = [{"_target_": target} for target in NO_NETWORKS] + [{"_target_": LSTM, **more} for more in NO_ARGUMENTS]


@pytest.mark.parametrize("node", [*NODES, [LSTM]], ids=lambda node: str(node)[:60])
def test_only_networks_defined_there_with_plain_arguments(mylab: Path, node: Any) -> None:
    with pytest.raises(UserError) as refused:
        instantiate_trusted(node, nn.Module, ["mylab", "hydra"], vocab_size=5)
    assert "\n" not in str(refused.value)


def test_a_network_of_ours() -> None:
    node = {"_target_": LSTM, "_convert_": "all", "_recursive_": False, "embed_dim": 3}
    net: Any = instantiate_trusted(node, nn.Module, vocab_size=5, hidden_size=4)
    assert net.embedding.weight.shape == (5, 3)
    # a class by another name of its package
    assert trusted_class("genoseq.app.checkpoint.NextToken", nn.Module).__module__ == "genoseq.training.module"


OTHER_OBJECTS: list[dict[str, Any]] = [
    {"tokenizer": {"_target_": SPLIT}},
    {"tokenizer": {"_target_": KMER, "_partial_": True, "k": {"_target_": "os.x"}}},
    {"split": {"_target_": SPLIT, "_args_": []}},
    {"split": {"_target_": KMER}},
    {"split": {"test": 0.2}},
    {"tokenizer": "char"},
]


@pytest.mark.parametrize("nodes", [{}, *OTHER_OBJECTS], ids=str)
def test_the_objects_that_data_needs(nodes: dict[str, Any]) -> None:
    ours = {"split": {"_target_": SPLIT, "test": 0.3}, "tokenizer": {"_target_": KMER, "_partial_": True}}
    node = {"_target_": "genoseq.data.datamodule.GenomeData", "genome": "hpylori", "k": 3, **ours, **nodes}
    with pytest.raises(UserError) if nodes else nullcontext():
        data = instantiate_trusted(node, GenomeData, places=PLACES)
        assert type(data.split).__name__ == "ContiguousSplit" and data.vocabulary.k == 3


REFUSED = [
    "model._target_=os.system",
    "+callbacks.mine={_target_:os.system,command:true}",
    "model={deep:[{_target_:builtins.eval}]}",
    "optimizer._target_=torch.optim.SGD",
    "optimizer._target_=genoseq.trust.check_overrides",
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
    "a=" + "[" * 3000,
]


@pytest.mark.parametrize("override", REFUSED, ids=lambda override: override[:60])
def test_recorded_overrides_that_are_refused(override: str) -> None:
    with pytest.raises(UserError):
        check_overrides(["seed=1", override])


def test_recorded_overrides_that_are_settings(mylab: Path) -> None:
    settings = ["seed=1", "+a.b=2", "~logger", "model=rnn2", "data/split=bed", "data.split.file=../parts.bed"]
    settings += ["data.genome=[a.fa,../b.fa]", "scheduler.total_steps=${trainer.max_steps}", f"model._target_={LSTM}"]
    check_overrides(settings)
    with pytest.raises(UserError):
        check_overrides(["model._target_=mylab.Net"])
    assert not mylab.exists()
    check_overrides(["model._target_=mylab.Net"], ["mylab"])


@pytest.mark.slow
def test_the_network_of_the_readme(tmp_path: Path, tiny: tuple[str, ...]) -> None:
    section = (
        (Path(__file__).parent.parent / "README.md")
        .read_text()
        .partition("## Your own network")[2]
        .partition("\n## ")[0]
    )
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
