"""Going on from a checkpoint: is it of this model, these tokens, this genome?"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from genoseq.app.build import load_checkpoint, plain
from genoseq.errors import UserError
from genoseq.training.module import NextToken

log = logging.getLogger(__name__)


def check_vocabulary(ckpt: str, about: dict[str, Any], module: NextToken) -> None:
    """Raise `UserError` if a checkpoint reads other tokens than `module`."""
    had, has = about["vocabulary"], module.about["vocabulary"]
    was, now = about["tokenizer"], module.about["tokenizer"]
    if (had, was) != (has, now):
        raise UserError(
            f"ckpt={ckpt} was trained on other tokens ({was}, k={had['k']}, stride={had['stride']}) than this "
            f"config has ({now}, k={has['k']}, stride={has['stride']}); use the same data= and data.k="
        )


def resumed_step(cfg: DictConfig, module: NextToken, folder: Path) -> int | None:
    """Return the optimizer step that ``cfg.ckpt`` goes on from, ``None`` without one.

    A run whose training is complete goes on only in its own folder, to the test that it was stopped before.

    Raises
    ------
    UserError
        If the checkpoint is of another tokeniser, network, genome or schedule, or has no steps left.
    """
    if not cfg.ckpt:
        return None
    checkpoint = load_checkpoint(cfg.ckpt)
    about, now = checkpoint["genoseq"], module.about
    check_vocabulary(cfg.ckpt, about, module)
    if about["genome"]["sha256"] != now["genome"]["sha256"]:
        raise UserError(
            f"ckpt={cfg.ckpt} was trained on genome '{about['genome']['name']}', whose sequence is not that of "
            f"'{now['genome']['name']}'; resume on the same genome, or score another with python -m genoseq.evaluate"
        )
    had, has = about["config"], now["config"]
    other = {k for k in {*had["model"], *has["model"]} if had["model"].get(k) != has["model"].get(k)}
    if other:
        told = ", ".join(f"model.{k}={had['model'].get(k)}" for k in sorted(other))
        raise UserError(f"ckpt={cfg.ckpt} is of another network: it was trained with {told}; give the same")
    step, last = int(checkpoint["global_step"]), int(cfg.trainer.max_steps)
    own = Path(cfg.ckpt).resolve().is_relative_to(folder.resolve()) and not (folder / "result.json").exists()
    if step > last or (step == last and not own):
        raise UserError(f"ckpt={cfg.ckpt} is at step {step:,} already; raise trainer.max_steps={last:,} to go on")
    total = had["scheduler"].get("total_steps", last)
    if total != last:
        raise UserError(
            f"ckpt={cfg.ckpt} follows a schedule (one-cycle, warm-up and cosine) laid out for {total:,} steps; "
            f"give trainer.max_steps={total}"
        )
    changed = [
        f"{group}.{key}"
        for group in ("data", "optimizer", "scheduler")
        for key in {*had[group], *has[group]} - {"genome_dir", "cache_dir"}
        if had[group].get(key) != has[group].get(key)
    ]
    changed += ["seed"] if plain(cfg.seed) != had["seed"] else []
    if changed:
        log.warning("Going on with other settings than the checkpoint's: %s.", ", ".join(sorted(changed)))
    return step
