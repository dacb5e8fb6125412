"""Sweepers of genoseq, where Hydra looks for plug-ins.

Every Hydra application of an environment imports this module: what is slow to import waits until a sweep begins.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from genoseq.errors import UserError, fail


class _Sweeper(Sweeper):
    """Launches through what the config names; its options are those of the function or class that it calls."""

    config: DictConfig
    launcher: Launcher

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        try:
            return self.run(arguments)
        except UserError as error:
            fail(str(error))

    @abstractmethod
    def run(self, arguments: list[str]) -> Any:
        """Run the jobs that are missing."""


class OptunaSweeper(_Sweeper):
    """Search settings with `genoseq.sweeps.optuna.Search`."""

    def run(self, arguments: list[str]) -> Any:
        """Run the trials that are missing."""
        try:
            from genoseq.sweeps.optuna import Search
        except ModuleNotFoundError as error:
            if error.name != "optuna":
                raise
            fail("this search needs Optuna, which is not installed: pip install 'genoseq[optuna]'")
        return Search(**self.options).run(self, arguments)


class ReplicateSweeper(_Sweeper):
    """Run the best settings of a finished sweep with `genoseq.sweeps.replicate.replicate`."""

    def run(self, arguments: list[str]) -> Any:
        """Run the replicates that are missing."""
        from genoseq.sweeps.replicate import replicate

        return replicate(self, arguments, **self.options)
