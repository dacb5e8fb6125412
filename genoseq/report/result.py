"""result.json: what a run measured, on what data, with which versions; one flat object."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

import genoseq
from genoseq.baselines.fit import METRICS, Baselines, chance
from genoseq.baselines.scoring import Score
from genoseq.evaluation.leakage import leakage

if TYPE_CHECKING:
    from genoseq.data.datamodule import GenomeData

_PACKAGE = Path(genoseq.__file__).resolve().parent
_TIMEOUT = 10.0  # seconds; a slow disk must not hold up a run that has ended


def choice(group: str) -> str | None:
    """Return the option that was chosen for a config group, None outside a Hydra run."""
    return HydraConfig.get().runtime.choices.get(group) if HydraConfig.initialized() else None


def data_result(data: GenomeData) -> dict[str, Any]:
    """Return a result's entries on its genome, tokens and split."""
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


def baselines_result(baselines: Baselines, scores: dict[str, Score]) -> dict[str, Any]:
    """Return a result's entries on the count models: settings, accuracy (a base) and bits per base."""
    out: dict[str, Any] = {"baseline/order": baselines.markov.order, "baseline/smoothing": baselines.markov.smoothing}
    for name, score in scores.items():
        out |= {f"{name}/{metric}": value for metric, value in score.metrics.items()}
    return out


def run_result(
    cfg: DictConfig,
    data: GenomeData,
    baselines: Baselines | None,
    measured: dict[str, float],
    ran: dict[str, Any],
    device: str,
) -> dict[str, Any]:
    """Return a run's result.

    Parameters
    ----------
    measured : dict
        The ``test/`` metrics; empty if the run was stopped before its test: then there are no baselines nor leakage.
    ran : dict
        What the training reports: lowest validation bits per base, steps, tokens a second, seconds, precision.
    device : str
        Kind of device that it ran on.
    """
    return {
        **measured,
        **(baselines_result(baselines, baselines.score("test")) if baselines and measured else {}),
        **chance(data),
        **(leakage(data) if measured else {}),
        "test/mode": "frozen",
        **ran,
        "seed": cfg.seed,
        "scale": cfg.scale,
        **data_result(data),
        "split/name": choice("data/split") or ("random_windows" if data.parts.splits_windows else "unnamed"),
        "model/name": choice("model"),
        **provenance(device),
    }


def curve_lines(result: dict[str, Any], baselines: Baselines | None) -> dict[str, Any]:
    """Return the title and the baselines of a run's curves.png, as `draw_curves` takes them."""
    stages = ("val", "test") if "test/bits_per_base" in result else ("val",)
    lines = {"chance": {f"{stage}/{metric}": result[f"chance/{metric}"] for stage in stages for metric in METRICS}}
    if baselines:
        for name, label in baselines.labels.items():
            scores = {stage: baselines.score(stage)[name].metrics for stage in stages}
            lines[label] = {f"{stage}/{metric}": scores[stage][metric] for stage in stages for metric in METRICS}
    title = f"{result['genome/name']}, {result['model/name']}, {result['split/name']} split"
    if "test/bits_per_base" in result:
        title += f"; test {result['test/bits_per_base']:.3f} bits per base"
    if result["split/leaks"]:
        title += "; this split leaks: accuracy measures memory"
    return {"title": title, "lines": lines}


def provenance(device: str | None = None) -> dict[str, Any]:
    """Return a result's entries on versions, commit and machine.

    Parameters
    ----------
    device : str, optional
        Device of the model, such as ``cuda:0``; the processor if left out.

    Returns
    -------
    dict
        ``version/genoseq``, ``version/python``, ``version/torch``, ``version/lightning``, ``version/hydra`` (None if
        not installed), ``git/commit`` and ``git/dirty`` (None unless the package lies in a git work tree that tracks
        it), ``host/cpus`` (processors that this process may use) and ``host/device`` (a name).
    """
    commit, dirty = _git(_PACKAGE)
    return {
        "version/genoseq": genoseq.__version__,
        "version/python": platform.python_version(),
        "version/torch": _version("torch"),
        "version/lightning": _version("lightning"),
        "version/hydra": _version("hydra-core"),
        "git/commit": commit,
        "git/dirty": dirty,
        "host/cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "host/device": _device(device),
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _git(package: Path) -> tuple[str | None, bool | None]:
    """Return the commit that `package` is at, and whether its code or configuration differs from it."""
    # a package installed below some other project's work tree has that project's commit around it, not its own
    if _ask(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None, None
    commit = _ask(package, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return None, None
    # untracked files count: a new model or configuration changes the numbers too
    changed = _ask(package, "status", "--porcelain", "--", ".", ":(top)conf")
    return commit, None if changed is None else bool(changed)


def _ask(folder: Path, *arguments: str) -> str | None:
    """Return what a git command prints, None if it fails or git is missing."""
    # set inside a git hook, these would name another repository than the folder's own
    hidden = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"}
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=_TIMEOUT,
            env={key: value for key, value in os.environ.items() if key not in hidden},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _device(device: str | None) -> str:
    if device and device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
