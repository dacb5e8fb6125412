"""The end of a sweep: its table, its picture, and how many jobs failed."""

from __future__ import annotations

import traceback
from pathlib import Path

from omegaconf import DictConfig

from genoseq.errors import UserError
from genoseq.sweeps.record import read_record


def finish(config: DictConfig) -> int:
    """Write and print what a sweep found; return how many of its jobs, and of these reports, failed."""
    folder = Path(str(config.hydra.sweep.dir))
    failed = [job for job in read_record(folder) if job["state"] == "failed"]
    if config.hydra.job.config_name != "train":
        for job in failed:
            print(f"failed  {job['name']}: {job['why']}")
        print(f"files: {folder}")
        return len(failed)
    from genoseq.sweeps.table import write_sweep

    try:
        write_sweep(folder)
    except UserError as error:
        print(f"genoseq: {error}")
        return len(failed) + 1
    except Exception:  # Hydra would make a warning of it and end with code 0
        traceback.print_exc()
        return len(failed) + 1
    return len(failed)
