"""Process settings: heap trimming, OpenMP wait policy, ranks, parent-death signal, quiet libraries."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import signal
import warnings

_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _GIB = -1, -3, 1 << 30


def retain_heap() -> None:
    """Stop glibc from handing freed memory back to the kernel between steps (it is faulted in again on the next).

    Up to a third of a CPU training step; does nothing on other systems or when the user set a policy.
    """
    if platform.libc_ver()[0] == "glibc" and not any(name.startswith("MALLOC_") for name in os.environ):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _GIB)
        libc.mallopt(_M_TRIM_THRESHOLD, _GIB)


def trim_heap() -> None:
    """Give what glibc holds but nothing uses back to the kernel, once: after work whose scratch training won't need."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def limit_openmp_spin() -> None:
    """Let an OpenMP thread that waits for another sleep soon instead of spinning.

    An LSTM on a CPU waits several times a time step. Beside another busy process GNU OpenMP's own patience makes a
    training step tens of times slower; this much less costs nothing on a quiet machine. Runs before torch is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def is_main_process() -> bool:
    """Whether this process is a run's first: Lightning and torchrun say which of its ranks this is, and srun."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID"))


def exit_with_parent() -> None:
    """Have the kernel (Linux) send SIGTERM when the launcher that started this job is gone: it saves and ends."""
    parent = os.environ.get("GENOSEQ_PARENT")
    if parent is None or platform.system() != "Linux":
        return
    if not is_main_process() and os.getppid() != int(parent):  # the run's first process started it, and looks after it
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it went before the kernel was asked
        raise SystemExit(128 + signal.SIGTERM)


def quiet_libraries() -> None:
    """Keep Lightning's hardware report, tips and internal deprecations off the console; its warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning").handlers.clear()  # Hydra's console and file show what is left, once
    logging.getLogger("lightning.pytorch.profilers").setLevel(logging.INFO)  # trainer.profiler reports there
    for text in (
        ".*isinstance.treespec, LeafSpec..*",  # Lightning inside PyTorch's pytree
        ".*does not have many workers.*",  # there is nothing for a worker to do: a batch is a few integers
        ".*dataloader is not resumable.*",  # ours is a function of the step
        ".*exists and is not empty.*",  # RunFolder has made it
        ".*`training_step` returned `None`.*",  # a batch without a target
        ".*srun. command is available.*",  # our launcher starts the ranks
        ".*sync_dist=True.*",  # metrics are summed over ranks before they are logged
    ):
        warnings.filterwarnings("ignore", message=text)
