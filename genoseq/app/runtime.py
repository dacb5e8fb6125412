"""How a command lives with its machine: memory, cores, the process that started it. Imports nothing heavy."""

from __future__ import annotations

import ctypes
import os
import platform
import signal

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
