"""The default launcher: every device of this machine, one process a job."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from genoseq.sweeps.devices import Slot, make_slots, processes, visible_gpus
from genoseq.sweeps.display import Display
from genoseq.sweeps.jobs import Job
from genoseq.sweeps.launcher import JobLauncher
from genoseq.sweeps.pool import Pool
from genoseq.sweeps.record import Record


class LocalPool(JobLauncher):
    """Runs as many jobs at a time as the machine has devices for.

    Parameters
    ----------
    devices : sequence, optional
        GPUs to use, as ``CUDA_VISIBLE_DEVICES`` names them; one that is named twice takes two jobs. All that are
        visible if left out, none if the jobs ask for the CPU.
    devices_per_job : int, optional
        Devices of a job; its ``trainer.devices`` if left out.
    n_jobs : int, optional
        Most jobs at a time; if left out, as many as there are devices, on the CPU one a core.
    retries : int
        How often a failed job is started again, from its last checkpoint.
    """

    def __init__(
        self,
        devices: Sequence[int | str] | None = None,
        devices_per_job: int | None = None,
        n_jobs: int | None = None,
        retries: int = 0,
    ) -> None:
        super().__init__()
        self._devices = None if devices is None else [str(device) for device in devices]
        self._per_job, self._n_jobs, self._retries = devices_per_job, n_jobs, retries

    def at_a_time(self) -> int:
        """Return the number of slots."""
        return len(self._slots([self.config], 1 << 16))

    def execute(self, jobs: Sequence[Job], configs: Sequence[DictConfig], record: Record) -> int | None:
        """Run the jobs in a pool of processes."""
        slots = self._slots(configs, len(jobs))
        with Display(jobs, len(slots)) as display:

            def changed(job: Job) -> None:
                record.update(job)
                display.changed(job)

            pool = Pool(slots, self._retries, changed, display.tick)
            pool.run(jobs)
        return pool.signal

    def _slots(self, configs: Sequence[DictConfig], jobs: int) -> list[Slot]:
        trainers = [config.get("trainer") or {} for config in configs]
        gpus = self._devices
        if gpus is None:
            on_cpu = all(trainer.get("accelerator") == "cpu" for trainer in trainers)
            gpus = [] if on_cpu else visible_gpus()
        per_job = self._per_job
        if per_job is None:
            per_job = max(processes(trainer, len(gpus)) for trainer in trainers)
        return make_slots(gpus, per_job, self._n_jobs, jobs)
