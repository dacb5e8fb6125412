"""A SLURM of one node on this machine, for tests: munged, slurmctld and slurmd with their state in one folder.

Needs root and Debian's packages slurm-wlm and munge.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

CONF = """
ClusterName=genoseq
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 Port={node} CPUs=4 RealMemory=65536
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Return why no SLURM can be started here, None if one can."""
    if os.getuid():
        return "SLURM's daemons need root"
    lacking = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)} (apt-get install slurm-wlm munge)" if lacking else None


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start SLURM with its state in a folder, yield the variables with which its commands find it, and end it."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    ports = dict(zip(("controller", "node"), _free_ports(2), strict=True))
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(folder=folder, host=socket.gethostname(), **ports))
    env = {"SLURM_CONF": str(conf)}
    files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    with ExitStack() as stack:
        for command in (
            ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files],
            ["slurmctld", "-D", "-f", str(conf)],
            ["slurmd", "-D", "-N", "localhost", "-f", str(conf)],
        ):
            log = stack.enter_context((folder / f"{command[0]}.out").open("w"))
            daemon = subprocess.Popen(
                command, stdout=log, stderr=log, env=os.environ | env, preexec_fn=_end_with_parent
            )
            stack.callback(daemon.wait)
            stack.callback(daemon.terminate)
            time.sleep(0.5)
        _wait_until_idle(folder, env)
        yield env


def _end_with_parent() -> None:
    os.setsid()  # a Ctrl-C in the terminal is for the tests
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _wait_until_idle(folder: Path, env: dict[str, str]) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        sinfo = ["sinfo", "--noheader", "--format=%T"]
        if subprocess.run(sinfo, env=os.environ | env, capture_output=True, text=True).stdout.strip() == "idle":
            return
        time.sleep(0.5)
    logs = "\n".join(file.read_text()[-2000:] for file in folder.glob("*.out"))
    raise RuntimeError(f"SLURM did not start:\n{logs}")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
