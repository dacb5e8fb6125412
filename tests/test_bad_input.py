"""What a user gets wrong: one sentence that names the place, exit code 2, and nothing written over."""

import gzip
import os
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from composed import compose

from genoseq.app import build
from genoseq.app.checkpoint import load_checkpoint
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


@pytest.fixture(scope="module")
def run(run_verb: Callable[..., Any], tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("bad") / "run"
    ran = run_verb("train", folder, *tiny, f"data.genome={LETTERS}", "scheduler=none")
    assert ran.code == 0, ran.err
    return folder


# ---- the genome -----------------------------------------------------------------------------------------------------


def junk(path: Path) -> None:
    path.write_bytes(bytes(range(128, 256)) * 30)


def cut_short(path: Path) -> None:
    path.write_bytes(PLASMIDS.read_bytes()[:1500])


GENOMES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "missing.fa": (lambda path: None, ("is no file, named genome or accession",)),
    "empty.fa": (Path.touch, ("is empty",)),
    "empty.fa.gz": (lambda path: path.write_bytes(gzip.compress(b"")), ("is empty",)),
    "folder": (Path.mkdir, ("is a folder",)),
    "headers.fa": (lambda path: path.write_text(">one\n>two\n"), ("'two'", "only headers")),
    "cut.fa.gz": (cut_short, ("is cut short",)),
    "no.fa.gz": (lambda path: path.write_bytes(b"\x1f\x8b" + b"nonsense" * 9), ("cannot be read",)),
    "protein.fa": (lambda path: path.write_text(f">recA\nAC\n{RECA}\n"), ("line 3", "'recA'", "protein")),
    "junk.fa": (junk, ("line 1", "0x80", "not text")),
}


@pytest.mark.parametrize("name", GENOMES)
def test_a_file_that_is_no_genome(refused: Callable[..., None], tmp_path: Path, name: str) -> None:
    write, says = GENOMES[name]
    path = tmp_path / name
    write(path)
    before = path.read_bytes() if path.is_file() else None
    refused(f"data.genome={path}", says=(path, *says))
    assert before is None or path.read_bytes() == before


def test_a_file_that_may_not_be_read(refused: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "mine.fa"
    path.write_text(">one\nACGT\n")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")
    refused(f"data.genome={path}", says=(path, "may not be read"))


def test_one_bad_file_of_two_is_named(refused: Callable[..., None], tmp_path: Path) -> None:
    (bad := tmp_path / "bad.fa").write_text(">one\nACGT\n>two\nAC-GT\n")
    refused(f"data.genome=[{LETTERS},{bad}]", says=(f"{bad}, line 4", "'two'", "'-'"))


def test_a_record_shorter_than_a_window(refused: Callable[..., None]) -> None:
    refused("data.seq_len=6000", says=(LETTERS, "'hpylori_start'", "6,000", "6,001", "data.seq_len"))


def test_a_part_shorter_than_a_window(refused: Callable[..., None]) -> None:
    refused("data.seq_len=300", says=(LETTERS, "the val part", "300", "301", "data.seq_len"))


def test_an_accession_that_nobody_knows(
    refused: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, knows_nothing: str
) -> None:
    monkeypatch.setenv("GENOSEQ_EFETCH_URL", knows_nothing)
    refused("data.genome=NC_999999.1", f"data.cache_dir={tmp_path / 'c'}", says=("NC_999999.1", "knows no", "400"))
    assert not list((tmp_path / "c").glob("*.fa"))


def test_no_network(refused: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening: refused at once
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/efetch.fcgi"
        monkeypatch.setenv("GENOSEQ_EFETCH_URL", url)
        refused("data.genome=NC_999999.1", f"data.cache_dir={tmp_path / 'c'}", says=("NC_999999.1", "no connection"))


@pytest.fixture(autouse=True)
def quick_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(fetch, "SPACING", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("NCBI_API_KEY", raising=False)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)


@pytest.fixture
def knows_nothing() -> Iterator[str]:
    """The address of a server that answers as NCBI's does to an accession that does not exist."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(400)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/efetch.fcgi"
    server.shutdown()
    server.server_close()
    thread.join()


# ---- values ---------------------------------------------------------------------------------------------------------

VALUES: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    *(
        (("data=kmer", f"data.k={k}"), ("data.k", "from 1 to 10", f"got {k}"))
        for k in ("0", "11", "400", "2.5", "four")
    ),
    (("data=kmer", "data.stride=0"), ("data.stride", "got 0")),
    (("data.k=3",), ("data.k=3", "data=kmer")),
    *(((f"data.split.test={share}",), ("data.split.test", f"got {share}")) for share in ("0", "-0.2", "1")),
    (("data/split=blocks", "data.split.test=1.5"), ("data.split.test", "got 1.5")),
    (("data/split=random_windows", "data.split.test=0"), ("data.split.test", "got 0")),
    (("data.split.val=0",), ("data.split.val", "got 0")),
    (("data.split.test=0.6", "data.split.val=0.4"), ("data.split.val", "data.split.test=0.6", "got 0.4")),
    (("data.seq_len=0",), ("data.seq_len", "got 0")),
    (("data.seq_len=long",), ("data.seq_len", "got long")),
    (("data.batch_size=0",), ("data.batch_size", "got 0")),
    (("data.genome=[]",), ("data.genome",)),
    (("seed=x",), ("seed", "got x")),
    *(((f"trainer.max_steps={steps}",), (f"trainer.max_steps={steps}",)) for steps in (0, -1)),
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


# ---- the split ------------------------------------------------------------------------------------------------------


def test_a_record_that_the_genome_does_not_have(refused: Callable[..., None]) -> None:
    words = ("data.split.test", "'pNONE'", "CP003226.1, CP003227.1, CP003228.1")
    refused(f"data.genome={PLASMIDS}", "data/split=records", "data.split.test=[pNONE]", says=words)


def test_no_record_named(refused: Callable[..., None]) -> None:
    refused("data/split=records", "data.split.test=[]", says=("data.split.test=[NAME",))


BEDS = {
    "overlap": (
        "hpylori_start\t0\t3000\ttrain\n# a note\nhpylori_start\t2999\t5000\ttest\n",
        ("lines 1 and 3 overlap",),
    ),
    "record": ("hpylori_start\t0\t3000\ttrain\nother\t0\t10\ttest\n", ("line 2", "'other'")),
    "outside": ("hpylori_start\t0\t6001\ttrain\n", ("line 1", "0-6001", "6,000")),
    "backwards": ("hpylori_start\t100\t100\ttrain\n", ("line 1", "100-100")),
    "blanks": ("hpylori_start 0 3000 train\n", ("line 1", "tabs")),
    "stage": ("hpylori_start\t0\t3000\tholdout\n", ("line 1", "train, val or test")),
    "no test": ("hpylori_start\t0\t3000\ttrain\n", ("no test line",)),
}


@pytest.mark.parametrize("name", BEDS)
def test_a_bed_file_that_does_not_fit(refused: Callable[..., None], tmp_path: Path, name: str) -> None:
    text, words = BEDS[name]
    (bed := tmp_path / "parts.bed").write_text(text)
    refused("data/split=bed", f"data.split.file={bed}", says=(bed, *words))


def test_no_bed_file(
    refused: Callable[..., None], run_verb: Callable[..., Any], tiny: tuple[str, ...], tmp_path: Path
) -> None:
    sentence(run_verb("train", tmp_path / "run", *tiny, "data/split=bed"), "data.split.file")
    refused("data/split=bed", f"data.split.file={tmp_path / 'no.bed'}", says=(tmp_path / "no.bed", "cannot be read"))


# ---- checkpoints (tests/app/test_checkpoint.py has the rest) --------------------------------------------------------


def foreign(kind: str, path: Path, good: Path) -> None:
    if kind == "plain dict":
        torch.save({"state_dict": {"weight": torch.zeros(3)}}, path)
    elif kind == "tensor":
        torch.save(torch.zeros(3), path)
    elif kind == "text":
        path.write_text("these are no weights\n")
    elif kind == "cut short":
        path.write_bytes(good.read_bytes()[:-200])
    elif kind == "folder":
        path.mkdir()


@pytest.mark.parametrize("kind", ["missing", "folder", "plain dict", "tensor", "text", "cut short"])
def test_a_checkpoint_that_is_not_ours(run: Path, tmp_path: Path, kind: str) -> None:
    foreign(kind, path := tmp_path / "theirs.ckpt", run / "checkpoints" / "last.ckpt")
    with pytest.raises(UserError, match=f"ckpt={path}"):
        load_checkpoint(str(path))


def test_commands_that_have_a_checkpoint(
    run_verb: Callable[..., Any], tiny: tuple[str, ...], run: Path, tmp_path: Path
) -> None:
    config, ckpt = (*tiny, f"data.genome={LETTERS}", "scheduler=none"), run / "checkpoints" / "last.ckpt"
    before = content(run)
    other = ("trainer.max_steps=8", "model.hidden_size=8", f"ckpt={ckpt}")
    sentence(run_verb("train", tmp_path / "new", *config, *other), f"ckpt={ckpt}", "model.hidden_size=16")
    sentence(run_verb("train", run, *config, *other), run, "other settings", "model.hidden_size=16 (now 8)")
    sentence(run_verb("evaluate", tmp_path / "evaluated"), "ckpt=")
    (empty := tmp_path / "empty.fa").touch()
    sentence(run_verb("evaluate", tmp_path / "evaluated", f"ckpt={ckpt}", f"data.genome={empty}"), empty, "is empty")
    assert content(run) == before


# ---- the output folder ----------------------------------------------------------------------------------------------


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
