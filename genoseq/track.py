"""``python -m genoseq.track ckpt=…``: how surprising each base of a genome is to a model, as tracks for a browser."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from genoseq.app.cli import command
from genoseq.app.run_folder import RunFolder
from genoseq.errors import UserError


@command("track")
def main(cfg: DictConfig) -> float:
    """Write tracks of held-out sequence; return the mean surprise in bits per base."""
    with RunFolder(cfg, "track.json") as run:
        if run.finished:
            result = run.read_result("surprise")
            print(f"The tracks are there already: {run.path}")
        else:
            result = _track(cfg, run)
    return float(result["surprise"])


def _track(cfg: DictConfig, run: RunFolder) -> dict[str, Any]:
    from genoseq.app.build import plain
    from genoseq.app.model import Models
    from genoseq.evaluation.tracks import Tracks
    from genoseq.files import write_json
    from genoseq.report.tracks import write_tracks

    if cfg.mixer not in ("checkpoint", None):
        raise UserError("mixer must be checkpoint or none: the mixer is the checkpoint's own")
    for key, least in (("window", 1), ("step", 1), ("seed", 0)):
        if not isinstance(cfg[key], int) or cfg[key] < least:
            raise UserError(f"{key} must be a whole number of at least {least}, got {cfg[key]}")
    if not isinstance(cfg.false_alarms, (int, float)) or cfg.false_alarms < 0:
        raise UserError(f"false_alarms must be a number of at least 0, got {cfg.false_alarms}")
    if cfg.genes is not None and not Path(cfg.genes).is_file():
        raise UserError(f"there is no file genes={cfg.genes}")
    given = {key: cfg.data[key] for key in ("genome_dir", "cache_dir") if cfg.data[key] is not None}
    mixer = cfg.mixer == "checkpoint"
    models = Models(plain(cfg.ckpt), plain(cfg.data.genome), mixer=mixer, trust=plain(cfg.trust), **given)
    # mapped to files: the tracks of a genome take no memory
    with tempfile.TemporaryDirectory(prefix=".tracks", dir=run.path) as folder:
        tracks = Tracks.empty(len(models.genome), Path(folder))
        for some, intervals in models.held_out():
            tracks.add(some, models.genome, intervals)
        result = write_tracks(models, tracks, cfg, run.path)
    write_json(run.path / "track.json", result)  # last: it says that the tracks are all there
    return result


if __name__ == "__main__":
    main()
