"""Launchers: ``hydra/launcher=local_pool``, ``submitit_slurm``, ``submitit_local`` and ``ray``.

Every Hydra application imports this module: it imports neither torch nor Ray, submitit or pandas. The options of each
are in ``conf/hydra/launcher``.
"""

from genoseq.sweeps import launcher, local, ray, slurm  # Hydra would register classes that are imported by name


class LocalPool(launcher.JobLauncher):
    """Run jobs on every device of this machine."""

    kind = local.Local


class SubmititSlurm(launcher.JobLauncher):
    """Run jobs through SLURM."""

    kind = slurm.Slurm


class SubmititLocal(launcher.JobLauncher):
    """Run jobs as `SubmititSlurm` does, on this machine."""

    kind = slurm.SubmititLocal


class RayCluster(launcher.JobLauncher):
    """Run jobs through Ray."""

    kind = ray.RayCluster
