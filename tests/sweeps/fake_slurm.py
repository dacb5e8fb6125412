"""SLURM's commands as far as a sweep uses them, on this machine: each job runs at once, its tasks as processes.

`install` makes a folder of them; the state of each job is a file there.
"""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMANDS = ("sbatch", "srun", "scancel", "scontrol", "squeue")


def install(folder: Path, monkeypatch: Any) -> Path:
    """Make the commands and put them first in PATH; return their folder."""
    folder.mkdir()
    for name in COMMANDS:
        file = folder / name
        file.write_text(f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n")
        file.write_text(file.read_text() + f"from fake_slurm import {name}\n{name}({str(folder)!r}, sys.argv[1:])\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def pids(folder: Path, job: str) -> list[int]:
    """Return the processes of a job's tasks."""
    return [int(pid) for pid in (folder / f"{job}.pids").read_text().split()]


def _options(script: str) -> dict[str, str]:
    return dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", Path(script).read_text(), re.MULTILINE))


def sbatch(folder: str, words: list[str]) -> None:
    number = 100 + 50 * len(list(Path(folder).glob("*.sh")))
    (Path(folder) / f"{number}.sh").write_text(Path(words[0]).read_text())
    last = re.match(r"0-(\d+)", _options(words[0]).get("array", ""))
    for index in range(int(last.group(1)) + 1) if last else [None]:
        job = str(number) if index is None else f"{number}_{index}"
        (Path(folder) / f"{job}.state").write_text("PENDING")
        code = f"from fake_slurm import run; run({folder!r}, {job!r}, {str(Path(folder) / f'{number}.sh')!r})"
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    print(f"Submitted batch job {number}")


def run(folder: str, job: str, script: str) -> None:
    """Be a job's whole life, requeues included."""
    number, _, index = job.partition("_")
    options = _options(script)
    tasks, nodes = options.get("ntasks-per-node", "1"), options["nodes"]
    env = os.environ | {
        "SLURM_JOB_ID": str(int(number) + int(index or 0)),
        "SLURM_NTASKS": str(int(tasks) * int(nodes)),
        "SLURM_NTASKS_PER_NODE": tasks,
        "SLURM_JOB_NUM_NODES": nodes,
        "SLURM_NNODES": nodes,
        "SLURM_JOB_NAME": options["job-name"],
        "SLURM_JOB_NODELIST": "localhost",
        "FAKE_JOB": job,
    }
    if index:
        env |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": index}
    for restart in range(5):
        if restart:
            env["SLURM_RESTART_COUNT"] = str(restart)
        (Path(folder) / f"{job}.state").write_text("RUNNING")
        with (Path(folder) / f"{job}.err").open("a") as log:
            code = subprocess.call(["bash", script], env=env, stderr=log)
        again = Path(folder) / f"{job}.requeue"
        if not again.exists():
            break
        again.unlink()
    (Path(folder) / f"{job}.state").write_text("FAILED" if code else "COMPLETED")


def srun(folder: str, words: list[str]) -> None:
    job, out, processes = os.environ["FAKE_JOB"], {}, []
    while words[0].startswith("--"):
        word = words.pop(0)
        if word in ("--output", "--error"):
            out[word] = words.pop(0).replace("%A_%a", job).replace("%j", job)
    for name in out.values():  # a job may begin before submitit has made its folder
        Path(name).parent.mkdir(exist_ok=True)
    for rank in range(int(os.environ["SLURM_NTASKS"])):
        env = os.environ | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NODEID": "0"}
        files = [open(out[name].replace("%t", str(rank)), "a") for name in ("--output", "--error")]  # noqa: PTH123, SIM115
        env["SLURM_STEP_ID"] = "0"
        processes.append(subprocess.Popen(words, env=env, stdout=files[0], stderr=files[1]))
    (Path(folder) / f"{job}.pids").write_text(" ".join(str(process.pid) for process in processes))
    sys.exit(max(abs(process.wait()) for process in processes))


def scontrol(folder: str, words: list[str]) -> None:
    if words[0] == "requeue":
        (Path(folder) / f"{words[1]}.requeue").touch()
    else:
        print(f"JobState={(Path(folder) / f'{words[2]}.state').read_text()} Reason=None")


def scancel(folder: str, words: list[str]) -> None:
    with (Path(folder) / "scancel.log").open("a") as log:
        log.write(json.dumps(words) + "\n")


def squeue(folder: str, words: list[str]) -> None:
    for file in Path(folder).glob("*.state"):
        if file.read_text() in ("PENDING", "RUNNING"):
            print(file.stem)
