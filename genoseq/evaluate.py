"""``python -m genoseq.evaluate ckpt=…``: a trained model on its own test part, or on a whole other genome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig

from genoseq.app.cli import command
from genoseq.app.run_folder import RunFolder
from genoseq.app.runtime import is_main_process
from genoseq.errors import UserError


@command("evaluate")
def main(cfg: DictConfig) -> float:
    """Score a checkpoint with its state carried along each record; return test bits per base."""
    with RunFolder(cfg, "evaluation.json") as run:
        return _report_again(run) if run.finished else _evaluate(cfg, run)


def _report_again(run: RunFolder) -> float:
    import pandas

    from genoseq.report.evaluation import print_evaluation

    result = run.read_result("test/bits_per_base")
    if is_main_process():
        table = pandas.read_csv(run.path / "records.csv", dtype={"record": str}, keep_default_na=False)
        records: list[Any] = table.to_dict("records")
        print_evaluation(result, records, run.path)
    return float(result["test/bits_per_base"])


def _evaluate(cfg: DictConfig, run: RunFolder) -> float:
    from genoseq.app import build
    from genoseq.app.checkpoint import load_checkpoint, restore_data, restore_mixer, restore_module
    from genoseq.evaluation.blocks import base_metrics, block_rows, mix, network_sums
    from genoseq.files import write_csv, write_json
    from genoseq.report.evaluation import evaluation_result, print_evaluation

    if cfg.mixer not in ("checkpoint", None):
        raise UserError("mixer must be checkpoint or none: the mixer is the checkpoint's own")
    checkpoint = load_checkpoint(cfg.ckpt)
    metadata = checkpoint["genoseq"]
    # this command's folders and sizes
    given = {k: cfg.data[k] for k in ("genome_dir", "cache_dir", "eval_rows") if cfg.data[k] is not None}
    given |= {} if cfg.data.eval_bases == "auto" else {"eval_bases": cfg.data.eval_bases}
    training_data, why_not = _load_training_data(metadata, cfg.trust, given)
    data = training_data
    if cfg.data.genome is not None:
        data = restore_data(metadata, cfg.trust, **({"eval_bases": None} | given), genome=build.plain(cfg.data.genome))
        data.test_on_all()
    if data is None:
        raise UserError(why_not)
    data.setup("test")
    module = restore_module(checkpoint, data, cfg.trust)
    mixer = restore_mixer(checkpoint, cfg.trust) if cfg.mixer == "checkpoint" else None
    if mixer is not None and training_data is None:
        raise UserError(
            f"the mixer counts the training genome again, and {why_not}; mixer=none scores the network alone"
        )
    trainer = build.instantiate_trainer(build.trainer_options(cfg.trainer), logger=False, default_root_dir=run.path)
    with build.few_threads(module.net, data.eval_rows):
        trainer.test(module, datamodule=data, verbose=False)
    tokens = module.test_metrics.by_group()
    models = {"test": network_sums(module)}
    if is_main_process():
        if mixer is not None:
            models = mix(mixer, module, data, training_data, models)
        elif metadata["config"].get("mixer") is not None and cfg.mixer == "checkpoint":
            print(
                "The checkpoint has no mixer's weights, which only a finished run's best.ckpt has: the network alone."
            )
        if training_data is None:
            print(f"Baselines and leakage are left out: {why_not}")
        result, records = evaluation_result(
            cfg, metadata, data, training_data, tokens.numpy(), models, module.device.type
        )
        write_csv(run.path / "records.csv", records)
        write_csv(run.path / "blocks.csv", block_rows(data, models))
        write_json(run.path / "evaluation.json", result)  # last: it says that the evaluation is done
        print_evaluation(result, records, run.path)
    return base_metrics(models["test"])["bits_per_base"]


def _load_training_data(metadata: dict[str, Any], trust: Sequence[str], given: dict[str, Any]) -> tuple[Any, str]:
    """Return the data that the checkpoint was trained on, or None and why it cannot be had."""
    from genoseq.app.checkpoint import restore_data

    training_data = restore_data(metadata, trust, **given)  # raises UserError if a class is not trusted
    try:
        had, has = metadata["genome"]["sha256"], training_data.genome.sha256
        if had == has:
            _ = training_data.parts  # builds the split now: it may need a BED file that is gone
    except UserError as error:
        return None, str(error)
    if had != has:
        return None, (
            f"the checkpoint's genome '{metadata['genome']['name']}' has changed: {training_data.genome.source} is "
            "another sequence than the one trained on; give data.genome= to score the whole of a genome"
        )
    return training_data, ""


if __name__ == "__main__":
    main()
