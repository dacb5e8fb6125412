"""What sets a run's folder apart: the time, or, where every rank composes its own config, what the ranks share."""

from __future__ import annotations

import os
import re
import time

from genoseq.errors import UserError


def shared_stamp() -> str | None:
    """Return the name that all ranks of a run started by torchrun or srun agree on; None where one process starts it.

    Raises
    ------
    UserError
        If torchrun gave the run no name of its own.
    """
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    if run == "none":  # the word for none that torchrun's static rendezvous has
        raise UserError(
            "torchrun gave this run no name that its ranks could share: add --rdzv-id=NAME (or, on one node, "
            "--standalone) to torchrun, or hydra.run.dir=… to the command"
        )
    if run is not None:
        return f"torchrun-{re.sub(r'[^A-Za-z0-9_.-]', '_', run)}"
    # a batch script has the job's variables but no step: what it starts by itself is one process
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_ID" in os.environ:
        restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
        again = "" if restarts == "0" else f"-restart{restarts}"
        return f"slurm-{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}{again}"
    return None


def run_stamp() -> str:
    """Return what the folder of a run is called after: what its ranks share, else date and time."""
    return shared_stamp() or time.strftime("%Y-%m-%d/%H-%M-%S")
