"""``python -m genoseq.score ckpt=… variants=calls.vcf.gz``: how much less likely each allele makes the sequence."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from genoseq.app.cli import command
from genoseq.app.run_folder import RunFolder
from genoseq.errors import UserError


@command("score")
def main(cfg: DictConfig) -> int:
    """Score alleles by a checkpoint and by a count model; return how many have a score."""
    with RunFolder(cfg, "score.json") as run:
        if run.finished:
            result = run.read_result("alleles/scored")
            print(f"The scores are there already: {run.path}")
        else:
            result = _score(cfg, run)
    return int(result["alleles/scored"])


def _score(cfg: DictConfig, run: RunFolder) -> dict[str, Any]:
    from genoseq.app.build import plain
    from genoseq.app.model import Models
    from genoseq.files import write_json
    from genoseq.report.scores import print_scores, score_edits, score_file, score_region

    if cfg.mixer not in ("checkpoint", None):
        raise UserError("mixer must be checkpoint or none: the mixer is the checkpoint's own")
    for key, least in (("downstream", 0), ("background", 0), ("seed", 0)):
        if not isinstance(cfg[key], int) or cfg[key] < least:
            raise UserError(f"{key} must be a whole number of at least {least}, got {cfg[key]}")
    given = {key: cfg.data[key] for key in ("genome_dir", "cache_dir") if cfg.data[key] is not None}
    mixer = cfg.mixer == "checkpoint"
    models = Models(plain(cfg.ckpt), plain(cfg.data.genome), mixer=mixer, trust=plain(cfg.trust), **given)
    kinds = {"saturation": score_region, "frameshifts": score_edits}
    result = kinds.get(cfg.variants, score_file)(models, cfg, run.path)
    write_json(run.path / "score.json", result)  # last: it says that the scores are all there
    print_scores(result, run.path)
    return result


if __name__ == "__main__":
    main()
