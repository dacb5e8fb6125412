"""``python -m genoseq.train``: train a next-token model of a genome, measure it, and leave a run behind."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from genoseq.app.cli import verb
from genoseq.app.run_folder import sweep_folder, sweep_settings
from genoseq.app.runtime import is_main_process, trim_heap
from genoseq.errors import UserError

if TYPE_CHECKING:
    from genoseq.baselines.fit import Baselines


@verb("train")
def main(cfg: DictConfig) -> float | None:
    """Compose, train, test and report; return validation bits per base, which sweeps minimise."""
    begin = time.perf_counter()
    from genoseq.app import build
    from genoseq.app.checkpoint import resumed_step
    from genoseq.baselines.fit import Baselines, baseline_lines
    from genoseq.report.split_bed import write_split
    from genoseq.report.summary import print_start
    from genoseq.training import tensorboard

    _check(cfg)
    folder = Path(HydraConfig.get().runtime.output_dir)
    data = build.build_data(cfg.data)
    data.setup("fit")
    trim_heap()
    module = build.build_module(cfg, data)
    step = resumed_step(cfg, module, folder)
    baselines: Baselines | None = None
    if is_main_process():
        write_split(data, folder / "split.bed")
        print_start(cfg, data, module)
        baselines = Baselines.fit(data) if cfg.baseline else None

    trainer = build.build_trainer(cfg, folder, build.build_loggers(cfg, folder, step))
    if trainer.is_global_zero:
        config = build.plain(cfg)
        tensorboard.open_page(trainer, config, OmegaConf.to_yaml(cfg, resolve=True), sweep_settings())
        tensorboard.draw_lines(
            trainer, baseline_lines(data, baselines, "val"), step or 0, trainer.max_steps, sweep_folder()
        )
    trim_heap()
    trainer.fit(module, datamodule=data, ckpt_path=cfg.ckpt, weights_only=True)
    return _finish(cfg, trainer, module, data, baselines, folder, begin)


def _check(cfg: DictConfig) -> None:
    if not isinstance(cfg.positions, int) or cfg.positions < 0:
        raise UserError(f"positions={cfg.positions} is not a number of windows over each base: give 0 or more")
    if cfg.baseline not in (True, False, "all"):
        raise UserError(f"baseline={cfg.baseline} is not a choice: give true, false or all")


def _tables(cfg: DictConfig, trainer: Any, module: Any, data: Any, folder: Path) -> None:
    """Write what a config asks for beside a run's result."""
    from genoseq.baselines.fit import write_orders
    from genoseq.evaluation.positions import position_rows
    from genoseq.files import write_csv

    if cfg.positions:
        module.to(trainer.strategy.root_device)  # Lightning has moved it away
        with trainer.precision_plugin.forward_context():
            write_csv(folder / "positions.csv", position_rows(module, data, "test", int(cfg.positions)))
    if cfg.baseline == "all":
        write_orders(data, folder / "orders.csv")


def _finish(
    cfg: DictConfig, trainer: Any, module: Any, data: Any, baselines: Baselines | None, folder: Path, begin: float
) -> float | None:
    """Test the best weights, write what a run leaves, and print the closing table."""
    from genoseq.baselines.fit import baseline_lines
    from genoseq.files import write_json
    from genoseq.report.plots import draw_curves
    from genoseq.report.result import curve_lines, run_result
    from genoseq.report.summary import print_summary
    from genoseq.training import tensorboard
    from genoseq.training.callbacks import Checkpoints, GracefulStop, StepMetrics

    callbacks = {type(c): c for c in trainer.callbacks}
    best = callbacks[Checkpoints].best_model_score
    val = None if best is None else float(best)
    stopped = callbacks[GracefulStop].signal
    last = folder / "checkpoints" / "last.ckpt"
    measured: dict[str, float] = {}
    trim_heap()
    if stopped is None:
        trainer.test(
            module, datamodule=data, ckpt_path=callbacks[Checkpoints].best_model_path, verbose=False, weights_only=True
        )
        measured = module.reported["test"]
    if not trainer.is_global_zero:
        return val
    if stopped is None:
        _tables(cfg, trainer, module, data, folder)  # before result.json, which says that a run is done
    trim_heap()
    ran = {
        "val/bits_per_base": val,
        "train/steps": trainer.global_step,
        "train/tokens_per_second": callbacks[StepMetrics].rate,
        "seconds": time.perf_counter() - begin,
        "precision": str(trainer.precision),
        "model/parameters": sum(p.numel() for p in module.net.parameters()),
    }
    result = run_result(cfg, data, baselines, measured, ran, trainer.strategy.root_device.type)
    if stopped is None:
        tensorboard.draw_lines(trainer, baseline_lines(data, baselines, "test"), 0, trainer.global_step, sweep_folder())
        table = baselines.score("val")["baseline"].accuracy if baselines else None
        trim_heap()
        tensorboard.close_page(trainer, module, data, result, table)
    for logger in trainer.loggers:
        logger.finalize("success")
    draw_curves(folder / "metrics.csv", folder / "curves.png", **curve_lines(result, baselines))
    if stopped is None:
        write_json(folder / "result.json", result)
    print_summary(result, folder)
    if stopped is not None:
        same = [override for override in HydraConfig.get().overrides.task if not override.startswith("ckpt=")]
        command = shlex.join(["python", "-m", "genoseq.train", *same, f"ckpt={last}"])
        print(f"Stopped at step {trainer.global_step:,}. Go on with: {command}")
        raise SystemExit(128 + stopped)
    return val


if __name__ == "__main__":
    main()
