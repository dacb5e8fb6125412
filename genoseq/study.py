"""``python -m genoseq.study name=… dir=…``: table and figure of a study under ``experiments/``, from its runs."""

from __future__ import annotations

import importlib
from pathlib import Path

from omegaconf import DictConfig

from genoseq.app.cli import command
from genoseq.errors import UserError

STUDIES = ("context", "leakage", "report", "tokens")


@command("study")
def main(cfg: DictConfig) -> None:
    """Write results.csv and figure.png of a study, and print its table."""
    if cfg.name not in STUDIES:
        raise UserError(f"there is no study '{cfg.name}'; name= takes {', '.join(STUDIES)}")
    study = importlib.import_module(f"genoseq.report.study_{cfg.name}")
    folder = Path(str(cfg.dir))
    if not folder.is_dir():
        raise UserError(f"there is no folder dir={folder}: run the study's command first (experiments/{cfg.name})")
    study.write_study(folder, Path(str(cfg.out or folder)))


if __name__ == "__main__":
    main()
