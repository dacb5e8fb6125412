"""What made a result: the versions, the commit and the machine."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import genoseq

_PACKAGE = Path(genoseq.__file__).resolve().parent
_TIMEOUT = 10.0  # seconds; a slow disk must not hold up a run that has ended


def provenance(device: str | None = None) -> dict[str, Any]:
    """Return where a result comes from, as a flat object of plain values.

    Parameters
    ----------
    device : str, optional
        What the model ran on, such as ``cuda:0``; the processor if left out.

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


def _ask(folder: Path, *words: str) -> str | None:
    """Return what a git command prints, None if it fails or git is missing."""
    # set inside a git hook, these would name another repository than the folder's own
    hidden = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"}
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *words],
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
