"""Ranks that torchrun or srun starts, each composing its own config, share one folder and train as one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from genoseq.app.run_folder import new_run_dir, shared_name
from genoseq.app.runtime import is_main_process
from genoseq.errors import UserError

GENOME = f"data.genome={Path(__file__).parent / 'data' / 'files' / 'hpylori_start.txt'}"
RANKS = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name in RANKS or name.startswith("SLURM_")]:
        monkeypatch.delenv(name)


def environment(**variables: object) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"} | {name: str(value) for name, value in variables.items()}


def words(tiny: tuple[str, ...], *more: str) -> list[str]:
    return ["-m", "genoseq.train", *tiny, "trainer=ddp_cpu", "data.carry_tokens=64", GENOME, *more]


def only_result(outputs: Path) -> tuple[str, dict]:
    """Return the one run's folder and figures; nothing else is there."""
    (folder,) = outputs.iterdir()
    found = json.loads((folder / "result.json").read_text())
    assert (folder / ".hydra" / "config.yaml").is_file() and found["train/steps"] == 4
    return folder.name, {name: value for name, value in found.items() if name.startswith(("val/", "test/"))}


def torchrun(folder: Path, tiny: tuple[str, ...], *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", *options, "--nproc-per-node=2", *words(tiny)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment(), timeout=120)


def srun(folder: Path, tiny: tuple[str, ...], nodes: int, port: int) -> None:
    """Start two ranks as srun does, on one node or two."""
    each = 2 // nodes
    shared = {"SLURM_NTASKS": 2, "SLURM_NTASKS_PER_NODE": each, "SLURM_NNODES": nodes, "SLURM_JOB_NAME": "x"}
    shared |= {"SLURM_JOB_ID": 4242, "SLURM_STEP_ID": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, *words(tiny, f"trainer.devices={each}", f"trainer.num_nodes={nodes}")]
    ranks = [
        subprocess.Popen(
            command,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(SLURM_PROCID=rank, SLURM_LOCALID=rank % each, SLURM_NODEID=rank // each, **shared),
        )
        for rank in (0, 1)
    ]
    out = [rank.communicate(timeout=120)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], out
    assert "files:" in out[0] and "files:" not in out[1]


@pytest.mark.slow
def test_one_folder_and_the_same_figures(tiny: tuple[str, ...], tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("torchrun", "srun")]
    for place in places:
        place.mkdir()
    ended = torchrun(places[0], tiny, "--standalone")
    assert ended.returncode == 0 and ended.stdout.count("files:") == 1, ended.stdout + ended.stderr
    srun(places[1], tiny, nodes=2, port=29642)  # on one node: see test_submitit.py
    found = [only_result(place / "outputs") for place in places]
    assert found[0][0].startswith("torchrun-") and found[1][0] == "slurm-4242.1-train"
    assert found[0][1] == found[1][1]


@pytest.mark.slow
def test_torchrun_without_a_name_is_refused(tiny: tuple[str, ...], tmp_path: Path) -> None:
    ended = torchrun(tmp_path, tiny, "--rdzv-backend=static", "--master-port=29643")
    assert ended.returncode and "--rdzv-id" in ended.stderr and not list(tmp_path.iterdir())


def test_what_a_folder_is_called_after(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shared_name() is None
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert shared_name() is None  # a batch script's own processes: no srun between
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    assert shared_name() == "slurm-7.0" and new_run_dir("outputs", "command") == "outputs/slurm-7.0-command"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "my/run 1")  # inside SLURM, torchrun's name counts
    assert shared_name() == "torchrun-my_run_1"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(UserError, match="--rdzv-id"):
        shared_name()


@pytest.mark.parametrize("name", ["LOCAL_RANK", "RANK", "SLURM_PROCID"])
def test_the_first_process_of_a_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_main_process()
    monkeypatch.setenv(name, "0")
    assert is_main_process()
    monkeypatch.setenv(name, "1")
    assert not is_main_process()
