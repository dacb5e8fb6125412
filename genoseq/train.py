"""``python -m genoseq.train``: train a next-token model of a genome, measure it, and leave a run behind."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from genoseq.app.cli import command
from genoseq.app.run_folder import RunFolder
from genoseq.app.runtime import is_main_process, trim_heap
from genoseq.errors import UserError

if TYPE_CHECKING:
    from genoseq.baselines.fit import Baselines


@command("train")
def main(cfg: DictConfig) -> float | None:
    """Compose, train, test and report; return validation bits per base, which sweeps minimise."""
    _check(cfg)
    with RunFolder(cfg) as run:
        if run.finished:
            return _report_again(run)
        cfg.ckpt = None if run.checkpoint is None else str(run.checkpoint)
        return _train(cfg, run)


def _check(cfg: DictConfig) -> None:
    if not isinstance(cfg.positions, int) or cfg.positions < 0:
        raise UserError(f"positions must be 0 or a number of windows over each base, got {cfg.positions}")
    if cfg.baseline not in (True, False, "all"):
        raise UserError(f"baseline must be true, false or all, got {cfg.baseline}")
    if cfg.passes is not None and (not isinstance(cfg.passes, (int, float)) or cfg.passes <= 0):
        raise UserError(f"passes must be null or a number above 0, got {cfg.passes}")
    if not isinstance(cfg.compile, bool):
        raise UserError(f"compile must be true or false, got {cfg.compile}")


def _report_again(run: RunFolder) -> float | None:
    from genoseq.report.summary import print_summary

    result = run.read_result("val/bits_per_base")
    if is_main_process():
        print(f"The run in {run.path} is finished.")
        print_summary(result, run.path)
    value: float | None = result["val/bits_per_base"]
    return value


def _train(cfg: DictConfig, run: RunFolder) -> float | None:
    begin = time.perf_counter()
    from genoseq.app import build, checkpoint
    from genoseq.baselines.fit import Baselines, baseline_lines
    from genoseq.data.split import write_bed
    from genoseq.report.summary import print_start
    from genoseq.training.loggers import log_baselines, log_config
    from genoseq.training.mixing import check_split

    build.check_steps(cfg.trainer)
    data, mixer = build.build_data(cfg.data), build.build_mixer(cfg.mixer)
    data.setup("fit")
    if mixer is not None:
        check_split(data)
    if cfg.passes is not None:
        cfg.trainer.max_steps = min(cfg.trainer.max_steps, data.steps_of(cfg.passes))
    module = build.build_module(cfg, data)
    step = checkpoint.resumed_step(cfg, module, run.path)
    baselines: Baselines | None = None
    if is_main_process():
        if step is None and (run.path / "metrics.csv").exists():
            print(f"There is no checkpoints/last.ckpt in {run.path}: the run starts over.")
        run.copy_run_so_far()
        write_bed(run.path / "split.bed", data.parts, data.genome, data.span)
        print_start(cfg, data, module)
        baselines = Baselines.fit(data, run.shared) if cfg.baseline else None

    trainer = build.build_trainer(cfg, run.path, build.build_loggers(cfg, run.path, step))
    if trainer.is_global_zero:
        config = build.plain(cfg)
        log_config(trainer, config, OmegaConf.to_yaml(cfg, resolve=True), run.sweep_settings)
        log_baselines(trainer, baseline_lines(baselines, "val"), step or 0, trainer.max_steps, run.sweep)
    trim_heap()  # of the count models' scratch memory
    with build.few_threads(module.net, data.batch_size):
        trainer.fit(module, datamodule=data, ckpt_path=cfg.ckpt, weights_only=True)
    return _finish(cfg, trainer, module, data, mixer, baselines, run, begin)


def _finish(
    cfg: DictConfig,
    trainer: Any,
    module: Any,
    data: Any,
    mixer: Any,
    baselines: Baselines | None,
    run: RunFolder,
    begin: float,
) -> float | None:
    """Test the best weights, write what a run leaves, and print the closing table."""
    from genoseq.app.build import few_threads
    from genoseq.app.checkpoint import add_mixer, load_checkpoint
    from genoseq.baselines.fit import baseline_lines
    from genoseq.evaluation.blocks import block_rows, mix, network_sums, prefixed
    from genoseq.files import write_csv, write_json
    from genoseq.report.plots import draw_curves
    from genoseq.report.result import curve_lines, run_result
    from genoseq.report.summary import print_summary
    from genoseq.training.callbacks import Checkpoints, GracefulStop, StepMetrics
    from genoseq.training.loggers import log_baselines, log_result

    callbacks = {type(c): c for c in trainer.callbacks}
    best = callbacks[Checkpoints].best_model_score
    val = None if best is None else float(best)
    stopped = callbacks[GracefulStop].signal
    measured: dict[str, float] = {}
    if stopped is None:
        trim_heap()
        best_path = callbacks[Checkpoints].best_model_path or str(run.path / "checkpoints" / "best.ckpt")
        checkpoint = load_checkpoint(best_path)  # raises UserError if it is damaged
        with few_threads(module.net, data.eval_rows):
            trainer.test(module, datamodule=data, ckpt_path=best_path, verbose=False, weights_only=True)
        models = {"test": network_sums(module)}
    if not trainer.is_global_zero:
        return val
    if stopped is None:
        if mixer is not None:
            mixing = time.perf_counter()
            mixer.fit(module, data, cfg.seed)
            models = mix(mixer, module, data, data, models)
            add_mixer(best_path, checkpoint, mixer)
            measured["mixer/seconds"] = time.perf_counter() - mixing
        measured |= {"test/loss": module.reported["test"]["test/loss"], **prefixed(models)}
        for logger in trainer.loggers:
            logger.log_metrics(measured, step=trainer.global_step)
        write_csv(run.path / "blocks.csv", block_rows(data, models))
        _write_tables(cfg, trainer, module, data, run)
    ran = {
        "val/bits_per_base": val,
        "train/steps": trainer.global_step,
        "train/tokens_per_second": callbacks[StepMetrics].tokens_per_second,
        "seconds": time.perf_counter() - begin,
        "precision": str(trainer.precision),
        "model/parameters": sum(p.numel() for p in module.net.parameters()),
    }
    result = run_result(cfg, data, baselines, measured, ran, trainer.strategy.root_device.type, run.shared)
    if stopped is None:
        log_baselines(trainer, baseline_lines(baselines, "test"), 0, trainer.global_step, run.sweep)
        accuracy = baselines.score("val")["baseline"].accuracy if baselines else None
        log_result(trainer, module, data, result, accuracy)
    for logger in trainer.loggers:
        logger.finalize("success")
    draw_curves(run.path / "metrics.csv", run.path / "curves.png", **curve_lines(result, baselines))
    if stopped is None:
        write_json(run.path / "result.json", result)  # last: it says that the run is done
    print_summary(result, run.path)
    if stopped is not None:
        print(f"Stopped at step {trainer.global_step:,}. Resume with: {run.resume_command('genoseq.train')}")
        raise SystemExit(128 + stopped)
    return val


def _write_tables(cfg: DictConfig, trainer: Any, module: Any, data: Any, run: RunFolder) -> None:
    """Write the tables that a config asks for beside a run's result."""
    from genoseq.baselines.fit import write_orders
    from genoseq.evaluation.positions import position_rows
    from genoseq.files import write_csv
    from genoseq.training.module import on_device

    if cfg.positions:
        with on_device(module, trainer):
            write_csv(run.path / "positions.csv", position_rows(module, data, "test", int(cfg.positions)))
    if cfg.baseline == "all":
        write_orders(data, run.path / "orders.csv")


if __name__ == "__main__":
    main()
