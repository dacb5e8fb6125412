"""The ``command`` decorator: compose the config, report a user's mistake in one sentence.

Nothing here imports torch, so that ``--help`` and shell completion stay quick.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

import genoseq
from genoseq.app import resolvers
from genoseq.app.run_folder import check_writable, shared_name
from genoseq.app.runtime import exit_with_parent, is_main_process, limit_openmp_spin, retain_heap
from genoseq.errors import UserError, fail
from genoseq.files import write_json
from genoseq.overrides import quote_paths

T = TypeVar("T")


def conf_dir() -> Path:
    """Return the folder of the Hydra configuration: ``genoseq/conf`` in a wheel, ``conf`` in a checkout."""
    package = Path(genoseq.__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if folder.is_dir():
            return folder
    return fail(f"there is no configuration folder {package / 'conf'}: install genoseq again, or use a whole checkout")


def user_error(error: BaseException | None) -> UserError | None:
    """Return the `UserError` in the chain of causes of `error` (Hydra wraps what a constructor raises), else None."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, UserError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def with_aliases(arguments: list[str]) -> list[str]:
    """Return command-line arguments with ``sweep=NAME`` as ``hparams_search=NAME``, ``again`` as ``replicate``."""
    alias = {"sweep=again": "hparams_search=replicate", "hparams_search=again": "hparams_search=replicate"}
    renamed = (alias.get(argument, argument) for argument in arguments)
    return [f"hparams_search={text[6:]}" if text.startswith("sweep=") else text for text in renamed]


def command(config_name: str) -> Callable[[Callable[[DictConfig], T]], Callable[[], T]]:
    """Make a function of the composed config a command; a user's mistake is one sentence and exit code 2.

    In a sweep that runs its jobs in its own process (Hydra's basic launcher, joblib) a job that fails returns nan
    instead, so that the other jobs run.
    """

    def wrap(task: Callable[[DictConfig], T]) -> Callable[[], T]:
        @functools.wraps(task)
        def guarded(cfg: DictConfig) -> T | float:
            retain_heap()
            in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
            try:
                if missing := sorted(OmegaConf.missing_keys(cfg)):
                    raise UserError(f"{missing[0]} has no value and needs one: add {missing[0]}=… to the command")
                return task(cfg)
            except KeyboardInterrupt:
                print("genoseq: interrupted", file=sys.stderr)
                raise SystemExit(130) from None
            except Exception as error:
                mistake = None if "HYDRA_FULL_ERROR" in os.environ else user_error(error)
                if in_sweep:
                    logging.getLogger(__name__).error("%s", mistake or "the job failed", exc_info=mistake is None)
                    why = str(mistake or error) or type(error).__name__
                    folder = Path(HydraConfig.get().runtime.output_dir)
                    if not (
                        folder / ".hydra" / "config.yaml"
                    ).exists():  # else it is another run's, or RunFolder wrote it
                        write_json(folder / "failed.json", {"why": why})
                    return float("nan")
                if mistake is None:
                    raise
                fail(str(mistake))

        main: Callable[[], T] = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(
            guarded
        )

        @functools.wraps(main)
        def run() -> T:
            exit_with_parent()
            limit_openmp_spin()
            forget_foreign_schemas()
            resolvers.register()
            sys.argv[1:] = quote_paths(with_aliases(sys.argv[1:]))
            try:
                shared_name()
            except UserError as error:
                if not any(argument.startswith("hydra.run.dir=") for argument in sys.argv):
                    fail(str(error))  # here, since Hydra would show it with a traceback
            return main()

        return run

    return wrap


def forget_foreign_schemas() -> None:
    """Forget the schemas of other Hydra plug-ins whose launchers are called as ours are.

    Hydra would lay the schema of hydra-ray-launcher or hydra-submitit-launcher over our file of that name.
    """
    Plugins.instance()  # scans the plug-ins, which register their schemas
    schemas: dict[str, Any] = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for name in ("ray", "submitit_local", "submitit_slurm"):
        schemas.pop(f"{name}.yaml", None)


def _refuse_unwritable(folder: str, key: str) -> None:
    try:
        check_writable(Path(folder), key)
    except UserError as error:
        fail(str(error))  # here, since Hydra would make a warning of an exception in a callback


class SweepReport(Callback):
    """Hydra callback: check a sweep's folder before its first job, print the sweep's table after its last."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a run's folder that Hydra cannot make."""
        _refuse_unwritable(config.hydra.run.dir, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a folder that cannot be written."""
        _refuse_unwritable(config.hydra.sweep.dir, "sweep.dir")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print what the sweep found; exit with code 1 if jobs failed."""
        from genoseq.sweeps.launcher import finish

        if finish(Path(config.hydra.sweep.dir)):
            raise SystemExit(1)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Keep the log, on the console and in the folder, to the run's first process."""
        if not is_main_process():
            logging.getLogger().handlers[:] = [logging.NullHandler()]
