"""Checkpoints: what they record, what of them is trusted, and what a run resumes from."""

import copy
import functools
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch
from composed import compose
from omegaconf import DictConfig
from torch import nn

from genoseq.app import build
from genoseq.app.checkpoint import checkpoint_metadata, load_checkpoint, restore_data, restore_module, resumed_step
from genoseq.errors import UserError
from genoseq.models.lstm import LSTM

FILES = Path(__file__).parent.parent / "data" / "files"
GENOME = f"data.genome={FILES / 'hpylori_start.txt'}"
SMALL = ("model.embed_dim=4", "model.hidden_size=8", "scheduler=none", "trainer.max_steps=4")


def configured(*overrides: str) -> DictConfig:
    return compose(GENOME, *SMALL, *overrides)


def trained(*overrides: str, **nodes: Any) -> dict[str, Any]:
    """Return a run's checkpoint, with some nodes of its config replaced."""
    cfg = configured(*overrides)
    cfg.update(nodes)
    module = build.build_module(cfg, build.build_data(cfg.data))
    return {"genoseq": module.metadata, "state_dict": module.state_dict(), "global_step": 2}


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    """A checkpoint as genoseq writes it."""
    return trained()


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that a planted checkpoint makes if its code runs; that none does is checked."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(path)!r}, 'w').close()\nclass Net: ...\n")
    (tmp_path / "hubconf.py").write_text(f"open({str(path)!r}, 'w').close()\ndef net(**_): ...\n")
    monkeypatch.syspath_prepend(tmp_path)  # as python -m does with the working folder
    yield path
    assert not path.exists()


def restored(checkpoint: dict[str, Any], folder: Path, trust: tuple[str, ...] = ()) -> nn.Module:
    """Write a checkpoint, load it and build what it describes."""
    torch.save(checkpoint, path := folder / "planted.ckpt")
    loaded = load_checkpoint(str(path))
    return restore_module(loaded, restore_data(loaded["genoseq"], trust), trust).net


def planted(ours: dict[str, Any], place: str, node: Any) -> dict[str, Any]:
    """Return a copy with a node of its config (``model``, ``data.split``, …) replaced."""
    checkpoint = copy.deepcopy(ours)
    *parents, last = place.split(".")
    functools.reduce(dict.__getitem__, parents, checkpoint["genoseq"]["config"])[last] = node
    return checkpoint


def test_a_network_comes_back(ours: dict[str, Any], tmp_path: Path) -> None:
    net = restored(ours, tmp_path)
    weights = ours["state_dict"]
    assert all(torch.equal(value, weights[f"net.{name}"]) for name, value in net.state_dict().items())


HUB = {"_target_": "torch.hub.load", "repo_or_dir": ".", "model": "net", "source": "local"}
TOUCH = {"_target_": "os.system", "command": "touch ran"}
UNFOLDING = functools.reduce(lambda inner, _: [inner] * 10, range(20), [1])
LIGHTNING = "lightning.pytorch.LightningModule.load_from_checkpoint"
PLANTS: dict[str, tuple[str, Any]] = {
    "torch.hub.load": ("model", HUB),
    "builtins.eval": ("model", {"_target_": "builtins.eval", "_args_": ["open('ran', 'w')"]}),
    "os.system": ("model", TOUCH),
    "an argument of the network": ("model.embed_dim", TOUCH),
    "a list in an argument": ("model.embed_dim", [TOUCH]),
    "the genome": ("data.genome", TOUCH),
    "the tokenizer": ("data.tokenizer", {**TOUCH, "_partial_": True}),
    "the split": ("data.split", HUB),
    "the split's argument": ("data.split.test", TOUCH),
    "the data": ("data._target_", "subprocess.Popen"),
    "torch.load": ("model", {"_target_": "torch.load", "f": "bomb.pt", "weights_only": False}),
    "load_from_checkpoint": ("model", {"_target_": LIGHTNING, "checkpoint_path": "bomb.pt", "weights_only": False}),
    "os of a file of ours": ("model", {"_target_": "genoseq.files.os.getcwd"}),
    "a function of ours": ("model", {"_target_": "genoseq.files.write_atomic", "path": "ran", "content": ""}),
    "evil.py": ("model", {"_target_": "evil.Net"}),
    "evil.py as a tokenizer": ("data.tokenizer", {"_target_": "evil.Net"}),
    "hydra": ("model", {"_target_": "hydra.utils.instantiate", "config": HUB}),
    "an interpolation": ("model.embed_dim", "${oc.env:HOME}"),
    "a network of ten million units": ("model.hidden_size", 10**7),
    "a network of 10^12 units": ("model.hidden_size", 10**12),
    "a network of ten million layers": ("model.num_layers", 10**7),
    "no node": ("model", {}),
    "a list": ("data", []),
    "a list that unfolds to 10^20 items": ("model.embed_dim", UNFOLDING),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_planted_does_not_run(ours: dict[str, Any], marker: Path, plant: str) -> None:
    torch.save({"bomb": Bomb(marker)}, "bomb.pt")
    with pytest.raises(UserError) as refused:
        restored(planted(ours, *PLANTS[plant]), marker.parent)
    assert len(str(refused.value).splitlines()) == 1


def test_a_command_refuses_it_and_imports_nothing(ours: dict[str, Any], marker: Path) -> None:
    torch.save(planted(ours, "model", {"_target_": "evil.Net"}), "planted.ckpt")
    command = [sys.executable, "-m", "genoseq.evaluate", "ckpt=planted.ckpt", "hydra.run.dir=evaluated"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("genoseq: 'evil.Net' is neither in genoseq nor in a package of trust=")


class Bomb:
    """Makes a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_with_code(ours: dict[str, Any], tmp_path: Path, marker: Path) -> None:
    torch.save(ours | {"extra": Bomb(marker)}, zipped := tmp_path / "zip.ckpt")
    (bare := tmp_path / "bare.ckpt").write_bytes(pickle.dumps(Bomb(marker), protocol=2))
    for path in (zipped, bare):
        with pytest.raises(UserError, match=f"ckpt={path} cannot be read"):
            load_checkpoint(str(path))
        with suppress(RuntimeError):  # the bare one is no checkpoint, which torch finds out too late
            torch.load(path, weights_only=False)
        marker.unlink()  # so the code works where pickle is trusted


@pytest.mark.parametrize(
    ("name", "weight"),
    [("head.bias", None), ("more", torch.zeros(3)), ("head.bias", torch.zeros(1, 5)), ("head.bias", [0.0] * 5)],
    ids=["absent", "another", "another shape", "no tensor"],
)
def test_weights_of_another_network(ours: dict[str, Any], tmp_path: Path, name: str, weight: Any) -> None:
    checkpoint = copy.deepcopy(ours)
    checkpoint["state_dict"][f"net.{name}"] = weight
    if weight is None:
        del checkpoint["state_dict"][f"net.{name}"]
    with pytest.raises(UserError, match="not those of the network that it describes"):
        restored(checkpoint, tmp_path)


def test_a_small_file_cannot_claim_large_tensors(ours: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = planted(ours, "model.hidden_size", 10**6)
    with torch.device("meta"):
        net = LSTM(5, embed_dim=4, hidden_size=10**6)
    shapes = {name: weight.shape for name, weight in net.state_dict().items()}
    checkpoint["state_dict"] |= {f"net.{name}": torch.zeros(1).expand(shape) for name, shape in shapes.items()}
    with pytest.raises(UserError, match="larger network than it holds"):
        restored(checkpoint, tmp_path)
    quantised = torch.quantize_per_tensor(torch.zeros(5), 1.0, 0, torch.qint8)
    for bias in (torch.empty(5, device="meta"), torch.zeros(5).to_sparse(), quantised):
        checkpoint["state_dict"]["net.head.bias"] = bias
        with pytest.raises(UserError, match="was not written by genoseq"):
            restored(checkpoint, tmp_path)


@pytest.mark.parametrize("kind", ["missing", "folder", "text", "tensor", "plain dict", "cut short", "compressed"])
def test_a_file_that_is_no_checkpoint_of_ours(ours: dict[str, Any], tmp_path: Path, kind: str) -> None:
    torch.save(ours | {"zeros": torch.zeros(10**6)}, good := tmp_path / "good.ckpt")
    path = tmp_path / "theirs.ckpt"
    if kind == "folder":
        path.mkdir()
    elif kind in ("tensor", "plain dict"):
        torch.save(torch.zeros(3) if kind == "tensor" else {"state_dict": {"weight": torch.zeros(3)}}, path)
    elif kind in ("text", "cut short"):
        path.write_bytes(b"these are no weights\n" if kind == "text" else good.read_bytes()[:-200])
    elif kind == "compressed":  # it may unfold to gigabytes
        with ZipFile(good) as whole, ZipFile(path, "w", ZIP_DEFLATED) as small:
            for name in whole.namelist():
                small.writestr(name, whole.read(name))
    with pytest.raises(UserError, match=f"ckpt={path}"):
        load_checkpoint(str(path))


@pytest.mark.parametrize(
    "path", ["state_dict", "global_step", "genoseq.format", "genoseq.config.model", "genoseq.vocabulary.k"]
)
def test_a_part_is_missing(ours: dict[str, Any], tmp_path: Path, path: str) -> None:
    checkpoint = copy.deepcopy(ours)
    *parents, last = path.split(".")
    del functools.reduce(dict.__getitem__, parents, checkpoint)[last]
    with pytest.raises(UserError, match="was not written by genoseq"):
        restored(checkpoint, tmp_path)


NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, vocab_size, width=4, on_meta=True):
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 1, 3)] if not on_meta else []
        self.table = nn.Embedding(vocab_size, width)
        self.head = nn.Linear(width, vocab_size)
        self.head.weight = nn.Parameter(torch.ones(vocab_size, width))
        self.register_buffer("scale", torch.arange(1, width + 1).float(), persistent=False)

    def forward(self, tokens, state=None):
        return self.head(self.table(tokens) * self.scale), state
"""


@pytest.mark.parametrize("on_meta", [True, False], ids=["built on meta", "needs values"])
def test_a_stranger_s_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_meta: bool) -> None:
    (tmp_path / "strange.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "strange", raising=False)
    checkpoint = trained(model={"_target_": "strange.Net", "width": 3, "on_meta": on_meta})
    monkeypatch.delitem(sys.modules, "strange")
    with pytest.raises(UserError, match=r"add trust=\[strange\]"):
        restored(checkpoint, tmp_path)
    assert "strange" not in sys.modules
    net = restored(checkpoint, tmp_path, trust=("strange",))
    scale: Any = net.scale
    assert torch.equal(scale, torch.tensor([1.0, 2.0, 3.0]))  # a buffer that no file holds
    assert torch.equal(net.state_dict()["table.weight"], checkpoint["state_dict"]["net.table.weight"])


def test_every_path_is_recorded_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    text = (FILES / "hpylori_start.txt").read_text()
    for name in ("a.fa", "b1.fa", "b2.fa", "c.fa", "hpylori"):
        (tmp_path / name).write_text(f">{name}\n{text}\n")
    (tmp_path / "parts.bed").write_text("a.fa\t0\t3000\ttrain\na.fa\t4000\t6000\ttest\n")
    (tmp_path / "mine").mkdir()
    split = ("data/split=bed", "data.split.file=parts.bed", "data.genome_dir=mine")
    cfg = configured("data.genome=[a.fa,'b?.fa','~/c.fa',hpylori]", *split)
    data = build.build_data(cfg.data)
    _ = data.parts
    recorded = checkpoint_metadata(cfg, data)["config"]["data"]
    assert recorded["genome"] == [*(str(tmp_path / f) for f in ("a.fa", "b1.fa", "b2.fa", "c.fa")), "hpylori"]
    assert recorded["split"]["file"] == str(tmp_path / "parts.bed")
    assert recorded["genome_dir"] == str(tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    again = restore_data({"config": {"data": recorded}})
    assert again.genome.sha256 == data.genome.sha256
    assert all((again.parts.of(s) == data.parts.of(s)).all() for s in ("train", "val", "test"))


def test_a_list_in_one_text_and_record_names_that_are_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        shutil.copy(FILES / "hpylori_start.txt", f"{name}.fa")
    Path("a").mkdir()  # a record is called so, too
    cfg = configured("data.genome='a.fa,b.fa'", "data/split=records", "data.split.test=[a]")
    recorded = checkpoint_metadata(cfg, build.build_data(cfg.data))["config"]["data"]
    assert recorded["genome"] == [str(tmp_path / "a.fa"), str(tmp_path / "b.fa")]
    assert recorded["split"]["test"] == ["a"]


def test_a_stranger_s_cache_is_read_not_written(ours: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    metadata = planted(ours, "data.cache_dir", str(tmp_path / "theirs"))["genoseq"]
    data = restore_data(metadata)
    assert data.cache_dir is None and data.genome_dir == str(tmp_path / "theirs")
    gone = planted(ours, "data.genome_dir", str(tmp_path / "gone"))["genoseq"]
    assert restore_data(gone).genome_dir is None
    given = restore_data(metadata, genome_dir=str(tmp_path), cache_dir=str(tmp_path))
    assert (given.genome_dir, given.cache_dir) == (str(tmp_path), str(tmp_path))


# ---- resuming -------------------------------------------------------------------------------------------------------

OTHER = "data.genome=" + str(FILES / "klebsiella_plasmids.fa.gz")
REFUSED: dict[tuple[str, ...], str] = {
    ("model.hidden_size=16",): r"holds a different network \(trained with model.hidden_size=8\). Use the same model",
    ("model.num_layers=2", "model.embed_dim=5"): r"model.embed_dim=4, model.num_layers=1",
    ("data=kmer", "data.k=3"): r"\(CharTokenizer, k=1, stride=1\) than the config has \(KmerTokenizer, k=3",
    (OTHER,): r"genome 'hpylori_start'.*'klebsiella_plasmids'",
    ("trainer.max_steps=1",): r"at step 2 already; raise trainer.max_steps=1 to resume",
}


def resume(ours: dict[str, Any], folder: Path, *overrides: str) -> int | None:
    torch.save(ours, path := folder / "last.ckpt")
    cfg = configured(f"ckpt='{path}'", *overrides)
    return resumed_step(cfg, build.build_module(cfg, build.build_data(cfg.data)), folder / "new")


@pytest.mark.parametrize("overrides", REFUSED, ids=["units", "layers", "tokens", "genome", "steps"])
def test_a_checkpoint_that_does_not_match(ours: dict[str, Any], tmp_path: Path, overrides: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=REFUSED[overrides]):
        resume(ours, tmp_path, *overrides)


def test_a_checkpoint_that_matches(ours: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert resume(ours, tmp_path) == 2
    assert not caplog.messages
    assert resume(ours, tmp_path, "optimizer.lr=0.5", "seed=3", "data.genome_dir=.") == 2
    assert caplog.messages == ["Resuming with other settings than the checkpoint's: data.seed, optimizer.lr, seed."]


def test_other_weights_and_a_schedule_of_another_length(ours: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = copy.deepcopy(ours)
    checkpoint["state_dict"]["net.head.bias"] = torch.zeros(7)
    with pytest.raises(UserError, match=r"network \(head.bias is \(7,\) in the file, \(5,\) in the network"):
        resume(checkpoint, tmp_path)
    with pytest.raises(UserError, match=r"laid out for 4 steps; give trainer.max_steps=4"):
        resume(trained("scheduler=onecycle"), tmp_path, "scheduler=onecycle", "trainer.max_steps=8")
