"""What every verb shares: where the configs are, how a user's mistake is told, how a run's folder is claimed.

Nothing here imports torch, so that ``--help`` and shell completion stay quick.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import platform
import re
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeVar

import hydra
from hydra.errors import InstantiationException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from genoseq.errors import UserError
from genoseq.paths import conf_dir

T = TypeVar("T")
# functions of ours that hand the config's values to a class of another library: what it refuses is the user's to mend
_BUILDERS = {"configure_optimizers": "the optimizer or scheduler", "build_trainer": "the trainer"}
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _GIB = -1, -3, 1 << 30


def user_error(error: BaseException | None) -> UserError | None:
    """Return the user's mistake behind `error`, if that is what it is (Hydra wraps what a constructor raises)."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, UserError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def mistake(error: Exception) -> str | None:
    """Return the sentence for an error that the user can mend, None for a defect of the program."""
    ours = user_error(error)
    if ours is not None:
        return str(ours)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    refused = [_BUILDERS[f.f_code.co_name] for f in frames if f.f_code.co_name in _BUILDERS and _is_ours(f.f_globals)]
    if isinstance(error, InstantiationException):
        target = re.search(r"'([\w.]+)'", str(error))
        refused = [target.group(1) if target else "an object"]
    elif type(error).__name__ == "MisconfigurationException":  # Lightning's, which is not to be imported here
        refused = refused or ["the trainer"]
    elif not isinstance(error, (TypeError, ValueError, ImportError)):
        return None
    if not refused or "HYDRA_FULL_ERROR" in os.environ:
        return None
    cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
    reason = " ".join(str(cause).split()).rstrip(".")
    return f"{refused[0]} cannot be made as the config says: {reason} (HYDRA_FULL_ERROR=1 shows where)"


def _is_ours(module: dict[str, Any]) -> bool:
    return str(module.get("__name__")).startswith("genoseq.")


def fail(message: str) -> NoReturn:
    """Print one sentence for the user and exit with code 2."""
    print(f"genoseq: {message}", file=sys.stderr)
    raise SystemExit(2)


def verb(config_name: str) -> Callable[[Callable[[DictConfig], T]], Callable[[], T]]:
    """Make a function of the composed config a command; a user's mistake is one sentence and exit code 2."""

    def wrap(task: Callable[[DictConfig], T]) -> Callable[[], T]:
        @functools.wraps(task)
        def guarded(cfg: DictConfig) -> T:
            keep_freed_memory()
            share_cores()
            try:
                if missing := sorted(OmegaConf.missing_keys(cfg)):
                    raise UserError(f"{missing[0]} has no value and needs one: add {missing[0]}=… to the command")
                return task(cfg)
            except KeyboardInterrupt:
                print("genoseq: interrupted", file=sys.stderr)
                raise SystemExit(130) from None
            except Exception as error:
                sentence = mistake(error)
                if sentence is None:
                    raise
                OutputFolder.put_back()
                fail(sentence)

        try:
            folder = str(conf_dir())
        except UserError as error:
            fail(str(error))
        main: Callable[[], T] = hydra.main(version_base="1.3", config_path=folder, config_name=config_name)(guarded)

        @functools.wraps(main)
        def command() -> T:
            from genoseq.launch import plugins

            plugins.register()
            return main()

        return command

    return wrap


def keep_freed_memory() -> None:
    """Stop glibc from handing freed memory back to the kernel between steps (it is faulted in again on the next).

    Up to a third of a CPU training step; does nothing on other systems or when the user set a policy.
    """
    if platform.libc_ver()[0] == "glibc" and not any(name.startswith("MALLOC_") for name in os.environ):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _GIB)
        libc.mallopt(_M_TRIM_THRESHOLD, _GIB)


def hand_back_memory() -> None:
    """Give what glibc holds but nothing uses back to the kernel, once: after work whose scratch training won't need."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def share_cores() -> None:
    """Let an OpenMP thread that waits for another sleep soon instead of spinning.

    An LSTM on a CPU waits several times a time step. Beside another busy process GNU OpenMP's own patience makes a
    training step tens of times slower; this much less costs nothing on a quiet machine. Runs before torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def main_process() -> bool:
    """Whether this process is a run's first (Lightning starts the other ranks with LOCAL_RANK set)."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("RANK", "0") == "0"


class OutputFolder(Callback):
    """Refuses, before anything is written, a run folder that cannot be written or that holds another run."""

    _before: ClassVar[dict[Path, bytes]] = {}

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim the folder of a single run."""
        self._claim(Path(config.hydra.run.dir), config)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check that a sweep's folder can be written and holds no other."""
        folder = Path(config.hydra.sweep.dir)
        self._writable(folder)
        if any(folder.glob("*/result.json")):
            fail(f"the folder {folder} already holds a sweep; give another hydra.sweep.dir")

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Keep the log, on the console and in the folder, to the run's first process."""
        if not main_process():
            logging.getLogger().handlers[:] = [logging.NullHandler()]

    def _claim(self, folder: Path, config: DictConfig) -> None:
        if not main_process():
            return
        self._writable(folder)
        ckpt = config.get("ckpt")
        goes_on = (
            "optimizer" in config  # evaluate has a ckpt too, but goes on with nothing
            and ckpt is not None
            and Path(ckpt).resolve().is_relative_to(folder.resolve())
        )
        if any((folder / name).exists() for name in ("result.json", "checkpoints", "evaluation.json")) and not goes_on:
            fail(
                f"the folder {folder} already holds a run; give another hydra.run.dir, or go on with that run by "
                f"ckpt={folder}/checkpoints/last.ckpt"
            )
        self._before.clear()  # Hydra writes its files anew before it is known whether the run can go on
        self._before.update({file: file.read_bytes() for file in folder.glob(".hydra/*.yaml")})

    @classmethod
    def put_back(cls) -> None:
        """Give a run that is refused after all the config files back that it had."""
        for file, content in cls._before.items():
            file.write_bytes(content)

    @staticmethod
    def _writable(folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            fail(f"the output folder {folder} cannot be written ({error.strerror}); give another hydra.run.dir")
