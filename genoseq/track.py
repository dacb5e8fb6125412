"""``python -m genoseq.track ckpt=…``: how surprising each base of a genome is to a model, as tracks for a browser."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from genoseq.app.cli import command
from genoseq.app.run_folder import RunFolder, run_once
from genoseq.errors import UserError


@command("track")
def main(cfg: DictConfig) -> float:
    """Write tracks of held-out sequence; return the mean surprise in bits per base."""
    return float(run_once(cfg, "track.json", "surprise", _track)["surprise"])


def _track(cfg: DictConfig, run: RunFolder) -> dict[str, Any]:
    from genoseq.app.model import models_of
    from genoseq.configs import check_whole_numbers
    from genoseq.data.genes import genes_of
    from genoseq.evaluation.tracks import Tracks
    from genoseq.files import write_json
    from genoseq.report.tracks import write_tracks

    check_whole_numbers(cfg, window=1, step=1, seed=0)
    if not isinstance(cfg.false_alarms, (int, float)) or cfg.false_alarms < 0:
        raise UserError(f"false_alarms must be a number of at least 0, got {cfg.false_alarms}")
    models = models_of(cfg)
    genes = genes_of(cfg.genes, models.genome)
    # mapped to files: the tracks of a genome take no memory
    with tempfile.TemporaryDirectory(prefix=".tracks", dir=run.path) as folder:
        tracks = Tracks.empty(len(models.genome), Path(folder))
        for some, intervals in models.held_out:
            tracks.add(some, models.genome, intervals)
        result = write_tracks(models, tracks, genes, cfg, run.path)
    write_json(run.path / "track.json", result)  # last: it says that the tracks are all there
    return result


if __name__ == "__main__":
    main()
