"""The pool runs jobs of uneven length on slots; here they are small programs that write down when and where."""

import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from genoseq.sweeps.devices import make_slots
from genoseq.sweeps.jobs import LOG, Job
from genoseq.sweeps.pool import Pool

# note: when it began, on which devices; when it ended; and leave a result
WORK = """
import json, os, pathlib, sys, time
folder, seconds = pathlib.Path(sys.argv[1]), float(sys.argv[2])
begin = time.time()
time.sleep(seconds)
notes = {"begin": begin, "end": time.time(), "devices": os.environ.get("CUDA_VISIBLE_DEVICES")}
(folder / "result.json").write_text(json.dumps(notes))
"""


def make_job(folder: Path, num: int, code: str = WORK, *words: object) -> Job:
    place = folder / f"job={num}"
    return Job(num, place.name, place, [], [sys.executable, "-S", "-E", "-c", code, str(place), *map(str, words)])


def notes(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((job.folder / "result.json").read_text())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 3, 8])
def test_devices_are_never_shared_and_never_idle(tmp_path: Path, devices: int) -> None:
    lengths = [random.Random(devices).uniform(0.4, 2.0) for _ in range(20)]
    jobs = [make_job(tmp_path, i, WORK, length) for i, length in enumerate(lengths)]
    Pool(make_slots([str(i) for i in range(devices)], 1, None, 20)).run(jobs)
    assert [job.state for job in jobs] == ["done"] * 20
    by_device: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for job in jobs:
        by_device[notes(job)["devices"]].append((notes(job)["begin"], notes(job)["end"]))
    assert len(by_device) == devices
    for spans in by_device.values():
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(sorted(spans)))
    # how near this comes to the best list schedule is benchmarks/launcher.py's to say: here no device waits long
    ends = sorted(notes(job)["end"] for job in jobs)
    begins = sorted(notes(job)["begin"] for job in jobs)[devices:]
    assert statistics.median(begin - end for begin, end in zip(begins, ends, strict=False)) < 0.5


def test_two_devices_a_job(tmp_path: Path) -> None:
    jobs = [make_job(tmp_path, i, WORK, 0.1) for i in range(4)]
    Pool(make_slots(["0", "1", "2", "3"], 2, None, 4)).run(jobs)
    assert {notes(job)["devices"] for job in jobs} == {"0,1", "2,3"}


DIES = "import os, sys; os.kill(os.getpid(), 9)"
FAILS = "import sys; print('genoseq: the genome is missing', flush=True); sys.exit(2)"
SILENT = "pass"


def test_a_job_that_dies_takes_no_other_along(tmp_path: Path) -> None:
    codes = [WORK, DIES, WORK, FAILS, SILENT, "raise ValueError('x y')", WORK]
    jobs = [make_job(tmp_path, i, code, 0.1) for i, code in enumerate(codes)]
    seen: list[tuple[int, str]] = []
    Pool(make_slots([], 1, 2, 9), changed=lambda job: seen.append((job.num, job.state))).run(jobs)
    assert [job.state for job in jobs] == ["done", "failed", "done", "failed", "failed", "failed", "done"]
    assert "signal 9 (SIGKILL" in str(jobs[1].why) and jobs[3].why == "the genome is missing"
    assert jobs[4].why == "ended without a result" and jobs[5].why == "exit code 1: ValueError: x y"
    assert all([state for num, state in seen if num == i] == ["running", jobs[i].state] for i in range(7))
    assert "genome is missing" in (jobs[3].folder / LOG).read_text()


SECOND = """
import pathlib, sys
folder = pathlib.Path(sys.argv[1])
if not (folder / "once").exists():
    (folder / "once").touch()
    sys.exit(3)
(folder / "result.json").write_text("{}")
"""


@pytest.mark.parametrize(("retries", "state", "attempts"), [(0, "failed", 1), (1, "done", 2), (5, "done", 2)])
def test_retries_are_as_many_as_asked_for(tmp_path: Path, retries: int, state: str, attempts: int) -> None:
    job = make_job(tmp_path, 0, SECOND)
    Pool(make_slots([], 1, 1, 1), retries).run([job])
    assert (job.state, job.attempts) == (state, attempts)


SAVES = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def save(number, frame):
    (folder / "saved").touch()
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, save)
(folder / "ready").touch()
time.sleep(60)
"""
STUBBORN = SAVES.replace("sys.exit(128 + number)", "pass").replace(
    "time.sleep(60)", "[time.sleep(1) for _ in range(60)]"
)


def stop_when_ready(jobs: list[Job], times: int) -> Any:
    """Return a tick that sends this process Ctrl-C once the jobs are under way, and again when they have saved."""
    sent: list[int] = []

    def tick() -> None:
        if len(sent) < times and all((job.folder / ("saved" if sent else "ready")).exists() for job in jobs):
            sent.append(1)
            os.kill(os.getpid(), signal.SIGINT)

    return tick


def test_ctrl_c_has_every_job_save_and_starts_no_more(tmp_path: Path) -> None:
    jobs = [make_job(tmp_path, i, SAVES) for i in range(4)]
    pool = Pool(make_slots([], 1, 2, 4), tick=stop_when_ready(jobs[:2], 1))
    before = signal.getsignal(signal.SIGINT)
    pool.run(jobs)
    assert pool.signal == signal.SIGINT and signal.getsignal(signal.SIGINT) is before
    assert [job.state for job in jobs] == ["stopped", "stopped", "waiting", "waiting"]
    assert all((job.folder / "saved").exists() for job in jobs[:2]) and not jobs[2].folder.exists()


def test_the_second_ctrl_c_ends_what_will_not(tmp_path: Path) -> None:
    jobs = [make_job(tmp_path, i, STUBBORN) for i in range(2)]
    begin = time.monotonic()
    Pool(make_slots([], 1, 2, 2), tick=stop_when_ready(jobs, 2)).run(jobs)
    assert [job.state for job in jobs] == ["stopped"] * 2 and time.monotonic() - begin < 40


PARENT = """
import subprocess, sys, pathlib, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
(pathlib.Path(sys.argv[1]) / "pid").write_text(str(child.pid))
time.sleep(0.2)
import os; os.kill(os.getpid(), 9)
"""


def alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def test_no_rank_outlives_its_job(tmp_path: Path) -> None:
    job = make_job(tmp_path, 0, PARENT)
    Pool(make_slots([], 1, 1, 1)).run([job])
    pid = int((job.folder / "pid").read_text())
    for _ in range(50):
        if not alive(pid):
            break
        time.sleep(0.1)
    assert not alive(pid)


def test_a_defect_here_leaves_no_job_behind(tmp_path: Path) -> None:
    job = make_job(tmp_path, 0, SAVES)

    def tick() -> None:
        if (job.folder / "ready").exists():
            raise RuntimeError("a defect")

    pool = Pool(make_slots([], 1, 1, 1), tick=tick)
    with pytest.raises(RuntimeError, match="a defect"):
        pool.run([job])
    process = pool._running[0].process
    assert process.wait(10) == -signal.SIGKILL
