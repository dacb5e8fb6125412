"""Fixtures of the sweeps' tests."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

GENOME = Path(__file__).parent.parent / "data" / "files" / "hpylori_softmasked.fa"


@pytest.fixture(scope="session")
def ray_started() -> Iterator[None]:
    """Ray with two GPUs and four cores as far as it knows, once for all tests: it takes seconds to start."""
    ray = pytest.importorskip("ray")
    from genoseq.sweeps.ray import RayCluster

    RayCluster(Path(), num_gpus=2, num_cpus=4).connect()
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def command() -> Callable[..., list[str]]:
    """A function from a sweep's folder and overrides to its command."""

    def make(folder: Path, *overrides: str, command: str = "train") -> list[str]:
        own = command == "train" and not any(text.endswith("=replicate") for text in overrides)
        genome = [f"data.genome={GENOME}"] if own else []
        # flags such as --config-path go before Hydra's overrides
        flags = list(overrides[:2]) if overrides[0].startswith("--") else []
        settings = [*genome, *overrides[len(flags) :], f"sweep.dir={folder}"]
        return [sys.executable, "-m", f"genoseq.{command}", *flags, "-m", *settings]

    return make


@pytest.fixture(scope="session")
def launch(command: Callable[..., list[str]]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function from a sweep's folder and overrides to how its command ended."""

    def call(folder: Path, *overrides: str, **more: str) -> subprocess.CompletedProcess[str]:
        line = command(folder, *overrides, **more)
        return subprocess.run(line, capture_output=True, text=True, timeout=300, cwd=folder.parent)

    return call
