"""Every command of the README runs: as written, but for sizes and the names of the reader's own files."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FILES = Path(__file__).parent / "data" / "files"
TEXT = (ROOT / "README.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.S)
    for line in block.splitlines()
    if line.strip() and not line.startswith("#")
]
VERBS = [" ".join(c) for c in COMMANDS if c[:2] == ["python", "-m"]]
# what stands for a file of the reader's
OWN = {
    "my.fasta.gz": str(FILES / "klebsiella_plasmids.fa.gz"),
    "[chromosome.fa,plasmids.fa]": f"[{FILES / 'hpylori_start.txt'},{FILES / 'klebsiella_plasmids.fa.gz'}]",
    "[pKPHS1]": "[CP003226.1]",
    "other.fa": str(FILES / "klebsiella_pKPHS6.fa"),
}


def test_the_readme_has_commands() -> None:
    assert len(VERBS) > 10


@pytest.mark.parametrize("command", [c for c in COMMANDS if c[0] == "make"], ids=" ".join)
def test_make_knows_the_target(command: list[str]) -> None:
    assert re.search(rf"^{command[1]}:.*## ", (ROOT / "Makefile").read_text(), re.M)


@pytest.fixture(scope="module")
def trained(run_verb: Callable[..., Any], tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme") / "run"
    ran = run_verb("train", folder, *tiny, f"data.genome={OWN['my.fasta.gz']}")
    assert ran.code == 0, ran.err
    return folder


@pytest.fixture(scope="module")
def swept(tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme") / "sweep"
    words = [*tiny, f"data.genome={OWN['my.fasta.gz']}", "optimizer.lr=0.01,0.001", f"sweep.dir={folder}"]
    subprocess.run([sys.executable, "-m", "genoseq.train", "-m", *words], check=True, capture_output=True, timeout=300)
    return folder


def words_of(command: str, trained: Path, swept: Path) -> list[str]:
    """Return the overrides of a README command with the reader's files filled in."""
    words = [w.replace("outputs/sweeps/DATE/TIME", str(swept)) for w in command.split(" ")[3:]]
    for name, ours in OWN.items():
        words = [w.replace(f"={name}", f"={ours}") for w in words]
    return [w.replace("outputs/DATE/TIME-train", str(trained)) for w in words]


def expected(words: list[str]) -> int | None:
    """Return how many runs a sweep's command leaves in a folder of its own; None if it works on one that is there."""
    if "sweep=replicate" in words or any(w.startswith("dir=") for w in words):
        return None
    return 2 if "sweep=optuna" in words or any(w.startswith("hydra/launcher=") for w in words) else 36


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in VERBS if "-m" in c.split(" ")[3:] or "sweep" in c])
def test_the_sweep_runs(command: str, tiny: tuple[str, ...], swept: Path, trained: Path, tmp_path: Path) -> None:
    module, words = command.split(" ")[2], words_of(command, trained, swept)
    if "hydra/launcher=submitit_slurm" in words:
        pytest.skip("needs SLURM; test_submitit has it with commands that stand in for SLURM's")
    for sign, package in {"sweep=optuna": "optuna", "launcher=ray": "ray", "submitit": "submitit"}.items():
        if sign in command:
            pytest.importorskip(package)
    runs = expected(words)
    if runs is not None:
        words = [w for w in words if "n_trials" not in w]
        words += ["hydra.sweeper.n_trials=2"] if "sweep=optuna" in words else []
        given = {w.split("=")[0] for w in words}
        given |= {"data.seq_len", "model.embed_dim"} if "sweep=report" in words else set()  # the sweep's own values
        words += [s for s in tiny if s.split("=")[0] not in given]
        words += [f"data.genome={OWN['my.fasta.gz']}", f"sweep.dir={tmp_path / 'sweep'}"]
        # in one process: thirty-six starts would take minutes, and test_local_pool starts processes
        words += [] if "hydra/launcher" in given else ["hydra/launcher=basic"]
    done = subprocess.run(
        [sys.executable, "-m", module, *words], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    folder = swept if runs is None else tmp_path / "sweep"
    found = len(list(folder.glob("*/result.json")))
    assert found in ((2, 6) if runs is None else (runs,))  # again: two seeds more of both
    assert (folder / "sweep.png").is_file() and "Best on validation" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in VERBS if "-m" not in c.split(" ")[3:] and "sweep" not in c])
def test_the_command_runs(
    command: str, run_verb: Callable[..., Any], tiny: tuple[str, ...], trained: Path, tmp_path: Path
) -> None:
    verb, words = command.split(" ")[2].removeprefix("genoseq."), words_of(command, trained, tmp_path)
    settings = (
        [] if verb == "evaluate" else [s for s in tiny if s.split("=")[0] not in {w.split("=")[0] for w in words}]
    )
    if "trainer=ddp" in words:
        pytest.skip("needs a GPU")
    if "data.genome=ecoli" in words:
        pytest.skip("fetches a genome; test_sources has it where GENOSEQ_GENOME_DIR names a folder with it")
    if "data.genome=NC_000913.3" in words:  # a file of that name stands for the download, which test_fetch has
        record = (FILES / "hpylori_softmasked.fa").read_text().split("\n", 1)[1]
        (tmp_path / "NC_000913.3.fa").write_text(f">NC_000913.3 a stretch\n{record}")
        settings.append(f"data.genome_dir={tmp_path}")
    elif verb == "train" and not any(w.startswith("data.genome=") for w in words):
        settings.append(f"data.genome={FILES / 'hpylori_softmasked.fa'}")
    if "trainer=ddp_cpu" in words:
        line = [sys.executable, "-m", f"genoseq.{verb}", *words, *settings, f"hydra.run.dir={tmp_path / 'run'}"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=300, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(list(tmp_path.glob("**/result.json"))) == 1
        return
    ran = run_verb(verb, tmp_path / "run", *words, *settings)
    extra = next((name for name in ("wandb", "mlflow") if f"logger={name}" in words), None)
    if extra and ran.code == 2:
        assert f"pip install 'genoseq[{extra}]'" in ran.err
        return
    assert ran.code == 0, ran.err
    assert (ran.folder / ("result.json" if verb == "train" else "evaluation.json")).is_file()
