"""Read the folder of a sweep into a table, one row a run."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from genoseq.errors import UserError
from genoseq.files import read_yaml
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


def read_sweep(folder: Path | str) -> pd.DataFrame:
    """Read the runs of a sweep, which may still be running, whichever launcher of Hydra runs it.

    Nothing in the folder is executed, and files that are missing, half written or malformed count as absent.

    Returns
    -------
    DataFrame
        One row a run, in the order they were asked for, with the columns

        - ``name``, ``folder`` (Path), ``overrides`` (tuple of str, without `ckpt` and Hydra's own);
        - ``state``: one of `STATES`; ``why`` (str or None): the reason if it failed or stopped;
        - ``step``, ``max_steps``: optimizer steps done and asked for; ``latest``: the last validation bits per base of
          a run that has no result yet;
        - ``replicate`` (bool): whether ``hparams_search=replicate`` ran it, so its seed had no part in a selection;
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
    jobs = _jobs(folder)
    found = sorted((path.name for path in folder.iterdir() if _is_run(path)), key=lambda name: (len(name), name))
    names = list(dict.fromkeys([*jobs, *found]))
    if not names:
        hint = f"it is a run's own, so give dir={folder.parent}" if _is_run(folder) else "give a sweep's folder"
        raise UserError(f"the folder {folder} holds no run (a folder with a result.json or metrics.csv): {hint}")
    rows = [_row(folder / name, jobs.get(name, {})) for name in names]
    given, results = ([row.pop(part) for row in rows] for part in ("given", "result"))
    keys = list(dict.fromkeys(key for one in given for key in one))
    values = [_configured(row["folder"], set(keys) - set(one)) | one for row, one in zip(rows, given, strict=True)]
    varied = [key for key in keys if len({one[key] for one in values}) > 1]
    for row, one, result in zip(rows, values, results, strict=True):
        row |= {key: one[key] for key in varied} | {key: _number(result.get(key)) for key in METRICS}
        row |= {key: _scalar(value) for key, value in result.items() if key not in row}  # `seed` may be a setting
    frame = pd.DataFrame(rows)
    frame.attrs["varied"] = varied
    return frame.astype({"step": "Int64", "max_steps": "Int64"})


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("result.json", "failed.json", "metrics.csv"))


def _jobs(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the training jobs of a launcher's ``jobs.json`` by the name of their folder."""
    record = _load(folder / "jobs.json")
    jobs = record.get("jobs") if record.get("command") == "train" else None
    jobs = [job for job in jobs if isinstance(job, dict)] if isinstance(jobs, list) else []
    return {name: job for job in jobs if _FOLDER_NAME.fullmatch(name := str(job.get("name")))}


def _row(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Return the columns that say which run it is and how far it is, with its ``result`` and the settings ``given``."""
    result, texts = _load(folder / "result.json"), job.get("overrides")
    texts = texts if isinstance(texts, list) else _load(folder / ".hydra/overrides.yaml", list)
    overrides, given = _parse(texts)
    step, latest = (result.get("train/steps"), math.nan) if result else _progress(folder / "metrics.csv")
    asked = job.get("max_steps") or given.get("trainer.max_steps")
    asked = asked or _configured(folder, ["trainer.max_steps"])["trainer.max_steps"]
    state, why = _state(folder, job, result)
    return {
        "name": folder.name,
        "folder": folder,
        "state": state,
        "why": why,
        "step": _whole(step),
        "max_steps": _whole(asked),
        "latest": latest,
        "overrides": overrides,
        "replicate": "hparams_search=replicate" in texts,
        "given": given,
        "result": result,
    }


def _state(folder: Path, job: dict[str, Any], result: dict[str, Any]) -> tuple[str, str | None]:
    """Return the state and its reason; what lies in the folder counts before the launcher's record, which lags."""
    state, failed = job.get("state"), _load(folder / "failed.json")
    why = job.get("why") or failed.get("why")
    if result:
        return "done", None
    if state == "done":
        return "failed", "it ended without a result.json"
    if state in ("failed", "stopped") or (failed and state != "waiting"):
        return "stopped" if state == "stopped" else "failed", None if why is None else str(why)
    if not job:
        return "running", "no result.json; nothing tells whether it still runs"
    return "running" if state == "running" or (folder / "metrics.csv").is_file() else "waiting", None


def _parse(texts: Iterable[str]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return those overrides that are settings, and the settings' values by key."""
    kept, values = [], {}
    for text in map(str, texts):
        try:
            if settings([text]):
                (override,) = parse([text])
                values[key_of(override)] = _scalar(override.value())
                kept.append(text)
        except UserError:  # Hydra has read it, so it is a file that somebody has edited
            continue
    return tuple(kept), values


def _configured(folder: Path, keys: Collection[str]) -> dict[str, Any]:
    """Return what a run's composed config, and the groups chosen for it, say of some override keys."""
    if not keys:
        return {}
    chosen = _select(_load(folder / ".hydra/hydra.yaml"), "hydra.runtime.choices")
    chosen, config = chosen if isinstance(chosen, dict) else {}, _load(folder / ".hydra/config.yaml")
    return {key: _scalar(chosen[key] if key in chosen else _select(config, key)) for key in keys}


def _select(node: Any, key: str) -> Any:
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _progress(path: Path) -> tuple[float, float]:
    """Return the last step and the last validation bits per base of a ``metrics.csv`` that may be growing."""
    try:
        table = pd.read_csv(path, on_bad_lines="skip").reindex(columns=["step", OBJECTIVE])
    except (OSError, ValueError):
        return math.nan, math.nan
    steps, values = (pd.to_numeric(table[key], errors="coerce") for key in table)
    return float(steps[steps < math.inf].max()), float(values[values.abs() < math.inf].tail(1).max())


def _load(path: Path, kind: type = dict) -> Any:
    """Return the dict or list that a JSON or YAML file holds; an empty one if it cannot be read or holds another."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else read_yaml(path)
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return kind()
    return content if isinstance(content, kind) else kind()


def _scalar(value: Any) -> Any:
    """Return a setting as a scalar: a list or a mapping as JSON."""
    return value if value is None or isinstance(value, (bool, int, float, str)) else json.dumps(value, default=str)


def _number(value: Any) -> float:
    """Return a finite number; nan for all else."""
    return float(value) if type(value) in (int, float) and abs(value) <= sys.float_info.max else math.nan


def _whole(value: Any) -> int | None:
    """Return a number as an integer of 64 bits, None if it is none."""
    return int(number) if abs(number := _number(value)) < 2**63 else None
