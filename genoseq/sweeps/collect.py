"""Reads a sweep's folder: the launcher's list, if there is one, and what each run has left so far."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from genoseq.errors import UserError
from genoseq.files import read_metrics
from genoseq.sweeps.groups import OBJECTIVE, Run, Sweep, Value, number, same

_NOT_SETTINGS = {"ckpt", "sweep", "sweep.dir"}


def collect(folder: Path | str) -> Sweep:
    """Read a sweep's folder; the sweep may still be running.

    Raises
    ------
    UserError
        If there is no such folder, or no run in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: give the folder of a sweep, as in dir=outputs/sweeps/…")
    jobs, order = _jobs(folder)
    known = {str(job["name"]) for job in jobs}
    others = [f for f in folder.iterdir() if f.name not in known and _is_run(f)]
    found = [_Found(folder / str(job["name"]), job) for job in jobs]
    found += [_Found(f, {}) for f in sorted(others, key=lambda f: _natural(f.name))]
    if not found:
        own = _is_run(folder)
        hint = f"it is a run's own, so give dir={folder.parent}" if own else "give the folder that holds a sweep's runs"
        raise UserError(f"the folder {folder} holds no run (a folder with a result.json or metrics.csv): {hint}")
    varied, values = _varied(found, order)
    return Sweep(folder, tuple(run.read(s) for run, s in zip(found, values, strict=True)), varied)


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("result.json", "metrics.csv"))


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return a sort key by which 2 comes before 10."""
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]


def _object(path: Path) -> dict[str, Any]:
    """Return a JSON or YAML object; an empty one if it is missing, half written or something else."""
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _jobs(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the launcher's list of training jobs and the keys that it was asked to vary."""
    content = _object(folder / "jobs.json")
    jobs, varied = content.get("jobs"), content.get("varied")
    if content.get("verb") not in (None, "train") or not isinstance(jobs, list):
        return [], []
    jobs = [job for job in jobs if isinstance(job, dict) and job.get("name") is not None]
    return jobs, [str(key) for key in varied] if isinstance(varied, list) else []


def _varied(found: list[_Found], order: list[str]) -> tuple[tuple[str, ...], list[dict[str, Value]]]:
    """Return the override keys whose value differs between runs, and each run's values of them."""
    keys = dict.fromkeys(key for run in found for key in run.given)
    keys = dict.fromkeys([key for key in order if key in keys] + list(keys))
    table = {key: [run.value(key) for run in found] for key in keys}
    varied = tuple(key for key, column in table.items() if len({same(v) for v, known in column if known}) > 1)
    return varied, [{key: table[key][i][0] for key in varied} for i in range(len(found))]


def _scalar(value: object) -> Value:
    """Return a setting as one word: a list or a mapping as JSON, what is not finite by its name."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return json.dumps(value, default=str)


def _parse(lines: Iterable[object]) -> tuple[dict[str, Value], list[str]]:
    """Return the settings among overrides, and their words."""
    parser = OverridesParser.create()
    values: dict[str, Value] = {}
    words: list[str] = []
    for line in map(str, lines):
        try:
            override = parser.parse_override(line)
        except Exception:  # not ours to judge: Hydra took it
            key, _, text = line.partition("=")
            value: object = text
        else:
            key, value = override.key_or_group, override.value()
        if key not in _NOT_SETTINGS and key.split(".")[0].split("/")[0] != "hydra":
            values[key] = _scalar(value)
            words.append(line)
    return values, words


@dataclass(frozen=True)
class _Found:
    """A run as it lies on the disk."""

    folder: Path
    job: dict[str, Any]

    @cached_property
    def _overrides(self) -> tuple[dict[str, Value], list[str]]:
        lines = self.job.get("overrides")
        if not isinstance(lines, list):
            try:
                lines = yaml.safe_load((self.folder / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError):
                lines = []
        return _parse(lines if isinstance(lines, list) else [])

    @property
    def given(self) -> dict[str, Value]:
        return self._overrides[0]

    @cached_property
    def _config(self) -> DictConfig:
        return OmegaConf.create(_object(self.folder / ".hydra" / "config.yaml"))

    @cached_property
    def _choices(self) -> dict[str, Any]:
        content: Any = _object(self.folder / ".hydra" / "hydra.yaml")
        for name in ("hydra", "runtime", "choices"):
            content = content.get(name) if isinstance(content, dict) else None
        return content if isinstance(content, dict) else {}

    def value(self, key: str) -> tuple[Value, bool]:
        """Return the value of a key, and whether the run tells it."""
        if key in self.given:
            return self.given[key], True
        if key in self._choices:
            return _scalar(self._choices[key]), True
        try:
            found = OmegaConf.select(self._config, key, default=self)
        except Exception:  # an interpolation that only a job can resolve
            return None, False
        return (None, False) if found is self else (_scalar(found), True)

    def read(self, settings: dict[str, Value]) -> Run:
        result = _object(self.folder / "result.json")
        steps, values = ([], []) if result else _logged(self.folder / "metrics.csv")
        begun = bool(steps) or (self.folder / "metrics.csv").is_file()
        state, why = self._state(bool(result), begun)
        most = number(self.job.get("max_steps")) or number(self.value("trainer.max_steps")[0])
        step = number(result.get("train/steps")) if result else max(steps, default=None)
        return Run(
            name=str(self.job.get("name", self.folder.name)),
            folder=self.folder,
            settings=settings,
            words=tuple(self._overrides[1]),
            state=state,
            why=why,
            step=None if step is None else int(step),
            max_steps=None if most is None else int(most),
            latest=values[-1] if values else None,
            result=result,
        )

    def _state(self, finished: bool, begun: bool) -> tuple[str, str | None]:
        state, why = self.job.get("state"), self.job.get("why")
        if finished:
            return "done", None
        if state == "done":
            return "failed", "it ended without a result.json"
        if state in ("failed", "stopped"):
            return state, None if why is None else str(why)
        if not self.job:
            return "running", "no result.json; nothing tells whether it still runs"
        return ("running" if begun or state == "running" else "waiting"), None


def _logged(path: Path) -> tuple[list[float], list[float]]:
    """Return all steps and the finite validation figures of a ``metrics.csv`` that may be growing."""
    try:
        columns = read_metrics(path)
    except (UserError, OSError, ValueError):
        return [], []
    steps = [s for s in columns.get("step", []) if number(s) is not None and s is not None]
    values = [v for v in columns.get(OBJECTIVE, []) if number(v) is not None and v is not None]
    return steps, values
