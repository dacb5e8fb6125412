"""Makes genoseq's launchers and its sweeper known to Hydra, without a ``hydra_plugins`` package beside ours."""

from __future__ import annotations

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from genoseq.sweeps.local import LocalPool
from genoseq.sweeps.ray import RayCluster
from genoseq.sweeps.slurm import SubmititSlurm
from genoseq.sweeps.submitit_local import SubmititLocal

_PREFIX = "hydra_plugins.genoseq"  # Hydra takes a plug-in from a package of that name only
_PLUGINS = (LocalPool, RayCluster, SubmititLocal, SubmititSlurm)


def register() -> None:
    """Register every plug-in under ``hydra_plugins.genoseq.<class>``."""
    # straight into the table: Plugins.register() would look for the class under its own module's name
    known: dict[str, Any] = Plugins.instance().class_name_to_class
    known |= {f"{_PREFIX}.{plugin.__name__}": plugin for plugin in _PLUGINS}
    # a plug-in of Hydra's own with the name of one of our config files would have its schema laid over that file
    others: dict[str, Any] = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for name in ("ray", "submitit_local", "submitit_slurm"):
        others.pop(f"{name}.yaml", None)
