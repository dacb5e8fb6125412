"""What every verb shares: where the configs are, and how a user's mistake is told.

Nothing here imports torch, so that ``--help`` and shell completion stay quick.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from genoseq.app import resolvers
from genoseq.app.run_folder import OutputFolder
from genoseq.app.runtime import exit_with_parent, is_main_process, limit_openmp_spin, retain_heap
from genoseq.app.stamp import shared_stamp
from genoseq.errors import UserError, fail
from genoseq.overrides import quote_paths
from genoseq.paths import conf_dir

T = TypeVar("T")
# functions of ours that hand the config's values to a class of another library: what it refuses is the user's to mend
_BUILDERS = {"configure_optimizers": "the optimizer or scheduler", "build_trainer": "the trainer"}


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


def verb(config_name: str) -> Callable[[Callable[[DictConfig], T]], Callable[[], T]]:
    """Make a function of the composed config a command; a user's mistake is one sentence and exit code 2."""

    def wrap(task: Callable[[DictConfig], T]) -> Callable[[], T]:
        @functools.wraps(task)
        def guarded(cfg: DictConfig) -> T:
            retain_heap()
            limit_openmp_spin()
            try:
                if missing := sorted(OmegaConf.missing_keys(cfg)):
                    raise UserError(f"{missing[0]} has no value and needs one: add {missing[0]}=… to the command")
                return task(cfg)
            except KeyboardInterrupt:
                print("genoseq: interrupted", file=sys.stderr)
                raise SystemExit(130) from None
            except Exception as error:
                sentence = mistake(error)
                # in a sweep's own process (Hydra's basic launcher) an exit would take the other jobs along
                if sentence is None or HydraConfig.get().mode == RunMode.MULTIRUN:
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
            from genoseq.sweeps import plugins

            exit_with_parent()
            plugins.register()
            resolvers.register()
            sys.argv[1:] = quote_paths(sys.argv[1:])
            if not any(word.startswith("hydra.run.dir=") for word in sys.argv):
                try:
                    shared_stamp()
                except UserError as error:  # here, since Hydra would show it with a traceback
                    fail(str(error))
            if not is_main_process():  # one process writes the folder's .hydra/
                sys.argv.append("hydra.output_subdir=null")
            return main()

        return command

    return wrap
