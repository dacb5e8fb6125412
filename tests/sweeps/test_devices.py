"""How devices and threads are shared out."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genoseq.errors import UserError
from genoseq.sweeps.devices import Slot, cores, make_slots, processes


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
    with pytest.raises(UserError, match=f"{name}=0 is not a count"):
        make_slots([], values[0], values[1], 3)


@pytest.mark.parametrize(
    ("devices", "visible", "count"),
    [(1, 4, 1), (2, 4, 2), ("2", 4, 2), (-1, 4, 4), ("auto", 3, 3), ("auto", 0, 1), ([1, 3], 4, 2), ("0,1", 4, 2)],
)
def test_devices_as_lightning_takes_them(devices: object, visible: int, count: int) -> None:
    assert processes({"devices": devices}, visible) == count


def test_the_environment_of_a_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert Slot(0, ("2", "3"), 4).environment == {"OMP_NUM_THREADS": "4", "CUDA_VISIBLE_DEVICES": "2,3"}
    assert Slot(0, (), 4).environment == {"OMP_NUM_THREADS": "4"}
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "7")
    assert Slot(0, (), 4).environment == {}
