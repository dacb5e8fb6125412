"""Sweepers of genoseq, where Hydra looks for plug-ins.

Every Hydra application of an environment imports this module: what is slow to import waits until a sweep begins.
"""

from __future__ import annotations

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from genoseq.errors import UserError, fail


class _LaunchingSweeper(Sweeper):
    """A sweeper with the launcher that the config names."""

    config: DictConfig
    launcher: Launcher

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Instantiate the launcher."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )


class OptunaSweeper(_LaunchingSweeper):
    """Search settings with Optuna.

    Parameters
    ----------
    **options
        Those of `genoseq.sweeps.optuna.Search`.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options

    def sweep(self, arguments: list[str]) -> Any:
        """Run the trials that are missing."""
        try:
            from genoseq.sweeps.optuna import Search
        except ModuleNotFoundError as error:
            if error.name != "optuna":
                raise
            fail("this search needs Optuna, which is not installed: pip install 'genoseq[optuna]'")
        try:
            return Search(**self.options).run(self, arguments)
        except UserError as error:
            fail(str(error))


class ReplicateSweeper(_LaunchingSweeper):
    """Run the best settings of a finished sweep with fresh seeds.

    Parameters
    ----------
    **options
        Those of `genoseq.sweeps.replicate.replicate`.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options

    def sweep(self, arguments: list[str]) -> Any:
        """Run the replicates that are missing."""
        from genoseq.sweeps.replicate import replicate

        try:
            return replicate(self, arguments, **self.options)
        except UserError as error:
            fail(str(error))
