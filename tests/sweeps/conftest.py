"""Fixtures of the sweeps' tests."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stub_jobs import GENOME


@pytest.fixture(scope="session")
def ray_started() -> Iterator[None]:
    """Ray with two GPUs and four cores as far as it knows, once for all tests: it takes seconds to start."""
    ray = pytest.importorskip("ray")
    from genoseq.sweeps.ray import RayCluster

    RayCluster(Path(), num_gpus=2, num_cpus=4).connect()
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def launch(run_verb: Callable[..., Any]) -> Callable[..., Any]:
    """A function from a sweep's folder and overrides to how its command ended; the launcher runs in this process."""

    def call(folder: Path, *overrides: str, command: str = "train") -> Any:
        genome = [f"data.genome={GENOME}"] if command == "train" else []
        return run_verb(command, folder, *overrides, *genome, f"sweep.dir={folder}", "hydra.mode=MULTIRUN")

    return call
