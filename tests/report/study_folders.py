"""Writes a study's runs as training leaves them: result.json, positions.csv, .hydra/config.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from sweep_folders import Fake, write

from genoseq.files import write_csv

MADE = {"imm/accuracy": 0.426, "scale": "demo", "seconds": 60.0, "model/parameters": 90_000}


def study(
    folder: Path,
    settings: Sequence[Mapping[str, Any]],
    tests: Sequence[float],
    results: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any],
) -> Path:
    """Write runs with their settings, test bits per base, further results and config (``data.`` keys as they are)."""
    fakes = [
        Fake(one, test - 0.01, result={**MADE, "test/bits_per_base": test, **result})
        for one, test, result in zip(settings, tests, results, strict=True)
    ]
    write(folder, fakes)
    for path, one in zip(sorted_by_job(folder), settings, strict=True):
        data = {**config, **{key.removeprefix("data."): value for key, value in one.items() if "data." in key}}
        content = {"seed": one.get("seed", 0), "tokens_per_step": 10_000, "data": data, "model": {"hidden_size": 128}}
        (path / ".hydra" / "config.yaml").write_text(yaml.safe_dump(content))
    return folder


def sorted_by_job(folder: Path) -> list[Path]:
    """Return the runs' folders in the order of their jobs."""
    jobs = yaml.safe_load((folder / "jobs.json").read_text())["jobs"]
    return [folder / job["name"] for job in jobs]


def positions(folder: Path, n: Sequence[int], bits: Sequence[float]) -> None:
    """Write a run's positions.csv."""
    rows = [
        {"position": at, "n": known, "accuracy": 0.4, "bits_per_base": value}
        for at, (known, value) in enumerate(zip(n, bits, strict=True), start=1)
    ]
    write_csv(folder / "positions.csv", rows)
