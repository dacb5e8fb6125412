"""``python -m genoseq.sweep dir=…``: what a sweep has found so far, as a table, CSV, JSON and a picture."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from genoseq.app.cli import command


@command("sweep")
def main(cfg: DictConfig) -> float | None:
    """Write and print a sweep's report; return the best setting's validation bits per base."""
    from genoseq.sweeps.groups import fold
    from genoseq.sweeps.report_files import write_sweep

    return fold(write_sweep(Path(str(cfg.dir))))[0].val.mean


if __name__ == "__main__":
    main()
