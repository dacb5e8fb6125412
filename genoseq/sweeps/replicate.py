"""A sweeper that runs the best settings of a finished sweep again, with other seeds: how sure is the ranking?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from genoseq.errors import UserError, fail
from genoseq.overrides import settings
from genoseq.sweeps.collect import collect
from genoseq.sweeps.groups import Group, fold
from genoseq.sweeps.launcher import JobLauncher


class ReplicateSweeper(Sweeper):
    """Repeats the best settings of ``sweep.dir`` in that folder.

    Parameters
    ----------
    best : int
        How many settings, from the best validation bits per base down.
    seeds : sequence of int
        The seeds to repeat each with; those that were run are not run again.
    """

    def __init__(self, best: int = 5, seeds: Sequence[int] = (1, 2)) -> None:
        self._best, self._seeds = best, list(seeds)
        self.config: DictConfig
        self.launcher: Launcher

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Build the launcher."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Launch the repetitions, with the command's own overrides on top of what the settings were run with."""
        try:
            sweep = collect(Path(str(self.config.hydra.sweep.dir)))
            groups = [group for group in fold(sweep) if group.val.n][: self._best]
            if not groups:
                raise UserError(f"no run of the sweep in {sweep.folder} has finished; nothing can be run again")
            own = settings(arguments)  # sweep=replicate among them: a command's hydra.sweeper.… needs it in each job
            batch = [
                [f"{key}={value}" for key, value in (self._settings(group) | own | {"seed": str(seed)}).items()]
                for group in groups
                for seed in self._seeds
            ]
        except UserError as error:
            fail(str(error))
        if isinstance(self.launcher, JobLauncher):  # folders are called as the first runs' are, with the seed
            self.launcher.varied = [*sweep.parameters, "seed"]
        self.validate_batch_is_legal(batch)
        return self.launcher.launch(batch, initial_job_idx=len(sweep.runs))

    @staticmethod
    def _settings(group: Group) -> dict[str, str]:
        run = next(run for run in group.runs if run.state == "done")
        text = (run.folder / ".hydra" / "overrides.yaml").read_text(encoding="utf-8")
        return settings(yaml.safe_load(text) or [])
