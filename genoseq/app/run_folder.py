"""How a run's folder is claimed, and a sweep's; a Hydra callback."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from genoseq.app.runtime import is_main_process
from genoseq.errors import fail
from genoseq.overrides import settings


def sweep_folder() -> Path | None:
    """Return the folder of the sweep that this run is a job of, None outside a sweep."""
    hydra = HydraConfig.get()
    return None if OmegaConf.is_missing(hydra.job, "num") else Path(hydra.sweep.dir)


def sweep_settings() -> dict[str, str] | None:
    """Return what the command of a sweep's job says, by override key, None outside a sweep."""
    return None if sweep_folder() is None else settings(HydraConfig.get().overrides.task)


class OutputFolder(Callback):
    """Refuses, before anything is written, a run folder that cannot be written or that holds another run."""

    _before: ClassVar[dict[Path, bytes]] = {}

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim the folder of a single run."""
        self._claim(Path(config.hydra.run.dir), config)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check that a sweep's folder can be written and, unless the launcher goes on with it, holds no other."""
        folder = Path(config.hydra.sweep.dir)
        self._writable(folder)
        ours = str(config.hydra.launcher.get("_target_")).startswith("hydra_plugins.genoseq.")
        if not ours and any(folder.glob("*/result.json")):
            fail(
                f"the folder {folder} already holds a sweep; give another sweep.dir, or go on with it by "
                "hydra/launcher=local_pool"
            )

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Show what the sweep found; jobs that failed are told in the exit code."""
        from genoseq.sweeps.end import finish

        if finish(config):
            raise SystemExit(1)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Keep the log, on the console and in the folder, to the run's first process."""
        if not is_main_process():
            logging.getLogger().handlers[:] = [logging.NullHandler()]

    def _claim(self, folder: Path, config: DictConfig) -> None:
        if not is_main_process():
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
