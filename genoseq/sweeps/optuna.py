"""A sweep that learns from its trials: Optuna proposes settings, a launcher trains them (Hydra sweeper).

Optuna itself is imported when a sweep begins, so that nothing else needs it.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterator, Mapping
from itertools import groupby
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from genoseq.errors import UserError, fail
from genoseq.sweeps.end import finish
from genoseq.sweeps.optuna_study import begun, complete, finished, open_study, quiet_optuna
from genoseq.sweeps.space import Space, read_space

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.samplers import BaseSampler

_SAMPLERS = ("tpe", "random")


class OptunaSweeper(Sweeper):
    """Minimises what the jobs return (bits per base on validation) over a space in Hydra's words.

    `interval(a,b)` is drawn evenly, `tag(log,interval(a,b))` evenly in the logarithm, `int(…)` of either as whole
    numbers, both ends inside; `range` keeps its order and steps; `choice` and `a,b,c` have none. A drawn number is
    rounded to 4 significant digits (more if the interval is narrow), so what is trained is what a folder's name says.

    **Going on.** Trials are kept in `storage`; the same command with the same folder goes on until there are
    `n_trials` in all. Trials that an interruption left unfinished run first, with the same overrides and the same
    numbers. One command at a time: another one's running trials would be taken for left-overs.

    **Same seed, same trials.** The sampler is seeded for each trial by (seed, the number of trials before it), so
    neither a restart nor a batch repeats a draw. `random` proposes the same settings whatever is interrupted or
    runs beside it. `tpe` does as long as it knows the same results when it is asked: with `n_jobs: 1` always, with
    more if the batches are the same, as it is asked for a whole batch before any of its results is known.

    A trial that draws the very settings of a finished one takes over its value and is not run again.

    Parameters
    ----------
    sampler : {"tpe", "random"}
        How settings are proposed.
    seed : int, optional
        Of the proposals; none for others each time.
    n_trials : int
        Trials in all, failed ones and those of earlier commands with this folder included.
    n_jobs : int, optional
        Trials asked for at a time; None for as many as the launcher runs at a time.
    n_startup_trials : int
        Trials drawn at random before `tpe` learns from them.
    max_failed : float
        Share of `n_trials` that may fail before the sweep stops.
    storage : str, optional
        Optuna's storage, a database's address; None for ``optuna.db`` in the sweep's folder.
    study_name : str
        The study's name in that storage.
    params : dict, optional
        The preset space: sweeps or values in Hydra's words, by key. The command's overrides take precedence.
    """

    def __init__(
        self,
        sampler: str = "tpe",
        seed: int | None = 0,
        n_trials: int = 20,
        n_jobs: int | None = None,
        n_startup_trials: int = 8,
        max_failed: float = 1.0,
        storage: str | None = None,
        study_name: str = "genoseq",
        params: Mapping[str, object] | None = None,
    ) -> None:
        self.sampler = sampler
        self.seed = seed
        self.n_trials = n_trials
        self.n_jobs = n_jobs
        self.n_startup_trials = n_startup_trials
        self.max_failed = max_failed
        self.storage = storage
        self.study_name = study_name
        self.params = dict(params or {})
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take the composed config and make the launcher."""
        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[JobReturn]:
        """Run the trials that are missing to `n_trials`; return what those run now gave back."""
        assert self.config is not None
        folder = Path(self.config.hydra.sweep.dir)
        try:
            self._check()
            space = read_space(self.params, arguments)
            self.validate_batch_is_legal(space.examples())
            folder.mkdir(parents=True, exist_ok=True)
            study = open_study(folder, self.storage, self.study_name, space.described())
        except UserError as error:
            fail(str(error))
        OmegaConf.save(self.config, folder / "multirun.yaml")
        jobs: list[JobReturn] = []
        while batch := self._batch(study, space):
            jobs += self._run(study, space, batch)
        self._report(study, space)
        return jobs

    def _check(self) -> None:
        quiet_optuna()
        if self.sampler not in _SAMPLERS:
            raise UserError(f"hydra.sweeper.sampler={self.sampler} is not known; say one of {', '.join(_SAMPLERS)}")
        counts = (
            ("n_trials", self.n_trials, 1),
            ("n_jobs", self.n_jobs, 1),
            ("n_startup_trials", self.n_startup_trials, 0),
        )
        for name, count, least in counts:
            if not (count is None and name == "n_jobs") and (not isinstance(count, int) or count < least):
                raise UserError(f"hydra.sweeper.{name}={count} is no number of trials; say {least} or more")
        if not isinstance(self.max_failed, (int, float)) or not 0 <= self.max_failed <= 1:
            raise UserError(f"hydra.sweeper.max_failed={self.max_failed} is no share; say a number from 0 to 1")

    def _batch(self, study: Study, space: Space) -> list[Trial]:
        """Return the trials to run next: those that an interruption left, then new ones; none at the end."""
        import optuna
        from optuna.trial import TrialState

        trials = study.get_trials(deepcopy=False)
        failed = sum(trial.state is TrialState.FAIL for trial in trials)
        if failed > self.max_failed * self.n_trials:
            share = f"hydra.sweeper.max_failed={self.max_failed} of {self.n_trials}"
            self._give_up(f"{failed} trials failed, more than {share} allows")
        size = min(self._at_a_time(), self.n_trials - finished(study))
        left = [trial for trial in trials if trial.state is TrialState.RUNNING]
        batch = []
        for i in range(size):
            study.sampler = self._sampler(left[i].number if i < len(left) else begun(study))
            # the only way to take a trial up again is by the number that the storage has for it
            trial = optuna.Trial(study, left[i]._trial_id) if i < len(left) else study.ask()
            space.suggest(trial)
            batch.append(trial)
        return batch

    def _at_a_time(self) -> int:
        return self.n_jobs or max(1, int(getattr(self.launcher, "at_a_time", lambda: 1)()))

    def _sampler(self, number: int) -> BaseSampler:
        """Return the sampler of the trial before which there are `number`."""
        from optuna.samplers import RandomSampler, TPESampler

        seed = None if self.seed is None else random.Random(f"{self.seed} {number}").getrandbits(32)
        if self.sampler == "random":
            return RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some versions call constant_liar an experiment
            return TPESampler(n_startup_trials=self.n_startup_trials, constant_liar=True, seed=seed)

    def _run(self, study: Study, space: Space, batch: list[Trial]) -> list[JobReturn]:
        """Run trials and tell the study what they gave; an interruption leaves them as running."""
        from optuna.trial import TrialState

        assert self.launcher is not None
        jobs: list[JobReturn] = []
        for trials in _consecutive(_new(study, space, batch)):
            overrides = [space.overrides(trial.params) for trial in trials]
            self.validate_batch_is_legal(overrides)
            done = self.launcher.launch(overrides, initial_job_idx=trials[0].number)
            for trial, job in zip(trials, done, strict=True):
                value = _value(job)
                study.tell(trial, value, state=TrialState.FAIL if value is None else None)
            jobs += done
        return jobs

    def _report(self, study: Study, space: Space) -> None:
        done, total = complete(study), finished(study)
        if not done:
            self._give_up(f"none of {total} trials gave a value")
        best = min(done, key=lambda trial: (trial.value, trial.number))
        failed = f", {total - len(done)} failed" if total > len(done) else ""
        print(
            f"Best of {total} trials{failed}: trial {best.number} with {best.value:.4f} bits per base on validation, "
            + " ".join(space.settings(best.params))
        )

    def _give_up(self, sentence: str) -> NoReturn:
        """End the sweep with exit code 2, and with the table that says why its jobs failed."""
        assert self.config is not None
        finish(self.config)
        fail(f"the sweep stops: {sentence}; the jobs' logs are in {self.config.hydra.sweep.dir}")


def _new(study: Study, space: Space, batch: list[Trial]) -> list[Trial]:
    """Return the trials whose settings were not measured yet; the others take over the value there is."""
    known = {tuple(space.settings(trial.params)): trial for trial in complete(study)}
    new = []
    for trial in batch:
        same = known.get(tuple(space.settings(trial.params)))
        if same is None:
            new.append(trial)
            continue
        trial.set_user_attr("same_as", same.number)
        study.tell(trial, same.value)
        print(f"Trial {trial.number} has the settings of trial {same.number} and is not run again.")
    return new


def _consecutive(trials: list[Trial]) -> Iterator[list[Trial]]:
    """Yield runs of trials whose numbers follow one another: a launcher counts up from the first."""
    for _, run in groupby(enumerate(trials), key=lambda pair: pair[1].number - pair[0]):
        yield [trial for _, trial in run]


def _value(job: JobReturn) -> float | None:
    """Return what a job gave back, None unless it ended well with a finite number."""
    if job.status is not JobStatus.COMPLETED:  # its return_value would raise
        return None
    value: Any = job.return_value
    return float(value) if isinstance(value, Real) and math.isfinite(value) else None
