"""Read the folder of a sweep into a table, one row a run."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from genoseq.errors import UserError
from genoseq.overrides import key_of, parse, settings

OBJECTIVE = "val/bits_per_base"
"""The metric that settings are ranked by; lower is better."""
STATES = ("done", "failed", "stopped", "running", "waiting")
METRICS = (
    *(OBJECTIVE, "test/bits_per_base", "test/accuracy", "baseline/order", "baseline/bits_per_base"),
    *("baseline/accuracy", "imm/bits_per_base", "imm/accuracy", "chance/bits_per_base", "chance/accuracy"),
    *("train/tokens_per_second", "seconds"),
)
"""Columns that `read_sweep` always returns, as finite floats or nan."""
_FOLDER_NAME = re.compile(r"(?!\.\.?$)[\w.=+,-]{1,200}", re.ASCII)
_UNKNOWN = object()  # a value that a run does not tell


def read_sweep(folder: Path | str) -> pd.DataFrame:
    """Read the runs of a sweep, which may still be running.

    Nothing in the folder is executed, and files that are missing, half written or malformed count as absent.

    Parameters
    ----------
    folder : Path or str
        A sweep's folder, as this package's launchers or any other launcher of Hydra leave it.

    Returns
    -------
    DataFrame
        One row a run, in the order they were asked for, with the columns

        - ``name``, ``folder`` (Path), ``overrides`` (tuple of str, without `ckpt` and Hydra's own);
        - ``replicate`` (bool): whether ``hparams_search=replicate`` ran it, so its seed had no part in a selection;
        - ``state``: one of `STATES`; ``why`` (str or None): the reason if it failed or stopped;
        - ``step``, ``max_steps``: optimizer steps done and asked for; ``latest``: the last validation bits per base of
          a run that has no result yet;
        - one column a varied setting, named by its override key (``data.seq_len``, ``seed``);
        - the keys of ``result.json`` (``val/bits_per_base``, …), of which `METRICS` are always there.

        ``attrs["varied"]`` lists the override keys whose value differs between runs.

    Raises
    ------
    UserError
        If there is no such folder, or no run in it.

    Examples
    --------
    >>> runs = read_sweep("outputs/sweeps/2026-01-31/12-00-00")  # doctest: +SKIP
    >>> runs[runs.state == "done"].groupby("data.seq_len")["val/bits_per_base"].min()  # doctest: +SKIP
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: give the folder of a sweep, as in dir=outputs/sweeps/…")
    record = _load(folder / "jobs.json")
    jobs = _jobs(record)
    others = [path for path in folder.iterdir() if path.name not in jobs and _is_run(path)]
    runs = [_Run(folder / name, job) for name, job in jobs.items()]
    runs += [_Run(path, {}) for path in sorted(others, key=lambda path: _natural(path.name))]
    if not runs:
        hint = f"it is a run's own, so give dir={folder.parent}" if _is_run(folder) else "give a sweep's folder"
        raise UserError(f"the folder {folder} holds no run (a folder with a result.json or metrics.csv): {hint}")
    given = dict.fromkeys(key for run in runs for key in run.settings)
    varied = record.get("varied") if isinstance(record.get("varied"), list) else []
    asked = [key for key in map(str, varied) if key in given]
    columns = {key: _column([run.setting(key) for run in runs]) for key in dict.fromkeys([*asked, *given])}
    varied = [key for key, column in columns.items() if len(set(column) - {_UNKNOWN}) > 1]
    rows = [run.row() for run in runs]
    for i, row in enumerate(rows):
        row |= {key: None if columns[key][i] is _UNKNOWN else columns[key][i] for key in varied}
    # `seed` is a result and may be a setting
    metrics = [{k: value for k, value in run.metrics().items() if k not in rows[0]} for run in runs]
    frame = pd.DataFrame([row | result for row, result in zip(rows, metrics, strict=True)])
    frame.attrs["varied"] = varied
    return frame.astype({"step": "Int64", "max_steps": "Int64"})


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("result.json", "failed.json", "metrics.csv"))


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return a sort key by which 2 comes before 10."""
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]


def _jobs(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the training jobs of a launcher's ``jobs.json`` by the name of their folder."""
    jobs = record.get("jobs") if record.get("command") == "train" else None
    named = [job for job in jobs if isinstance(job, dict)] if isinstance(jobs, list) else []
    return {str(job["name"]): job for job in named if _FOLDER_NAME.fullmatch(str(job.get("name", "")))}


def _column(values: list[Any]) -> list[Any]:
    """Return the values of a setting; booleans as text where other values stand beside them, since True equals 1."""
    mixed = len({isinstance(value, bool) for value in values if value is not _UNKNOWN}) > 1
    return [str(value).lower() if mixed and isinstance(value, bool) else value for value in values]


class _Loader(yaml.SafeLoader):
    """Refuse aliases, by which a short file unfolds to gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)


def _load(path: Path, kind: type = dict) -> Any:
    """Return the dict or list that a JSON or YAML file holds; an empty one if it cannot be read or holds another."""
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.load(text, _Loader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return kind()
    return content if isinstance(content, kind) else kind()


def _scalar(value: object) -> Any:
    """Return a setting as a scalar: a list or a mapping as JSON, a float that is not finite as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else json.dumps(value, default=str)


def _number(value: object) -> float:
    """Return a finite number; nan for all else."""
    try:
        number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan


class _Run:
    """A run of a sweep: the launcher's record of it, and what its folder holds so far."""

    def __init__(self, folder: Path, job: dict[str, Any]) -> None:
        self._folder, self._job = folder, job
        self._result = _load(folder / "result.json")
        overrides = job.get("overrides")
        texts = overrides if isinstance(overrides, list) else _load(folder / ".hydra" / "overrides.yaml", list)
        self._replicate = "hparams_search=replicate" in texts
        self._overrides, self.settings = _parse(map(str, texts))

    @cached_property
    def _configs(self) -> list[tuple[Any, list[str]]]:
        """Hydra's record of the groups' choices, and the composed config, each with where keys stand in it."""
        files: dict[str, list[str]] = {"hydra.yaml": ["hydra", "runtime", "choices"], "config.yaml": []}
        return [(_load(self._folder / ".hydra" / name), path) for name, path in files.items()]

    def setting(self, key: str) -> Any:
        """Return the value of an override key, whether or not the run was given it."""
        if key in self.settings:
            return self.settings[key]
        for node, path in self._configs:
            for part in [*path, key] if path else key.split("."):
                node = node.get(part, _UNKNOWN) if isinstance(node, dict) else _UNKNOWN
            if node is not _UNKNOWN:
                return _scalar(node)
        return _UNKNOWN

    def row(self) -> dict[str, Any]:
        """Return the columns that say which run it is and how far it is."""
        state, why = self._state()
        step, latest = _progress(self._folder / "metrics.csv") if state != "done" else (math.nan, math.nan)
        step = _number(self._result.get("train/steps")) if state == "done" else step
        most = _number(self._job.get("max_steps"))
        most = _number(self.setting("trainer.max_steps")) if math.isnan(most) else most
        return {
            "name": self._folder.name,
            "folder": self._folder,
            "state": state,
            "why": why,
            "step": None if math.isnan(step) else int(step),
            "max_steps": None if math.isnan(most) else int(most),
            "latest": latest,
            "overrides": self._overrides,
            "replicate": self._replicate,
        }

    def metrics(self) -> dict[str, Any]:
        """Return the content of ``result.json``."""
        return {key: _number(self._result.get(key)) for key in METRICS} | {
            key: _scalar(value) for key, value in self._result.items() if key not in METRICS
        }

    def _state(self) -> tuple[str, str | None]:
        """Return the state and its reason; what lies in the folder counts before the launcher's record, which lags."""
        state, failed = self._job.get("state"), _load(self._folder / "failed.json")
        why = failed.get("why") if self._job.get("why") is None else self._job["why"]
        if self._result:
            return "done", None
        if state == "done":
            return "failed", "it ended without a result.json"
        if state in ("failed", "stopped") or (failed and state != "waiting"):
            return "stopped" if state == "stopped" else "failed", None if why is None else str(why)
        if not self._job:
            return "running", "no result.json; nothing tells whether it still runs"
        return "running" if state == "running" or (self._folder / "metrics.csv").is_file() else "waiting", None


def _parse(texts: Iterable[str]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return those overrides that are settings, and the settings' values by key."""
    kept, values = [], {}
    for text in texts:
        try:
            if not settings([text]):
                continue
            (override,) = parse([text])
            values[key_of(override)] = _scalar(override.value())
        except UserError:  # not ours to judge: Hydra took it
            key, _, values[key] = text.partition("=")
        kept.append(text)
    return tuple(kept), values


def _progress(path: Path) -> tuple[float, float]:
    """Return the last step and the last validation bits per base of a ``metrics.csv`` that may be growing."""
    try:
        table = pd.read_csv(path, on_bad_lines="skip").reindex(columns=["step", OBJECTIVE])
    except (OSError, ValueError):
        return math.nan, math.nan
    steps, values = (pd.to_numeric(table[key], errors="coerce") for key in table)
    return steps[steps < math.inf].max(), values[values.abs() < math.inf].tail(1).max()
