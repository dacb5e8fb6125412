"""``python -m genoseq.sample ckpt=… n=10 length=1000``: sequences drawn from a trained network."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from genoseq.app.cli import command
from genoseq.app.run_folder import RunFolder, run_once
from genoseq.errors import UserError


@command("sample")
def main(cfg: DictConfig) -> int:
    """Write sequences as FASTA, and how they compare with held-out ones; return how many there are."""
    return int(run_once(cfg, "sample.json", "n", _sample)["n"])


def _sample(cfg: DictConfig, run: RunFolder) -> dict[str, Any]:
    from genoseq.app.model import models_of
    from genoseq.configs import check_whole_numbers
    from genoseq.data.genome import BASES
    from genoseq.data.regions import parse_region
    from genoseq.data.variants import encode
    from genoseq.evaluation.sampling import sample
    from genoseq.files import write_atomic, write_csv, write_json
    from genoseq.report.result import provenance
    from genoseq.report.samples import compare, held_out_sequence, print_comparison

    check_whole_numbers(cfg, n=1, length=1, seed=0)
    if not isinstance(cfg.temperature, (int, float)) or not 0 < cfg.temperature < 1e6:
        raise UserError(f"temperature must be above 0, got {cfg.temperature}")
    # without the mixer: experts would copy the training sequence
    models = models_of(cfg).models
    if len(models) > 1:
        raise UserError(f"sequence is drawn from one network: ckpt=… names {len(models)} checkpoints, give one of them")
    model = models[0]
    prompt = None
    if cfg.prompt is not None:
        prompt = encode(str(cfg.prompt))
        if not (prompt > 0).all():
            start, end = parse_region(cfg.prompt, model.training_data.genome, "prompt")
            prompt = model.training_data.genome.codes[start:end].numpy()
        if len(prompt) < model.vocabulary.k or not (prompt > 0).all():
            raise UserError(f"prompt must be known letters, at least the {model.vocabulary.k} of a token")
    real = held_out_sequence(model, cfg.length)
    codes = sample(model.module, model.tokenizer, cfg.n, cfg.length, cfg.seed, float(cfg.temperature), prompt)
    said = f"temperature={cfg.temperature} seed={cfg.seed} prompt={cfg.prompt} checkpoint={cfg.ckpt}"
    lines = []
    for number, row in enumerate(codes, 1):
        letters = "".join(BASES[code - 1] for code in row.tolist())
        lines += [f">sample{number} {said}", *(letters[i : i + 60] for i in range(0, len(letters), 60))]
    rows = compare(model, codes, real, cfg.seed)
    write_csv(run.path / "samples.csv", rows)
    write_atomic(run.path / "samples.fa", "\n".join(lines) + "\n")
    result = {"n": cfg.n, "length": cfg.length, "temperature": cfg.temperature, "seed": cfg.seed, "prompt": cfg.prompt}
    result |= {"checkpoint": str(model.path.resolve()), **provenance(model.module.device.type)}
    write_json(run.path / "sample.json", result)  # last: it says that the samples are all there
    print_comparison(rows, run.path)
    return result


if __name__ == "__main__":
    main()
