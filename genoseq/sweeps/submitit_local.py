"""SLURM's launcher with this machine in SLURM's place: for trying it out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig

from genoseq.errors import UserError
from genoseq.sweeps.jobs import Job
from genoseq.sweeps.remote import Ended, Started
from genoseq.sweeps.slurm import Shape, SubmititSlurm, submitit_package


class SubmititLocal(SubmititSlurm):
    """What `SubmititSlurm` does, with processes of this machine in place of SLURM's: for trying it out.

    What only SLURM knows has no effect, and jobs side by side share the first GPUs. They go on if
    this process is killed: wait for their end before the sweep is started again.
    """

    def begin(self, jobs: Sequence[Job], configs: Sequence[DictConfig]) -> int:
        """Note what each job asks for."""
        self._waiting: list[Job] = []
        return super().begin(jobs, configs)

    def shape(self, trainer: Any) -> Shape:
        """Return what a job with this ``trainer`` node asks for."""
        shape = super().shape(trainer)
        if shape.nodes > 1:
            raise UserError(f"hydra/launcher=submitit_local has one node; trainer.num_nodes is {shape.nodes}")
        return shape

    def executor(self, shape: Shape) -> Any:
        """Return submitit's executor for jobs of one shape."""
        executor = submitit_package().LocalExecutor(self.place, max_num_timeout=self._max_num_timeout)
        executor.update_parameters(
            tasks_per_node=shape.tasks,
            gpus_per_node=shape.gpus,
            timeout_min=self._timeout_min,
            signal_delay_s=self._signal_delay_s,
            setup=self._setup,
        )
        return executor

    def submit(self, jobs: Sequence[Job]) -> None:
        """Submit as many as may run at a time; submitit would start all at once."""
        self._waiting += jobs
        room = max(0, self._array_parallelism - len(self._submitted))
        now, self._waiting = self._waiting[:room], self._waiting[room:]
        if now:
            super().submit(now)

    def news(self) -> Iterator[Started | Ended]:
        """Return which jobs started and which ended, and submit others in their place."""
        yield from super().news()
        self.submit([])

    def withdraw(self) -> Sequence[Job]:
        """Take back the jobs that were not submitted yet."""
        back, self._waiting = self._waiting, []
        return back

    def left_in_queue(self) -> dict[str, Any]:
        """Return none: there is no queue."""
        return {}

    def cancel_waiting(self) -> None:
        """Do nothing: what was submitted has begun."""
