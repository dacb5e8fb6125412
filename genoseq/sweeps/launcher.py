"""What all launchers share: jobs composed before anything starts, finished ones left alone, one record, one end."""

from __future__ import annotations

import shlex
import sys
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from genoseq.errors import UserError, fail
from genoseq.files import read_objective
from genoseq.overrides import quote
from genoseq.sweeps.devices import processes
from genoseq.sweeps.end import finish
from genoseq.sweeps.jobs import Job, check_same, command, cost, task_module
from genoseq.sweeps.naming import run_name, varied_keys
from genoseq.sweeps.record import Record, lock


class JobLauncher(Launcher):
    """A launcher whose jobs are commands; a subclass says where they run.

    Each job's folder is named after its settings. A job whose result is there is not run again; one with a checkpoint
    goes on from it.
    """

    def __init__(self) -> None:
        self.config: DictConfig
        self.hydra_context: HydraContext
        self.task_function: TaskFunction
        self._held: FileLock | None = None
        self.varied: list[str] | None = None  # a sweeper that knows better than the command says what varies

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives."""
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function

    @property
    def folder(self) -> Path:
        """The sweep's folder, absolute."""
        return Path(str(self.config.hydra.sweep.dir)).resolve()

    @abstractmethod
    def at_a_time(self) -> int:
        """Return how many jobs run side by side, for a sweeper that asks for as many."""

    @abstractmethod
    def execute(self, jobs: Sequence[Job], configs: Sequence[DictConfig], record: Record) -> int | None:
        """Run jobs, keep their state and `record` up to date; return the signal that stopped them, if one did."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs that have no result yet; return every job's validation bits per base, nan for a failed one."""
        try:
            self._held = self._held or lock(self.folder)
            module, varied = task_module(self.task_function), self.varied or varied_keys(self.config)
            jobs: dict[str, Job] = {}
            configs: dict[str, DictConfig] = {}
            names = [run_name(overrides, varied) for overrides in job_overrides]
            for num, (name, overrides) in enumerate(zip(names, job_overrides, strict=True), start=initial_job_idx):
                if name not in jobs:  # a sweeper may ask for the same settings twice
                    configs[name], jobs[name] = self._job(module, num, name, list(overrides))
            record = Record(self.folder, module.rpartition(".")[2], varied)
            for job in jobs.values():
                record.recall(job)
            record.update(*jobs.values())
            todo = [job for job in jobs.values() if job.state != "done"]
            self._announce(len(jobs), todo)
            stopped = self.execute(todo, [configs[job.name] for job in todo], record) if todo else None
        except UserError as error:
            fail(str(error))
        if stopped is not None:
            self._stop(stopped)
        return [self._returned(jobs[name], configs[name]) for name in names]

    def _job(self, module: str, num: int, name: str, overrides: list[str]) -> tuple[DictConfig, Job]:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        folder = self.folder / name
        trainer = config.get("trainer") or {}
        job = Job(
            num,
            name,
            folder,
            overrides,
            command(self.config, module, overrides, folder, num),
            devices=processes(trainer, 1),
            max_steps=trainer.get("max_steps"),
            cost=cost(config),
        )
        check_same(job)
        job.state = "done" if job.finished else "waiting"
        return config, job

    def _announce(self, total: int, todo: Sequence[Job]) -> None:
        done, resumed = total - len(todo), sum(bool(job.resume) for job in todo)
        kept = f"; {done} finished before" if done else ""
        kept += f", {resumed} go(es) on from a checkpoint" if resumed else ""
        print(f"{total} job(s) in {self.folder}{kept}", flush=True)

    def _stop(self, number: int) -> None:
        finish(self.config)
        print(f"Stopped. Go on with: {self.again()}", flush=True)
        raise SystemExit(128 + number)

    def again(self) -> str:
        """Return the command that goes on with this sweep."""
        words = [word for word in sys.argv[1:] if not word.startswith(("sweep.dir=", "hydra.sweep.dir="))]
        place = str(self.folder)
        words.append(f"sweep.dir={place if set(place).isdisjoint('=,') else quote(place)}")
        return shlex.join(["python", "-m", task_module(self.task_function), *words])

    def _returned(self, job: Job, config: DictConfig) -> JobReturn:
        value = read_objective(job.folder) if job.state == "done" else None
        config = config.copy()
        with open_dict(config):
            hydra = config.pop("hydra")
        out = JobReturn(overrides=job.overrides, cfg=config, hydra_cfg=OmegaConf.create({"hydra": hydra}))
        out.working_dir, out.task_name = str(job.folder), hydra.job.name
        # a failed job is a job without a value: an exception here would keep a sweeper from the others' values
        out.status, out.return_value = JobStatus.COMPLETED, float("nan") if value is None else value
        return out
