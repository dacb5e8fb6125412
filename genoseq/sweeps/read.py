"""Read the folder of a sweep into a table, one row a run."""

from __future__ import annotations

import json
import math
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from omegaconf import OmegaConf

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
_RUN_FILES = ("result.json", "failed.json", "metrics.csv")
_FOLDER_NAME = re.compile(r"(?!\.\.?$)[\w.=+,-]{1,200}", re.ASCII)
_UNKNOWN = object()


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
    jobs, order = _read_jobs(folder)
    others = [path for path in folder.iterdir() if path.name not in jobs and _is_run(path)]
    runs = [_Run(folder / name, job) for name, job in jobs.items()]
    runs += [_Run(path, {}) for path in sorted(others, key=lambda path: _natural(path.name))]
    if not runs:
        hint = f"it is a run's own, so give dir={folder.parent}" if _is_run(folder) else "give a sweep's folder"
        raise UserError(f"the folder {folder} holds no run (a folder with a result.json or metrics.csv): {hint}")
    given = list(dict.fromkeys(key for run in runs for key in run.given))
    values = {key: [run.setting(key) for run in runs] for key in dict.fromkeys([*order, *given]) if key in given}
    varied = [key for key, column in values.items() if len({_identity(v) for v in column if v is not _UNKNOWN}) > 1]
    columns = {key: _column(values[key]) for key in varied}
    rows = [run.row() | {key: column[i] for key, column in columns.items()} for i, run in enumerate(runs)]
    # `seed` is a result and may be a setting
    frame = pd.DataFrame([run.metrics() | row for run, row in zip(runs, rows, strict=True)])
    frame = frame[[*rows[0], *(column for column in frame if column not in rows[0])]]
    frame = frame.astype({"step": "Int64", "max_steps": "Int64"})
    frame.attrs["varied"] = varied
    return frame


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _RUN_FILES)


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return a sort key by which 2 comes before 10."""
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]


def _column(values: list[Any]) -> list[Any]:
    """Return the values of a setting, None where unknown; booleans as text among others, since True equals 1."""
    mixed = len({isinstance(value, bool) for value in values}) > 1
    values = [str(value).lower() if mixed and isinstance(value, bool) else value for value in values]
    return [None if value is _UNKNOWN else value for value in values]


def _identity(value: object) -> tuple[bool, object]:
    """Return what tells a setting from others: True equals 1 in Python, but is another setting."""
    return isinstance(value, bool), value


class _Loader(yaml.SafeLoader):
    """Refuse aliases, by which a short file unfolds to gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)


def _load(path: Path) -> Any:
    """Return the content of a JSON or YAML file; an empty object if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else yaml.load(text, _Loader)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}


def _load_object(path: Path) -> dict[str, Any]:
    content = _load(path)
    return content if isinstance(content, dict) else {}


def _read_jobs(folder: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the launcher's record of training jobs by name, and the keys that it was asked to vary."""
    content = _load_object(folder / "jobs.json")
    jobs, varied = content.get("jobs"), content.get("varied")
    command = content.get("command", content.get("verb", "train"))
    if command != "train" or not isinstance(jobs, list):
        return {}, []
    named = {str(job["name"]): job for job in jobs if isinstance(job, dict) and "name" in job}
    good = {name: job for name, job in named.items() if _FOLDER_NAME.fullmatch(name)}
    return good, [str(key) for key in varied] if isinstance(varied, list) else []


def _scalar(value: object) -> Any:
    """Return a setting as a scalar: a list or a mapping as JSON, a float that is not finite as text."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value)
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
        overrides = job.get("overrides") or _load(folder / ".hydra" / "overrides.yaml")
        overrides = [str(text) for text in overrides] if isinstance(overrides, list) else []
        self._replicate = "hparams_search=replicate" in overrides
        self.given, self._overrides = _parse(overrides)
        self._result = _load_object(folder / "result.json")

    @cached_property
    def _config(self) -> Any:
        try:
            return OmegaConf.create(_load_object(self._folder / ".hydra" / "config.yaml"))
        except Exception:  # whatever a malformed file makes OmegaConf raise
            return OmegaConf.create({})

    @cached_property
    def _choices(self) -> dict[str, Any]:
        content: Any = _load_object(self._folder / ".hydra" / "hydra.yaml")
        for name in ("hydra", "runtime", "choices"):
            content = content.get(name) if isinstance(content, dict) else None
        return content if isinstance(content, dict) else {}

    def setting(self, key: str) -> Any:
        """Return the value of an override key, `_UNKNOWN` if the run does not tell it."""
        if key in self.given:
            return self.given[key]
        if key in self._choices:
            return _scalar(self._choices[key])
        try:
            value = OmegaConf.select(self._config, key, default=_UNKNOWN)
        except Exception:  # an interpolation that only the run can resolve
            return _UNKNOWN
        return value if value is _UNKNOWN else _scalar(value)

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
        known = {key: _number(self._result.get(key)) for key in METRICS}
        return known | {key: _scalar(value) for key, value in self._result.items() if key not in known}

    def _state(self) -> tuple[str, str | None]:
        """Return the state and its reason; what lies in the folder counts before the launcher's record, which lags."""
        state, why = self._job.get("state"), self._job.get("why")
        failed = _load_object(self._folder / "failed.json")
        why = failed.get("why") if why is None else why
        if self._result:
            return "done", None
        if state == "done":
            return "failed", "it ended without a result.json"
        if state in ("failed", "stopped") or (failed and state != "waiting"):
            return state if state == "stopped" else "failed", None if why is None else str(why)
        if not self._job:
            return "running", "no result.json; nothing tells whether it still runs"
        return ("running" if state == "running" or (self._folder / "metrics.csv").is_file() else "waiting"), None


def _parse(overrides: list[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the values of the settings among overrides, by key, and the overrides that set them."""
    values: dict[str, Any] = {}
    texts = []
    for text in overrides:
        try:
            if not settings([text]):
                continue
            (override,) = parse([text])
            values[key_of(override)] = _scalar(override.value())
        except UserError:  # not ours to judge: Hydra took it
            key, _, values[key] = text.partition("=")
        texts.append(text)
    return values, tuple(texts)


def _progress(path: Path) -> tuple[float, float]:
    """Return the last step and the last validation bits per base of a ``metrics.csv`` that may be growing."""
    try:
        table = pd.read_csv(path, usecols=["step", OBJECTIVE], on_bad_lines="skip").apply(
            pd.to_numeric, errors="coerce"
        )
    except (OSError, ValueError):
        return math.nan, math.nan
    steps, values = (column[column.abs() < math.inf] for column in (table["step"], table[OBJECTIVE]))
    return steps.max(), values.iloc[-1] if len(values) else math.nan
