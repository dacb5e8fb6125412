"""``python -m genoseq.score ckpt=… variants=calls.vcf.gz``: how much less likely each allele makes the sequence."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from genoseq.app.cli import command
from genoseq.app.run_folder import RunFolder, run_once


@command("score")
def main(cfg: DictConfig) -> int:
    """Score alleles by a checkpoint and by a count model; return how many have a score."""
    return int(run_once(cfg, "score.json", "alleles/scored", _score)["alleles/scored"])


def _score(cfg: DictConfig, run: RunFolder) -> dict[str, Any]:
    from genoseq.app.model import models_of
    from genoseq.configs import check_whole_numbers
    from genoseq.files import write_json
    from genoseq.report.scores import print_scores, score_edits, score_file, score_region

    check_whole_numbers(cfg, downstream=0, background=0, seed=0)
    models = models_of(cfg)
    kinds = {"saturation": score_region, "frameshifts": score_edits}
    result = kinds.get(cfg.variants, score_file)(models, cfg, run.path)
    write_json(run.path / "score.json", result)  # last: it says that the scores are all there
    print_scores(result, run.path)
    return result


if __name__ == "__main__":
    main()
