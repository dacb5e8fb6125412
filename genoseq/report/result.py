"""result.json: what a run measured, on what, and with which versions; one flat object."""

from __future__ import annotations

from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from genoseq.baselines.fit import Baselines, chance, leakage
from genoseq.data.datamodule import GenomeData
from genoseq.report.provenance import provenance


def choice(group: str) -> str | None:
    """Return the option that was chosen for a config group, ``None`` outside a Hydra run."""
    return HydraConfig.get().runtime.choices.get(group) if HydraConfig.initialized() else None


def split_name(parts_leak: bool) -> str:
    """Return the name of the split, as chosen."""
    return choice("data/split") or ("random_windows" if parts_leak else "unnamed")


def about_data(data: GenomeData) -> dict[str, Any]:
    """Return what a result says of its genome, tokens and split."""
    v, g = data.vocabulary, data.genome
    return {
        "genome/name": g.name,
        "genome/bases": len(g),
        "genome/sha256": g.sha256,
        "genome/unknown": sum(g.unknown.values()),
        "tokens/k": v.k,
        "tokens/stride": v.stride,
        "tokens/new_bases": v.new_bases,
        "split/leaks": data.parts.overlap(data.span),
        **({"split/window_stride": data.parts.window_stride} if data.parts.splits_windows else {}),
    }


def baselines_result(scores: dict[str, Any], baselines: Baselines | None) -> dict[str, Any]:
    """Return the count models' figures (accuracy a base, bits a base)."""
    if baselines is None:
        return {}
    out: dict[str, Any] = {"baseline/order": baselines.table.order, "baseline/smoothing": baselines.table.smoothing}
    for name, score in scores.items():
        out |= {f"{name}/accuracy": score.accuracy, f"{name}/bits_per_base": score.bits_per_base}
    return out


def run_result(
    cfg: DictConfig,
    data: GenomeData,
    baselines: Baselines | None,
    measured: dict[str, float],
    ran: dict[str, Any],
    device: str,
) -> dict[str, Any]:
    """Gather a run's result.

    Parameters
    ----------
    measured : dict
        The ``test/`` figures; empty if the run was stopped before its test; leakage and baselines are left out then.
    ran : dict
        What the training itself tells: lowest validation bits per base, steps, tokens a second, seconds, precision.
    device : str
        Kind of device that it ran on.
    """
    scores = baselines.score("test") if baselines and measured else {}
    return {
        **measured,
        **baselines_result(scores, baselines if scores else None),
        **chance(data),
        **(leakage(data) if measured else {}),
        "test/mode": "frozen",
        **ran,
        "seed": cfg.seed,
        "scale": cfg.scale,
        **about_data(data),
        "split/name": split_name(data.parts.splits_windows),
        "model/name": choice("model"),
        **provenance(device),
    }


def curve_lines(result: dict[str, Any], baselines: Baselines | None) -> dict[str, Any]:
    """Return title and level lines of a run's curves.png."""
    labels = {"chance": "chance", **(baselines.names if baselines else {})}
    shown = {name: label for name, label in labels.items() if f"{name}/bits_per_base" in result}
    leak = "; this split leaks: accuracy measures memory" if result["split/leaks"] else ""
    bits = result.get("test/bits_per_base")
    tested = "" if bits is None else f"; test {bits:.3f} bits per base"
    return {
        "lines": {label: result[f"{name}/bits_per_base"] for name, label in shown.items()},
        "accuracy_lines": {label: result[f"{name}/accuracy"] for name, label in shown.items()},
        "title": f"{result['genome/name']}, {result['model/name']}, {result['split/name']} split{tested}{leak}",
    }
