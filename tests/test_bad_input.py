"""What a user gets wrong: one sentence that names the place, exit code 2, and nothing written over.

A few of each kind, as a config says them; tests/data and tests/app have the rest.
"""

import os
import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from composed import compose

from genoseq.app import build
from genoseq.data import fetch
from genoseq.errors import UserError

FILES = Path(__file__).parent / "data" / "files"
LETTERS = FILES / "hpylori_start.txt"  # 6,000 bases in one record, hpylori_start
PLASMIDS = FILES / "klebsiella_plasmids.fa.gz"
RECA = "MAIDENKQKALAAALGQIEKQFGKGSIMRLGEDRSMDVETISTGSLSLDIALGAGGLPMGRIVEIYGPESSGKTTLTLQVIAAAQREGKTCAFIDAEHALDP"


def sentence(ran: Any, *places: object) -> str:
    """Check that a command ended with one sentence that names the places; return it."""
    assert ran.code == 2, ran.err
    assert "Traceback" not in ran.err + ran.out
    lines = ran.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("genoseq: "), ran.err
    missing = [str(place) for place in places if str(place) not in lines[0]]
    assert not missing, f"{missing} not in: {lines[0]}"
    return str(lines[0])


def content(folder: Path) -> dict[str, bytes]:
    """Return what a folder holds, but for what every start of a command leaves."""
    own = ("train.log", "evaluate.log", ".lock", "failed.json")
    files = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
    return {name: file.read_bytes() for name, file in files.items() if name not in own}


@pytest.fixture
def refused(tiny: tuple[str, ...], tmp_path: Path) -> Callable[..., None]:
    """A function from overrides of a tiny run, and what the refusal says, to whether building it is refused so."""

    def run(*overrides: object, says: tuple[object, ...]) -> None:
        with pytest.raises(UserError) as error:
            cfg = compose(*tiny, f"data.genome={LETTERS}", *map(str, overrides))
            build.check_steps(cfg.trainer)
            data = build.build_data(cfg.data)
            data.setup("fit")
            module = build.build_module(cfg, data)
            build.build_trainer(cfg, tmp_path / "run", build.build_loggers(cfg, tmp_path / "run", None))
            module.configure_optimizers()
        said = str(error.value)
        assert "\n" not in said
        missing = [str(place) for place in says if str(place) not in said]
        assert not missing, f"{missing} not in: {said}"

    return run


# ---- the genome and its split ----------------------------------------------------------------------------------------


GENOMES: dict[str, tuple[bytes | None, tuple[str, ...]]] = {
    "missing.fa": (None, ("is no file, named genome or accession",)),
    "cut.fa.gz": (PLASMIDS.read_bytes()[:1500], ("is cut short",)),
    "protein.fa": (f">recA\nAC\n{RECA}\n".encode(), ("line 3", "'recA'", "protein")),
}


@pytest.mark.parametrize("name", GENOMES)
def test_a_file_that_is_no_genome(refused: Callable[..., None], tmp_path: Path, name: str) -> None:
    (before, says), path = GENOMES[name], tmp_path / name
    if before is not None:
        path.write_bytes(before)
    refused(f"data.genome=[{LETTERS},{path}]", says=(path, *says))
    assert before is None or path.read_bytes() == before


def test_no_network(refused: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(fetch, "SPACING", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening: refused at once
        monkeypatch.setenv("GENOSEQ_EFETCH_URL", f"http://127.0.0.1:{taken.getsockname()[1]}/efetch.fcgi")
        refused("data.genome=NC_999999.1", f"data.cache_dir={tmp_path / 'c'}", says=("NC_999999.1", "no connection"))


def test_a_bed_file_that_does_not_fit(
    refused: Callable[..., None], run_verb: Callable[..., Any], tiny: tuple[str, ...], tmp_path: Path
) -> None:
    (bed := tmp_path / "parts.bed").write_text(
        "hpylori_start\t0\t3000\ttrain\n# a note\nhpylori_start\t2999\t5000\ttest\n"
    )
    refused("data/split=bed", f"data.split.file={bed}", says=(bed, "lines 1 and 3 overlap"))
    sentence(run_verb("train", tmp_path / "run", *tiny, "data/split=bed"), "data.split.file")


# ---- values ---------------------------------------------------------------------------------------------------------

VALUES: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (("data=kmer", "data.k=11"), ("data.k", "from 1 to 10", "got 11")),
    (("data.k=3",), ("data.k=3", "data=kmer")),
    (("data.split.test=0.6", "data.split.val=0.4"), ("data.split.val", "data.split.test=0.6", "got 0.4")),
    (("data/split=records", "data.split.test=[pNONE]"), ("data.split.test", "'pNONE'", "hpylori_start")),
    (("data.seq_len=long",), ("data.seq_len", "got long")),
    (("data.seq_len=6000",), (str(LETTERS), "'hpylori_start'", "6,000", "6,001", "data.seq_len")),
    (("data.seq_len=300",), (str(LETTERS), "the val part", "300", "301", "data.seq_len")),
    (("data.genome=[]",), ("data.genome",)),
    (("seed=x",), ("seed", "got x")),
    *(((f"trainer.max_steps={steps}",), ("trainer.max_steps must be", f"got {steps}")) for steps in (0, -1, "abc")),
    (("trainer.precision=7",), ("trainer", "Precision '7'")),
    (("trainer.accelerator=abacus",), ("trainer", "abacus")),
    (("trainer.devices=0",), ("trainer", "devices=0")),
    (("model.hidden_size=0",), ("LSTM", "hidden_size")),
    (("+model.heads=3",), ("LSTM", "'heads'")),
    (("optimizer.lr=-1",), ("optimizer", "learning rate: -1")),
    (("optimizer=sgd", "optimizer.momentum=-1"), ("optimizer", "momentum value: -1")),
    (("scheduler.pct_start=3",), ("scheduler", "pct_start")),
    (("model._target_=torch.nn.Nothing",), ("torch.nn.Nothing",)),
    (("model._target_=my.network.Net",), ("my.network.Net",)),
    (("model._target_=builtins.dict",), ("'builtins.dict' gives a dict, but a Module is needed",)),
    (("data._target_=builtins.dict",), ("'builtins.dict' gives a dict, but a GenomeData is needed",)),
    (("model._target_=os.system",), ("os.system", "blocklisted")),  # by Hydra
]


@pytest.mark.parametrize(("overrides", "says"), VALUES, ids=[" ".join(o) for o, _ in VALUES])
def test_a_value_that_cannot_be(
    refused: Callable[..., None], overrides: tuple[str, ...], says: tuple[str, ...]
) -> None:
    refused(*overrides, says=says)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_that_is_not_installed(refused: Callable[..., None], name: str) -> None:
    if find_spec(name) is not None:
        pytest.skip(f"{name} is installed")
    refused(f"logger={name}", says=(name, "pip install"))


def test_a_refused_command(run_verb: Callable[..., Any], tiny: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    sentence(run_verb("train", folder, *tiny, f"data.genome={LETTERS}", "data.split.test=2"), "data.split.test")
    assert {name.split("/")[0] for name in content(folder)} == {".hydra"}


@pytest.mark.parametrize("override", ["model.hiden_size=3", "model=rnn9", "nothing.at.all=1", "data/split=fair"])
def test_an_unknown_override_is_refused_by_hydra(
    run_verb: Callable[..., Any], tiny: tuple[str, ...], tmp_path: Path, override: str
) -> None:
    ran = run_verb("train", tmp_path / "run", *tiny, override)
    assert ran.code != 0 and "Traceback" not in ran.err
    assert override.split("=")[0] in ran.err.replace("data/split/", "data/split")
    assert not (tmp_path / "run").exists()


def test_an_error_of_ours_keeps_its_traceback(
    run_verb: Callable[..., Any], tiny: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr(build, "build_module", broken)
    ran = run_verb("train", tmp_path / "run", *tiny, f"data.genome={LETTERS}")
    assert ran.code == 1 and "Traceback" in ran.err and "a defect" in ran.err


# ---- checkpoints and output folders (tests/app/test_checkpoint.py has the rest) --------------------------------------


def test_commands_that_have_a_checkpoint(run_verb: Callable[..., Any], tiny: tuple[str, ...], tmp_path: Path) -> None:
    config, run = (*tiny, f"data.genome={LETTERS}", "scheduler=none"), tmp_path / "run"
    assert run_verb("train", run, *config).code == 0
    before, ckpt = content(run), run / "checkpoints" / "last.ckpt"
    other = ("trainer.max_steps=8", "model.hidden_size=8", f"ckpt={ckpt}")
    sentence(run_verb("train", tmp_path / "new", *config, *other), f"ckpt={ckpt}", "model.hidden_size=16")
    sentence(run_verb("train", run, *config, *other), run, "other settings", "model.hidden_size=16 (now 8)")
    sentence(run_verb("evaluate", tmp_path / "evaluated"), "ckpt=")
    (empty := tmp_path / "empty.fa").touch()
    sentence(run_verb("evaluate", tmp_path / "evaluated", f"ckpt={ckpt}", f"data.genome={empty}"), empty, "is empty")
    assert content(run) == before


def test_a_folder_that_cannot_be_made(run_verb: Callable[..., Any], tiny: tuple[str, ...], tmp_path: Path) -> None:
    (taken := tmp_path / "taken").write_text("a file")
    for folder in (taken, taken / "below"):
        sentence(run_verb("train", folder, *tiny, f"data.genome={LETTERS}"), folder, "hydra.run.dir")
    assert taken.read_text() == "a file"


def test_a_folder_that_may_not_be_written(run_verb: Callable[..., Any], tiny: tuple[str, ...], tmp_path: Path) -> None:
    (folder := tmp_path / "theirs").mkdir(mode=0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write every folder")
    sentence(run_verb("train", folder, *tiny, f"data.genome={LETTERS}"), folder, "hydra.run.dir")
