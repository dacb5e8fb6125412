"""A run's folder: where it is, whose it is, and whether its run is new, unfinished or done."""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from genoseq.app.runtime import is_main_process
from genoseq.configs import check_same
from genoseq.errors import UserError
from genoseq.files import write_atomic, write_json
from genoseq.overrides import settings

# what no run may write over in a folder that is not its own
_TRACES = (
    *("result.json", "evaluation.json", "checkpoints", "jobs.json", "metrics.csv", "split.bed", "curves.png"),
    *("records.csv", "positions.csv", "orders.csv", "tb"),
    *("score.json", "scores.tsv", "track.json", "embed.json", "embeddings.npy", "sample.json", "samples.fa"),
)


def shared_name() -> str | None:
    """Return the name that all ranks of a run started by torchrun or srun agree on; None where one process starts it.

    Raises
    ------
    UserError
        If torchrun gave the run no name of its own.
    """
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    if run == "none":  # what torchrun's static rendezvous calls a run without a name
        raise UserError(
            "torchrun gave this run no name that its ranks could share: add --rdzv-id=NAME (or, on one node, "
            "--standalone) to torchrun, or hydra.run.dir=… to the command"
        )
    if run is not None:
        return f"torchrun-{re.sub(r'[^A-Za-z0-9_.-]', '_', run)}"
    # a batch script has the job's variables but no step: what it starts by itself is one process
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_ID" in os.environ:
        return f"slurm-{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}"
    return None


@functools.cache
def new_run_dir(parent: str, command: str) -> str:
    """Return (and make) the folder of a new run, called after the time, or after the name that its ranks share.

    Two commands that start in the same second get two folders.
    """
    if shared := shared_name():
        return str(Path(parent, f"{shared}-{command}"))
    stem = Path(parent, time.strftime("%Y-%m-%d"), f"{time.strftime('%H-%M-%S')}-{command}")
    for folder in itertools.chain([stem], (stem.with_name(f"{stem.name}-{n}") for n in itertools.count(2))):
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError:  # RunFolder says so
            pass
        break
    return str(folder)


def check_writable(folder: Path, key: str) -> None:
    """Raise `UserError`, naming the override `key`, unless `folder` exists or can be made, and takes files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"the output folder {folder} cannot be written ({error.strerror}); give another {key}"
        ) from None


class RunFolder:
    """The folder of one run, locked while the run works in it.

    Entering it checks that the folder is new or holds a run of the same composed config, then writes ``.hydra/``. An
    exception leaves ``failed.json`` with the reason. Ranks other than the first only read.

    Parameters
    ----------
    config : DictConfig
        As composed, without the ``hydra`` node.
    result : str
        Name of the file that a finished run leaves.

    Raises
    ------
    UserError
        On entering: if the folder cannot be written, is in use, or holds a run with other settings.
    """

    def __init__(self, config: DictConfig, result: str = "result.json") -> None:
        self.path = Path(HydraConfig.get().runtime.output_dir)
        self._config, self._result = config, self.path / result
        self._lock: FileLock | None = None

    def __enter__(self) -> RunFolder:
        if is_main_process():
            check_writable(self.path, "hydra.run.dir")
            self._lock = FileLock(self.path / ".lock")
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise UserError(
                    f"another process works in {self.path}; wait for it or give another hydra.run.dir"
                ) from None
        try:
            self._check_same()
        except UserError:
            self._release()
            raise
        if is_main_process() and not self.finished:
            (self.path / "failed.json").unlink(missing_ok=True)
            self._write_config()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and is_main_process():
            write_json(self.path / "failed.json", {"why": str(error) or type(error).__name__})
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()

    @property
    def finished(self) -> bool:
        """Whether the run's result is there."""
        return self._result.is_file()

    def read_result(self, key: str) -> dict[str, Any]:
        """Return the result of a finished run, which has the metric `key`; a damaged file is a `UserError`."""
        try:
            result: dict[str, Any] = json.loads(self._result.read_text(encoding="utf-8"))
            _ = result[key]
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{self._result} is not the result of a run; remove it to run again, or give another hydra.run.dir"
            ) from None
        return result

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint to resume from: the folder's own, else what ``ckpt=`` says, else None."""
        own = self.path / "checkpoints" / "last.ckpt"
        if own.exists():
            return own
        return Path(self._config.ckpt) if self._config.ckpt else None

    def copy_run_so_far(self) -> None:
        """Copy best.ckpt and metrics.csv of the run that this one resumes, if that is in another folder."""
        if self.checkpoint is None or self.checkpoint.resolve().is_relative_to(self.path.resolve()):
            return
        for source, name in (("best.ckpt", "checkpoints/best.ckpt"), ("../metrics.csv", "metrics.csv")):
            if (file := self.checkpoint.parent / source).is_file():
                write_atomic(self.path / name, file.read_bytes())

    @property
    def sweep(self) -> Path | None:
        """The folder of the sweep that this run is a job of, None outside a sweep."""
        hydra = HydraConfig.get()
        return None if OmegaConf.is_missing(hydra.job, "num") else Path(hydra.sweep.dir)

    @property
    def shared(self) -> Path | None:
        """Folder of what the runs of a sweep measure once, None outside a sweep."""
        return None if self.sweep is None else self.sweep / "shared"

    @property
    def sweep_settings(self) -> dict[str, str] | None:
        """What the overrides of a sweep's job say, by key, None outside a sweep."""
        return None if self.sweep is None else settings(HydraConfig.get().overrides.task)

    def resume_command(self, module: str) -> str:
        """Return the command that resumes this run."""
        overrides = [text for text in HydraConfig.get().overrides.task if not text.startswith("ckpt=")]
        return shlex.join(["python", "-m", module, *_config_flags(), *overrides, f"hydra.run.dir={self.path}"])

    def _check_same(self) -> None:
        file = self.path / ".hydra" / "config.yaml"
        if not file.is_file():
            if found := [name for name in _TRACES if (self.path / name).exists()]:
                raise UserError(f"the folder {self.path} already holds a {found[0]}; give another hydra.run.dir")
            return
        check_same(self.path, self._config, "hydra.run.dir")

    def _write_config(self) -> None:
        """Write the files that Hydra would, but only once it is known that the folder is the run's own.

        Interpolations are resolved, so that whoever reads the config never has to resolve a stranger's.
        """
        hydra = HydraConfig.get()
        texts = {
            "config": OmegaConf.to_yaml(self._config, resolve=True),
            "hydra": OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra})),
            "overrides": OmegaConf.to_yaml(hydra.overrides.task),
        }
        for name, text in texts.items():
            write_atomic(self.path / ".hydra" / f"{name}.yaml", text)


def run_once(
    cfg: DictConfig, result: str, key: str, work: Callable[[DictConfig, RunFolder], dict[str, Any]]
) -> dict[str, Any]:
    """Return what a command's `work` gives in its folder, or what its file `result`, which has `key`, says of it."""
    with RunFolder(cfg, result) as run:
        if not run.finished:
            return work(cfg, run)
        print(f"This is done already: {run.path}")
        return run.read_result(key)


def _config_flags() -> list[str]:
    """Return the command line's --config-dir, --config-path and --config-name options."""
    flags = ("--config-dir", "--config-path", "--config-name", "-cd", "-cp", "-cn")
    found = []
    for word, value in itertools.pairwise([*sys.argv[1:], ""]):
        if word in flags:
            found += [word, value]
        elif word.partition("=")[0] in flags:
            found.append(word)
    return found
