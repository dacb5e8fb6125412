"""This machine's devices and cores, shared out to jobs."""

import itertools
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stub_jobs import began, gone, make_job, make_launcher, result, run

from genoseq.errors import UserError
from genoseq.sweeps.display import Display
from genoseq.sweeps.jobs import processes
from genoseq.sweeps.local import Slot, cores, make_slots
from hydra_plugins.genoseq.launchers import LocalPool


@given(
    gpus=st.lists(st.integers(0, 99).map(str), unique=True, max_size=16),
    per_job=st.integers(1, 4),
    n_jobs=st.none() | st.integers(1, 20),
    jobs=st.integers(1, 50),
)
def test_no_device_is_in_two_slots(gpus: list[str], per_job: int, n_jobs: int | None, jobs: int) -> None:
    if gpus and per_job > len(gpus):
        with pytest.raises(UserError, match=r"lower trainer\.devices"):
            make_slots(gpus, per_job, n_jobs, jobs)
        return
    slots = make_slots(gpus, per_job, n_jobs, jobs)
    used = [device for slot in slots for device in slot.devices]
    assert len(set(used)) == len(used) and set(used) <= set(gpus)
    assert 1 <= len(slots) <= jobs and (n_jobs is None or len(slots) <= n_jobs)
    if gpus:
        assert all(len(slot.devices) == per_job for slot in slots)
        assert len(slots) == min(len(gpus) // per_job, jobs, n_jobs or jobs)  # none is left idle
    else:
        assert len(slots) == min(jobs, n_jobs or max(1, cores() // per_job))
    assert all(slot.threads >= 1 for slot in slots)
    assert len(slots) * per_job > cores() or len(slots) * per_job * slots[0].threads <= cores()


def test_a_gpu_named_twice_takes_two_jobs() -> None:
    assert [slot.devices for slot in make_slots(["0", "0", "1"], 1, None, 9)] == [("0",), ("0",), ("1",)]


@pytest.mark.parametrize(("name", "values"), [("n_jobs", (1, 0)), ("devices_per_job", (0, None))])
def test_counts_are_counts(name: str, values: tuple[int, int | None]) -> None:
    with pytest.raises(UserError, match=f"{name} must be 1 or more, or null, got 0"):
        make_slots([], values[0], values[1], 3)


@pytest.mark.parametrize(
    ("devices", "visible", "count"),
    [(1, 4, 1), (2, 4, 2), ("2", 4, 2), (-1, 4, 4), ("auto", 3, 3), ("auto", 0, 1), ([1, 3], 4, 2), ("0,1", 4, 2)],
)
def test_devices_as_lightning_takes_them(devices: object, visible: int, count: int) -> None:
    assert processes({"devices": devices}, visible) == count


def test_the_environment_of_a_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert Slot(("2", "3"), 4).environment == {
        **(threads := {"OMP_NUM_THREADS": "4", "GENOSEQ_THREADS": "4"}),
        "CUDA_VISIBLE_DEVICES": "2,3",
    }
    assert Slot((), 4).environment == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert Slot((), 4).environment == {}


@pytest.mark.slow
def test_devices_are_never_shared_and_the_longest_job_begins_first(tmp_path: Path) -> None:
    lengths = [0.1 + 0.1 * (i % 5) for i in range(10)]
    jobs = [make_job(tmp_path, i, f"time.sleep({length}); done()", cost=length) for i, length in enumerate(lengths)]
    run(make_launcher(LocalPool, tmp_path, devices=[0, 1, 2, 3], devices_per_job=2), jobs)
    assert [job.state for job in jobs] == ["done"] * 10
    turns: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for job in jobs:
        turns[result(job)["CUDA_VISIBLE_DEVICES"]].append((result(job)["began"], result(job)["ended"]))
    assert set(turns) == {"0,1", "2,3"}
    for spans in turns.values():
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(sorted(spans)))
    first = sorted(jobs, key=lambda job: result(job)["began"])[:2]
    assert all(job.cost == pytest.approx(0.5) for job in first)


@pytest.mark.slow
def test_no_rank_outlives_its_job(tmp_path: Path) -> None:
    script = """
import subprocess
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
(folder / "pid").write_text(str(child.pid))
os.kill(os.getpid(), 9)"""
    job = make_job(tmp_path, 0, script)
    run(make_launcher(LocalPool, tmp_path), [job])
    assert job.state == "failed" and gone(int((job.folder / "pid").read_text()))


@pytest.mark.slow
def test_a_defect_here_leaves_no_job_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(tmp_path, 0, "(folder / 'pid').write_text(str(os.getpid())); time.sleep(60)")

    def tick(self: Display) -> None:
        if began(job) and (job.folder / "pid").exists():
            raise RuntimeError("a defect")

    monkeypatch.setattr(Display, "tick", tick)
    with pytest.raises(RuntimeError, match="a defect"):
        run(make_launcher(LocalPool, tmp_path), [job])
    assert (job.folder / "saved").exists() or gone(int((job.folder / "pid").read_text()))
