"""Writes sweep folders as runs and launchers leave them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

RESULT = {
    "test/accuracy": 0.36,
    "baseline/order": 6,
    "baseline/bits_per_base": 1.951,
    "baseline/accuracy": 0.352,
    "imm/bits_per_base": 1.93,
    "chance/bits_per_base": 2.0,
    "chance/accuracy": 0.25,
    "train/steps": 300,
    "train/tokens_per_second": 30_000.0,
    "seconds": 180.0,
    "seed": 0,
    "split/leaks": False,
    "genome/name": "hpylori",
}


@dataclass
class Fake:
    """One run to be written: what it was told, how far it is, what it measured."""

    settings: Mapping[str, Any]
    val: float | None = None
    state: str = "done"
    why: str | None = None
    name: str | None = None
    result: dict[str, Any] = field(default_factory=dict)


def write(folder: Path, runs: Iterable[Fake], jobs: bool = True) -> Path:
    """Write a sweep's folder; without `jobs` as Hydra's own launcher leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for num, run in enumerate(runs):
        overrides = [f"{key}={value}" for key, value in run.settings.items()]
        short = (f"{key.replace('/', '.').split('.')[-1]}={value}" for key, value in run.settings.items())
        name = run.name or (",".join(short) if jobs else str(num))
        job = {"num": num, "name": name, "overrides": overrides, "state": run.state, "why": run.why, "max_steps": 300}
        listed.append(job)
        if run.state != "waiting":
            _write_run(folder / name, run, overrides)
    if jobs:
        (folder / "jobs.json").write_text(json.dumps({"command": "train", "varied": [], "jobs": listed}))
    return folder


def _write_run(folder: Path, run: Fake, overrides: list[str]) -> None:
    hydra = folder / ".hydra"
    hydra.mkdir(parents=True)
    (hydra / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    config = {"seed": 0, "data": {"seq_len": 32, "seed": 0}, "optimizer": {"lr": 0.01}}
    (hydra / "config.yaml").write_text(yaml.safe_dump(config | {"trainer": {"max_steps": 300}}))
    choices = {"model": "rnn1", "data/split": "contiguous", "hydra/launcher": "basic"}
    (hydra / "hydra.yaml").write_text(yaml.safe_dump({"hydra": {"runtime": {"choices": choices}}}))
    (folder / "metrics.csv").write_text("step,train/bits_per_base,val/bits_per_base\n10,3.0,\n150,2.2,2.125\n")
    if run.state == "done":
        measured = {"val/bits_per_base": run.val, "test/bits_per_base": None if run.val is None else run.val + 0.01}
        (folder / "result.json").write_text(json.dumps(RESULT | measured | run.result))


def grid(**values: Iterable[Any]) -> list[dict[str, Any]]:
    """Return every combination of values; ``__`` in a name stands for a dot."""
    out: list[dict[str, Any]] = [{}]
    for key, options in values.items():
        options = list(options)
        out = [one | {key.replace("__", "."): option} for one in out for option in options]
    return out
