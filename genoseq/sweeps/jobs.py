"""A sweep's jobs: name, command and state of each, and the ``jobs.json`` that records them."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from genoseq.files import write_json
from genoseq.overrides import key_of, parse, quote, short_names, value_text

RESULTS = ("result.json", "evaluation.json")
LOG = "output.log"
RECORD = "jobs.json"
_LONGEST = 150  # letters of a name; file systems take 255 bytes


@dataclass
class Job:
    """One run of a sweep."""

    name: str  # of its folder
    folder: Path
    overrides: list[str]
    command: list[str] = field(default_factory=list)  # running it again resumes an unfinished run
    trainer: Mapping[str, Any] = field(default_factory=dict)  # its config's node: devices, nodes, steps
    cost: float = 0.0  # how long it takes relative to the others, in any unit
    state: str = "waiting"  # or running, done, failed, stopped
    why: str | None = None  # it failed
    attempts: int = 0  # starts in all
    failures: int = 0  # since the sweep was last started
    seconds: float | None = None  # wall time of its processes, all starts together
    device: str | None = None  # where it ran last

    @property
    def finished(self) -> bool:
        """Whether its result is there."""
        return any((self.folder / name).is_file() for name in RESULTS)

    @property
    def max_steps(self) -> int | None:
        """Optimizer steps that it takes, None if it trains nothing."""
        return self.trainer.get("max_steps")


def processes(trainer: Mapping[str, Any], visible: int) -> int:
    """Return how many devices (on the CPU: processes) a ``trainer`` node asks for on a node; `visible` for ``auto``."""
    devices = trainer.get("devices", 1)
    if isinstance(devices, (int, str)) and str(devices).lstrip("-").isdigit():
        return int(devices) if int(devices) > 0 else max(1, visible)
    if isinstance(devices, str):  # auto, or Lightning's "0,1"
        return len(devices.split(",")) if "," in devices else max(1, visible)
    return max(1, len(devices))


def cost(config: DictConfig) -> float:
    """Return about how many multiplications a training config asks for; 0 where it does not say."""
    try:
        embed, hidden, layers = (int(config.model.get(key, 1)) for key in ("embed_dim", "hidden_size", "num_layers"))
        tokens = float(config.trainer.max_steps * config.data.batch_size * config.data.seq_len)
    except (AttributeError, KeyError, TypeError, ValueError):
        return 0.0
    return tokens * 4 * hidden * (embed + hidden * (2 * layers - 1))


def task_module(task: Any) -> str:
    """Return the module that ``python -m`` runs for a command's function."""
    if task.__module__ != "__main__":
        return str(task.__module__)
    return str(sys.modules["__main__"].__spec__.name)  # type: ignore[union-attr]


def command(config: DictConfig, module: str, overrides: Sequence[str], folder: Path, num: int) -> list[str]:
    """Return the command that runs job `num` of the sweep with this `config` by itself, in `folder`."""
    return [
        *(sys.executable, "-m", module),
        *_config_flags(config, module),
        *overrides,
        *_hydra_overrides(config),
        "hydra.mode=RUN",  # a config may ask for a sweep
        f"hydra.run.dir={quote(str(folder))}",
        f"hydra.sweep.dir={quote(str(folder.parent))}",
        f"hydra.job.num={num}",
    ]


def _config_flags(config: DictConfig, module: str) -> Iterator[str]:
    flags = {"main": "--config-path", "command-line": "--config-dir"}
    for source in config.hydra.runtime.config_sources:
        if source.provider in flags:
            yield flags[source.provider]
            yield source.path if source.schema == "file" else f"{source.schema}://{source.path}"
    if config.hydra.job.config_name != module.rpartition(".")[2]:
        yield from ("--config-name", config.hydra.job.config_name)


def _hydra_overrides(config: DictConfig) -> Iterator[str]:
    own = ("mode", "run.", "sweep.", "launcher", "sweeper", "job.num")
    for override in parse(config.hydra.overrides.hydra):
        if not key_of(override).replace("/", ".", 1).removeprefix("hydra.").startswith(own):
            yield str(override.input_line)


def varied_keys(config: DictConfig) -> list[str]:
    """Return the override keys to which a sweep's command and sweeper give several values."""
    params = config.hydra.sweeper.get("params") or {}
    texts = [f"{key}={value}" for key, value in params.items()] + list(config.hydra.overrides.task)
    varied: dict[str, None] = {}
    for override in parse(texts):
        if override.is_sweep_override():
            varied[key_of(override)] = None
        else:  # the command's one value replaces a sweeper's many
            varied.pop(key_of(override), None)
    return list(varied)


def run_name(overrides: Sequence[str], varied: Sequence[str]) -> str:
    """Return the name of a run's folder from what varies: ``seq_len=50,lr=0.01``, safe in every file system.

    A name that had to leave letters out ends in a few digits of the settings' hash, so that no two are equal.
    """
    settings = {key_of(override): value_text(override) for override in parse(overrides)}
    short = short_names(varied)
    full = ",".join(f"{short[key]}={settings[key]}" for key in varied if key in settings)
    if not full:
        return "run"
    safe = re.sub(r"[^\w.=+,-]", "_", full, flags=re.ASCII)[:_LONGEST]
    return safe if safe == full else f"{safe}-{hashlib.sha256(full.encode()).hexdigest()[:6]}"


def reason(code: int, log: Path) -> str:
    """Return why a process ended, from its exit code and the end of its log."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by signal {-code} ({name}{'; out of memory?' if name == 'SIGKILL' else ''})"
    text = log.read_text(errors="replace") if log.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()][-30:]
    sentences = [line.removeprefix("genoseq: ") for line in lines if line.startswith("genoseq: ")]
    if sentences:
        return sentences[-1]
    # Hydra's advice comes after the error's own line
    errors = [line for line in lines if not line.startswith("Set the environment variable HYDRA_FULL_ERROR")]
    return f"exit code {code}" + (f": {errors[-1]}" if errors else "")


class Record:
    """Writes a sweep folder's ``jobs.json``; the jobs of an earlier start stay listed."""

    def __init__(self, folder: Path, command: str, varied: Sequence[str]) -> None:
        self._path = folder / RECORD
        self._head: dict[str, Any] = {"command": command, "varied": list(varied)}
        self._jobs = {job["name"]: job for job in read_record(folder).get("jobs", [])}

    def add(self, jobs: Collection[Job]) -> None:
        """Record jobs, and set in them what an earlier start of the sweep recorded."""
        for job in jobs:
            earlier = self._jobs.get(job.name, {})
            job.attempts = earlier.get("attempts", 0)
            job.seconds, job.device = earlier.get("seconds"), earlier.get("device")
        self.update(*jobs)

    def update(self, *jobs: Job) -> None:
        """Write the state of some jobs."""
        names = ("name", "overrides", "state", "why", "seconds", "max_steps", "device", "attempts")
        self._jobs |= {job.name: {name: getattr(job, name) for name in names} for job in jobs}
        write_json(self._path, self._head | {"jobs": list(self._jobs.values())})


def read_record(folder: Path) -> dict[str, Any]:
    """Return the content of a sweep folder's ``jobs.json``; empty without one."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and isinstance(record.get("jobs"), list) else {}
