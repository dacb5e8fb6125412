"""One job of a sweep: its settings, its folder, what it goes on from, and the command that runs it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from genoseq.errors import UserError
from genoseq.overrides import quote, settings

RESULTS = ("result.json", "evaluation.json")
LOG = "output.log"


@dataclass
class Job:
    """One run of a sweep.

    Attributes
    ----------
    num : int
        Number in the sweep, from 0.
    name : str
        Name of its folder.
    folder : Path
    overrides : list of str
        Its settings, as on a command line.
    command : list of str
        The command but for `resume`.
    devices : int
        Devices (on the CPU: processes) that it asks for.
    max_steps : int or None
        Optimizer steps it will take.
    cost : float
        How long it will take beside the others, in any unit.
    state : str
        ``waiting``, ``running``, ``done``, ``failed`` or ``stopped``.
    why : str or None
        Why it failed.
    attempts, failures : int
        Starts in all, and failures since the sweep was last started.
    seconds : float or None
        Time that its processes took, all starts together.
    device : str or None
        Where it ran last.
    """

    num: int
    name: str
    folder: Path
    overrides: list[str]
    command: list[str] = field(default_factory=list)
    devices: int = 1
    max_steps: int | None = None
    cost: float = 0.0
    state: str = "waiting"
    why: str | None = None
    attempts: int = 0
    failures: int = 0
    seconds: float | None = None
    device: str | None = None

    @property
    def finished(self) -> bool:
        """Whether its result is there."""
        return any((self.folder / name).is_file() for name in RESULTS)

    @property
    def resume(self) -> list[str]:
        """The override with which training goes on from the last checkpoint, if there is one."""
        last = self.folder / "checkpoints" / "last.ckpt"
        return [f"ckpt={quote(str(last))}"] if last.is_file() else []

    def prepare(self) -> list[str]:
        """Make the folder ready for another start and return the whole command.

        What a start left that never reached a checkpoint is removed, but for its log: nothing can go on from it.
        """
        resume = self.resume
        if self.folder.exists() and not resume:
            for path in [*self.folder.glob("tb/**/events.*"), *self.folder.glob("checkpoints/best.ckpt")]:
                path.unlink()
            for path in (self.folder / "metrics.csv", self.folder / "checkpoints"):
                _remove(path)
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.command + resume

    def record(self) -> dict[str, Any]:
        """Return what ``jobs.json`` says of it."""
        names = ("num", "name", "overrides", "state", "why", "seconds", "max_steps", "device", "attempts")
        return {name: getattr(self, name) for name in names}


def _remove(path: Path) -> None:
    if path.is_dir():
        for part in path.glob("*.part"):
            part.unlink()
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def cost(config: DictConfig) -> float:
    """Return about how many multiplications a training config asks for; 0 where it does not say."""
    try:
        embed, hidden, layers = (int(config.model.get(key, 1)) for key in ("embed_dim", "hidden_size", "num_layers"))
        tokens = float(config.trainer.max_steps * config.data.batch_size * config.data.seq_len)
    except (AttributeError, KeyError, TypeError, ValueError):  # no training, or a job's mistake
        return 0.0
    return tokens * 4 * hidden * (embed + hidden * (2 * layers - 1))


def task_module(task: Any) -> str:
    """Return the module that ``python -m`` runs for a verb's function."""
    if task.__module__ != "__main__":
        return str(task.__module__)
    return str(sys.modules["__main__"].__spec__.name)  # type: ignore[union-attr]


def command(config: DictConfig, module: str, overrides: Sequence[str], folder: Path, num: int) -> list[str]:
    """Return the command that runs one job by itself."""
    return [
        sys.executable,
        "-m",
        module,
        *_config_flags(config, module),
        *overrides,
        *_passed_on(config),
        "hydra.mode=RUN",  # a config may ask for a sweep
        f"hydra.run.dir={quote(str(folder))}",
        f"hydra.sweep.dir={quote(str(folder.parent))}",
        f"hydra.job.num={num}",
    ]


def _config_flags(config: DictConfig, module: str) -> Iterator[str]:
    for source in config.hydra.runtime.config_sources:
        if source.provider == "command-line":
            yield from ("--config-dir", source.path)
    if config.hydra.job.config_name != module.rpartition(".")[2]:
        yield from ("--config-name", config.hydra.job.config_name)


def _passed_on(config: DictConfig) -> Iterator[str]:
    own = ("mode", "run.", "sweep.", "launcher", "sweeper", "job.num")
    for text in config.hydra.overrides.hydra:
        key = text.lstrip("+~").replace("hydra/", "hydra.", 1).removeprefix("hydra.")
        if not key.startswith(own):
            yield text


def check_same(job: Job) -> None:
    """Raise `UserError` if the job's folder holds a run of other settings."""
    file = job.folder / ".hydra" / "overrides.yaml"
    if not file.is_file():
        return
    had, has = settings(yaml.safe_load(file.read_text(encoding="utf-8")) or []), settings(job.overrides)
    other = sorted(key for key in {*had, *has} if had.get(key) != has.get(key))
    if other:
        told = ", ".join(f"{key}={had[key]}" if key in had else f"no {key}" for key in other)
        raise UserError(
            f"the folder {job.folder} holds a run with {told}; give the sweep's own settings to go on with it, "
            "or another sweep.dir"
        )


def reason(code: int, log: Path) -> str:
    """Return why a process ended, from its exit code and the end of its log."""
    if code < 0:
        name = signal.Signals(-code).name
        memory = "; was memory short?" if name == "SIGKILL" else ""
        return f"killed by signal {-code} ({name}{memory})"
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    said = [line.removeprefix("genoseq: ") for line in lines[-30:] if line.startswith("genoseq: ")]
    if said:
        return said[-1]
    # Hydra's advice comes after the error's own line
    errors = [line for line in lines[-30:] if not line.startswith("Set the environment variable HYDRA_FULL_ERROR")]
    return f"exit code {code}" + (f": {errors[-1]}" if errors else "")
