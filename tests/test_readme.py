"""Every command of the README runs: as written, but for sizes and the names of the reader's own files."""

import gzip
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
LINES = [
    shlex.split(line, comments=True)
    for page in (ROOT / "README.md", ROOT / "docs" / "cluster.md", ROOT / "docs" / "search.md")
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.S)
    for line in block.splitlines()
    if line.strip() and not line.startswith("#")
]
# test_trust.py has the section on a network of one's own
COMMANDS = [
    " ".join(c) for c in LINES if c[:2] == ["python", "-m"] and "--config-dir" not in c and "trust=" not in " ".join(c)
]
# what stands for a file of the reader's
OWN = {
    "my.fasta.gz": str(FILES / "klebsiella_plasmids.fa.gz"),
    "[chromosome.fa,plasmids.fa]": f"[{FILES / 'hpylori_start.txt'},{FILES / 'klebsiella_plasmids.fa.gz'}]",
    "[pKPHS1]": "[CP003226.1]",
    "other.fa": str(FILES / "klebsiella_pKPHS6.fa"),
    "1400001-1400300": "CP003226.1:100-120",
}
CALLS = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\nCP003226.1\t100\t.\tN\t<DEL>\t.\t.\t.\n"


def test_the_readme_has_commands() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("line", [c for c in LINES if c[0] == "make"], ids=" ".join)
def test_make_knows_the_target(line: list[str]) -> None:
    assert re.search(rf"^{line[1]}:.*## ", (ROOT / "Makefile").read_text(), re.M)


@pytest.fixture(scope="module")
def trained(run_verb: Callable[..., Any], tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme") / "run"
    ran = run_verb("train", folder, *tiny, f"data.genome={OWN['my.fasta.gz']}")
    assert ran.code == 0, ran.err
    return folder


@pytest.fixture(scope="module")
def swept(run_verb: Callable[..., Any], tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme") / "sweep"
    arguments = [*tiny, f"data.genome={OWN['my.fasta.gz']}", "optimizer.lr=0.01,0.001", f"sweep.dir={folder}"]
    ran = run_verb("train", folder / "unused", "-m", *arguments, "hydra/launcher=basic")
    assert ran.code == 0, ran.err
    return folder


def filled_in(command: str, trained: Path, swept: Path) -> list[str]:
    """Return the arguments of a command with the reader's files filled in."""
    arguments = [a.replace("outputs/sweeps/DATE/TIME", str(swept)) for a in command.split(" ")[3:]]
    for name, ours in OWN.items():
        arguments = [a.replace(f"={name}", f"={ours}") for a in arguments]
    best = f"ckpt={trained / 'checkpoints' / 'best.ckpt'}"
    return [a.replace("outputs/DATE/TIME-train", str(trained)).replace("ckpt=best.ckpt", best) for a in arguments]


def keys(arguments: list[str]) -> set[str]:
    return {argument.split("=")[0] for argument in arguments}


def two_jobs(arguments: list[str]) -> list[str]:
    """Return a sweep's arguments with two values for the first key that varies and one for the others."""
    if "hparams_search=report" in arguments:
        arguments = [*arguments, "data.seq_len=10,50", "optimizer.lr=0.1", "model.embed_dim=8"]
    if "hparams_search=optuna" in arguments:
        return [a for a in arguments if "n_trials" not in a] + ["hydra.sweeper.n_trials=2"]
    varied, out = 0, []
    for argument in arguments:
        key, equals, values = argument.partition("=")
        several = equals and re.fullmatch(r"[\w.]+(,[\w.]+)+", values)
        out.append(f"{key}={','.join(values.split(',')[: 1 if varied else 2])}" if several else argument)
        varied += bool(several)
    return out


SWEEPS = [c for c in COMMANDS if "-m" in c.split(" ")[3:] or "hparams_search" in c or "genoseq.sweep" in c]


@pytest.mark.slow
@pytest.mark.parametrize("command", SWEEPS)
def test_the_sweep_runs(
    command: str, run_verb: Callable[..., Any], tiny: tuple[str, ...], swept: Path, trained: Path, tmp_path: Path
) -> None:
    if "submitit_slurm" in command:
        pytest.skip("needs SLURM; make test-slurm has it")
    for sign, package in {"=optuna": "optuna", "launcher=ray": "ray", "submitit": "submitit"}.items():
        if sign in command:
            pytest.importorskip(package)
    verb = command.split(" ")[2].removeprefix("genoseq.")
    arguments = filled_in(command, trained, swept)
    own = verb == "train" and "hparams_search=replicate" not in arguments
    if own:
        arguments = two_jobs(arguments)
        arguments += [a for a in tiny if a.split("=")[0] not in keys(arguments)]
        arguments += [f"data.genome={OWN['my.fasta.gz']}", f"sweep.dir={tmp_path / 'sweep'}"]
    if verb == "train" and "hydra/launcher" not in keys(arguments):
        arguments.append("hydra/launcher=basic")  # in this process; tests/sweeps has the others
    if "hydra/launcher=basic" in arguments or verb == "sweep":
        ran = run_verb(verb, tmp_path / "unused", *arguments)
        code, out = ran.code, ran.out
    else:
        line = [sys.executable, "-m", "genoseq.train", *arguments]
        done = subprocess.run(line, capture_output=True, text=True, timeout=300, cwd=tmp_path)
        code, out = done.returncode, done.stdout
    assert code == 0, out
    folder = tmp_path / "sweep" if own else swept
    assert len(list(folder.glob("*/result.json"))) in ((2,) if own else (2, 8))  # replicate: three seeds more of both
    assert (folder / "sweep.png").is_file() and "Best on validation" in out


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in SWEEPS])
def test_the_command_runs(
    command: str,
    run_verb: Callable[..., Any],
    tiny: tuple[str, ...],
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("genoseq.evaluation.tracks.SAMPLED", (8, 2000))  # two million bases take ten seconds
    if "trainer=ddp " in f"{command} ":
        pytest.skip("needs a GPU")
    if "data.genome=ecoli" in command:
        pytest.skip("fetches a genome; test_sources has it where GENOSEQ_GENOME_DIR names a folder with it")
    verb = command.split(" ")[2].removeprefix("genoseq.")
    arguments = filled_in(command, trained, tmp_path)
    if "variants=calls.vcf.gz" in arguments:
        (tmp_path / "calls.vcf.gz").write_bytes(gzip.compress(CALLS.encode()))
        arguments += [f"variants={tmp_path / 'calls.vcf.gz'}"]
    if verb == "sample":
        arguments.append("length=60")  # the genome is small
    if verb == "train":
        arguments += [a for a in tiny if a.split("=")[0] not in keys(arguments)]
    if "data.genome=NC_000913.3" in arguments:  # a file of that name stands for the download, which test_fetch has
        record = (FILES / "hpylori_softmasked.fa").read_text().split("\n", 1)[1]
        (tmp_path / "NC_000913.3.fa").write_text(f">NC_000913.3 part of a genome\n{record}")
        arguments.append(f"data.genome_dir={tmp_path}")
    elif verb == "train" and "data.genome" not in keys(arguments):
        arguments.append(f"data.genome={FILES / 'hpylori_softmasked.fa'}")
    if "trainer=ddp_cpu" in arguments:
        line = [sys.executable, "-m", f"genoseq.{verb}", *arguments, f"hydra.run.dir={tmp_path / 'run'}"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=300, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(list(tmp_path.glob("**/result.json"))) == 1
        return
    ran = run_verb(verb, tmp_path / "run", *arguments)
    extra = next((name for name in ("wandb", "mlflow") if f"logger={name}" in arguments), None)
    if extra and ran.code == 2:
        assert f"pip install 'genoseq[{extra}]'" in ran.err
        return
    assert ran.code == 0, ran.err
    result = {"train": "result.json", "evaluate": "evaluation.json"}.get(verb, f"{verb}.json")
    assert (ran.folder / result).is_file()
