"""``python -m genoseq.embed ckpt=… regions=genes.gff3``: one vector a region, out of a network's hidden states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from genoseq.app.cli import command
from genoseq.app.run_folder import RunFolder, run_once
from genoseq.errors import UserError

BLOCK = 4096
"""Regions embedded at a time."""


@command("embed")
def main(cfg: DictConfig) -> int:
    """Write one vector a region; return how many there are."""
    return int(run_once(cfg, "embed.json", "regions", _embed)["regions"])


def _embed(cfg: DictConfig, run: RunFolder) -> dict[str, Any]:
    import numpy as np
    import pandas

    from genoseq.app.model import models_of
    from genoseq.configs import check_whole_numbers
    from genoseq.data.regions import read_regions, windows
    from genoseq.evaluation.embeddings import gc_share, tetranucleotides
    from genoseq.files import atomic_path, write_atomic, write_json
    from genoseq.report.result import provenance
    from genoseq.report.scores import locate

    if cfg.pooling not in ("mean", "last"):
        raise UserError(f"pooling must be mean or last, got {cfg.pooling}")
    check_whole_numbers(cfg, window=1)
    models = models_of(cfg)
    genome = models.genome
    regions = read_regions(Path(cfg.regions).expanduser(), genome) if cfg.regions else windows(genome, cfg.window)
    shortest, k = min(regions, key=lambda region: region.end - region.start), models.models[0].vocabulary.k
    if shortest.end - shortest.start < k:
        raise UserError(
            f"region '{shortest.name}' has {shortest.end - shortest.start} bases, fewer than the {k} of a token: leave "
            "it out"
        )
    start, end = (np.array([getattr(region, side) for region in regions]) for side in ("start", "end"))
    names, first = locate(genome, start)
    owner = models.owners(start)
    if owner.min() < 0 and len(models.models) > 1:
        raise UserError("vectors of several networks cannot be averaged: give one checkpoint to embed another genome")
    spans = [(int(low), region.start, region.end) for low, region in zip(first, regions, strict=True)]
    other, out = genome.reverse_complement(), None
    with atomic_path(run.path / "embeddings.npy") as part:
        for number, model in enumerate(models.models):
            index = np.flatnonzero((owner == number) | (owner < 0))
            for at in range(0, len(index), BLOCK):
                some = index[at : at + BLOCK]
                vectors = model.embed_regions(genome, other, [spans[i] for i in some], cfg.pooling)
                if out is None:
                    shape = (len(regions), vectors.shape[1])
                    out = np.lib.format.open_memmap(part, "w+", np.float32, shape)
                if out.shape[1] != vectors.shape[1]:
                    raise UserError("the checkpoints have hidden states of different sizes")
                out[some] = vectors
        del out
    codes = genome.codes.numpy()
    with atomic_path(run.path / "tetranucleotides.npy") as part:
        np.save(part, tetranucleotides(codes, spans))
    table = pandas.DataFrame(
        {
            "record": names,
            "start": start - first,
            "end": end - first,
            "name": [region.name for region in regions],
            "strand": [region.strand for region in regions],
            "part": models.parts(start, end),
            "gc": [gc_share(codes[region.start : region.end]) for region in regions],
        }
    )
    text = table.to_csv(sep="\t", index=False, lineterminator="\n", float_format="%.4f")
    write_atomic(run.path / "regions.tsv", text)
    result = {"regions": len(regions), "pooling": cfg.pooling, "genome/name": genome.name}
    result |= {"genome/sha256": genome.sha256, "checkpoints": [str(model.path.resolve()) for model in models.models]}
    result |= provenance(models.models[0].module.device.type)
    write_json(run.path / "embed.json", result)  # last: it says that the embeddings are all there
    print(f"{len(regions):,} regions of {genome.name}; files: {run.path}")
    return result


if __name__ == "__main__":
    main()
