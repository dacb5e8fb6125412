"""result.json: what a run measured, on what data, with which versions; one flat object."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

import genoseq
from genoseq.baselines.fit import CHANCE, Baselines, baseline_lines, shared_file
from genoseq.baselines.scoring import Score
from genoseq.data.intervals import bases
from genoseq.evaluation.leakage import leakage
from genoseq.files import once

if TYPE_CHECKING:
    from genoseq.data.datamodule import GenomeData

_PACKAGE = Path(genoseq.__file__).resolve().parent


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
        "split/leaks": data.parts.overlap(data.span),
        **(
            {"split/window_stride": data.parts.window_stride}
            if data.parts.splits_windows
            else {"test/bases": bases(data.scored_parts.test)}
        ),
    }


def baselines_result(baselines: Baselines, scores: dict[str, Score]) -> dict[str, Any]:
    """Return a result's entries on the count models: settings, accuracy and bits per base."""
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
    shared: Path | None = None,
) -> dict[str, Any]:
    """Return a run's result.

    Parameters
    ----------
    measured : dict
        The ``test/`` metrics; empty if the run was stopped before its test: then there are no baselines nor leakage.
    ran : dict
        What the training reports: lowest validation bits per base, steps, tokens a second, seconds, precision.
    shared : Path, optional
        Folder in which the runs of a sweep keep what is the same for several.
    """
    tags = [cfg.tags] if isinstance(cfg.tags, str) else cfg.tags or []
    return {
        **measured,
        **(baselines_result(baselines, baselines.score("test")) if baselines and measured else {}),
        **CHANCE,
        **(once(shared_file(data, shared, "leakage"), partial(leakage, data)) if measured else {}),
        "test/mode": "frozen",
        **ran,
        "seed": cfg.seed,
        "scale": cfg.scale,
        "tags": ",".join(map(str, tags)),
        **data_result(data),
        "split/name": choice("data/split") or ("random_windows" if data.parts.splits_windows else "unnamed"),
        "model/name": choice("model"),
        **provenance(device),
    }


def curve_lines(result: dict[str, Any], baselines: Baselines | None) -> dict[str, Any]:
    """Return the title and the baselines of a run's curves.png, as `draw_curves` takes them."""
    labels = {"chance": "chance"} | (baselines.labels if baselines else {})
    lines: dict[str, dict[str, float]] = {label: {} for label in labels.values()}
    for stage in ("val", "test") if "test/bits_per_base" in result else ("val",):
        for name, metrics in baseline_lines(baselines, stage).items():
            lines[labels[name]] |= metrics
    title = f"{result['genome/name']}, {result['model/name']}, {result['split/name']} split"
    if "test/bits_per_base" in result:
        title += f"; test {result['test/bits_per_base']:.3f} bits per base"
    if result["split/leaks"]:
        title += "; this split leaks: accuracy measures memory"
    return {"title": title, "lines": lines}


def provenance(device: str) -> dict[str, Any]:
    """Return a result's entries on versions, commit and machine, for a model on a device such as ``cuda``.

    ``git/commit`` and ``git/dirty`` are None unless the package lies in a git work tree that tracks it.
    """
    commit, dirty = _git()
    return {
        "version/genoseq": genoseq.__version__,
        "version/python": platform.python_version(),
        "version/torch": metadata.version("torch"),
        "version/lightning": metadata.version("lightning"),
        "version/hydra": metadata.version("hydra-core"),
        "git/commit": commit,
        "git/dirty": dirty,
        "host/cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "host/device": _device(device),
        "host/peak_memory": peak_memory(),
    }


def peak_memory() -> int | None:
    """Return the most memory that this process has held so far, in bytes; None on Windows, which does not say.

    Linux counts what the process that started this one held at that moment too.
    """
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _git() -> tuple[str | None, bool | None]:
    """Return the commit that the package is at, and whether its code or configuration differs from it."""

    def ask(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(_PACKAGE), *arguments]
        # a slow disk must not hold up a run that has ended
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10, env=environment)
        return done.stdout.strip()

    # set inside a git hook, these would name another repository than the folder's own
    hidden = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"}
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    try:
        # a package installed below some other project's work tree has that project's commit around it, not its own
        ask("ls-files", "--error-unmatch", "__init__.py")
        commit = ask("rev-parse", "--verify", "HEAD")
        # untracked files count: a new model or configuration changes the numbers too
        return commit, bool(ask("status", "--porcelain", "--", ".", ":(top)conf"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _device(device: str) -> str:
    """Return the name of the device."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    try:
        cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        cpu = None
    return cpu[1] if cpu else platform.processor() or platform.machine()
