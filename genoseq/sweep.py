"""``python -m genoseq.sweep dir=…``: what a sweep has found so far, as a table, CSV, JSON and a picture."""

from __future__ import annotations

import math
from pathlib import Path

from omegaconf import DictConfig

from genoseq.app.cli import command


@command("sweep")
def main(cfg: DictConfig) -> float | None:
    """Write and print a sweep's report; return the best setting's mean validation bits per base."""
    from genoseq.sweeps.read import OBJECTIVE
    from genoseq.sweeps.table import write_sweep

    best = write_sweep(Path(str(cfg.dir)))[OBJECTIVE].iloc[0]
    return None if math.isnan(best) else float(best)


if __name__ == "__main__":
    main()
