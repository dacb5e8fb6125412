"""Search settings with Optuna, whose trials are the jobs of a sweep."""

from __future__ import annotations

import math
import random
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import groupby
from numbers import Real
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from genoseq.errors import UserError
from genoseq.sweeps.space import Space, read_space

_SETTINGS = "genoseq:settings"  # the study's attribute that holds what its trials have in common


@dataclass
class Search:
    """Minimise what the jobs return, validation bits per base, over a space in Hydra's sweep grammar.

    The same command with the same folder resumes: trials that were stopped run first, with their numbers and settings,
    then new ones until there are `n_trials`. Each trial's sampler is seeded by (seed, trial number), so `random`
    proposes the same settings whatever is stopped or runs beside it; `tpe` does if it knows the same results when it
    is asked (always with ``n_jobs: 1``). A trial with the settings of a finished one takes its value.

    Parameters
    ----------
    sampler : {"tpe", "random"}
    seed : int, optional
        Of the proposals; None for different ones each time.
    n_trials : int
        Trials in all, failed ones and those of earlier commands with this folder included.
    n_jobs : int, optional
        Trials proposed at a time; None for as many as the launcher runs at a time.
    n_startup_trials : int
        Random trials before `tpe` uses their results.
    max_failed : float
        Fraction of `n_trials` that may fail before the search stops.
    storage : str, optional
        URL of a database; None for ``optuna.db`` in the sweep's folder.
    study_name : str
    params : dict, optional
        The preset's values or sweeps, by key; the command's overrides take precedence.
    """

    sampler: str = "tpe"
    seed: int | None = 0
    n_trials: int = 20
    n_jobs: int | None = None
    n_startup_trials: int = 8
    max_failed: float = 1.0
    storage: str | None = None
    study_name: str = "genoseq"
    params: Mapping[str, object] = field(default_factory=dict)

    def run(self, sweeper: Sweeper, arguments: Sequence[str]) -> list[JobReturn]:
        """Run the trials that are missing to `n_trials` with the sweeper's launcher; return their jobs' results.

        Raises
        ------
        UserError
            If an option is wrong, or the folder holds another search.
        """
        assert sweeper.config is not None and sweeper.launcher is not None
        self._check()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        folder = Path(sweeper.config.hydra.sweep.dir)
        space = read_space(self.params, arguments)
        sweeper.validate_batch_is_legal(space.examples())
        jobs: list[JobReturn] = []
        with _lock(folder):
            study = self._open(folder, space)
            OmegaConf.save(sweeper.config, folder / "multirun.yaml")
            while batch := self._ask(study, space, sweeper.launcher):
                for trials in _consecutive(_new_settings(study, space, batch)):
                    overrides = [space.overrides(trial.params) for trial in trials]
                    results = sweeper.launcher.launch(overrides, initial_job_idx=trials[0].number)
                    for trial, result in zip(trials, results, strict=True):
                        value = _value(result)
                        study.tell(trial, value, state=TrialState.FAIL if value is None else None)
                    jobs += results
        _print_best(study, space)
        return jobs

    def _check(self) -> None:
        if self.sampler not in ("tpe", "random"):
            raise UserError(f"hydra.sweeper.sampler must be tpe or random, got {self.sampler}")
        for name, least in (("n_trials", 1), ("n_jobs", 1), ("n_startup_trials", 0)):
            count = getattr(self, name)
            if not (isinstance(count, int) and count >= least) and (name, count) != ("n_jobs", None):
                raise UserError(f"hydra.sweeper.{name} must be an integer of at least {least}, got {count}")
        if not isinstance(self.max_failed, (int, float)) or not 0 <= self.max_failed <= 1:
            raise UserError(f"hydra.sweeper.max_failed must be between 0 and 1, got {self.max_failed}")

    def _open(self, folder: Path, space: Space) -> optuna.Study:
        """Return the folder's study, new or resumed, with the trials that were stopped waiting to run first."""
        url = self.storage or f"sqlite:///{(folder / 'optuna.db').resolve()}"
        try:
            storage = optuna.storages.get_storage(url)
            study = optuna.create_study(storage=storage, study_name=self.study_name, load_if_exists=True)
            before = study.user_attrs.get(_SETTINGS)
        except Exception as error:  # whatever the database raises
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"the storage {url} cannot be opened: {reason}") from error
        if before is None and not study.get_trials(deepcopy=False):
            study.set_user_attr(_SETTINGS, space.settings)
        elif before != space.settings:
            raise UserError(_difference(folder, before or {}, space.settings))
        for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        return study

    def _ask(self, study: optuna.Study, space: Space, launcher: Launcher) -> list[optuna.Trial]:
        """Return the trials to run next, none at the end."""
        trials = study.get_trials(deepcopy=False)
        failed = sum(trial.state is TrialState.FAIL for trial in trials)
        if failed > self.max_failed * self.n_trials:
            allowed = f"hydra.sweeper.max_failed={self.max_failed} of {self.n_trials}"
            print(f"genoseq: the search stops: {failed} trials failed, more than {allowed} allows", file=sys.stderr)
            return []
        at_a_time = self.n_jobs or max(1, int(getattr(launcher, "at_a_time", lambda: 1)()))
        missing = self.n_trials - sum(trial.state.is_finished() for trial in trials)
        batch = []
        for _ in range(min(at_a_time, missing)):
            trials = study.get_trials(deepcopy=False)
            waiting = (trial.number for trial in trials if trial.state is TrialState.WAITING)
            study.sampler = self._sampler(min(waiting, default=len(trials)))
            batch.append(study.ask({**space.distributions}))
        return batch

    def _sampler(self, number: int) -> BaseSampler:
        """Return the sampler of a trial."""
        seed = None if self.seed is None else random.Random(f"{self.seed} {number}").getrandbits(32)
        if self.sampler == "random":
            return RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some versions of Optuna call constant_liar an experiment
            return TPESampler(n_startup_trials=self.n_startup_trials, constant_liar=True, seed=seed)


def _lock(folder: Path) -> AbstractContextManager[object]:
    """Keep other searches out of a folder; they would take this one's running trials for stopped ones."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(folder / ".optuna.lock").acquire(timeout=0)
    except Timeout:
        raise UserError(f"another process searches in {folder}; wait for it or give another sweep.dir") from None


def _difference(folder: Path, before: Mapping[str, str], now: Mapping[str, str]) -> str:
    key = min(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    was, is_ = (settings.get(key, "not set") for settings in (before, now))
    return (
        f"the search in {folder} began with {key}: {was}, and this command has {key}: {is_}; "
        "repeat the first command, or give another sweep.dir"
    )


def _complete(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])


def _new_settings(study: optuna.Study, space: Space, batch: Sequence[optuna.Trial]) -> list[optuna.Trial]:
    """Return the trials whose settings have no value yet; give the others theirs."""
    known = {tuple(space.varied(trial.params)): trial for trial in reversed(_complete(study))}
    new = []
    for trial in batch:
        same = known.get(tuple(space.varied(trial.params)))
        if same is None:
            new.append(trial)
            continue
        trial.set_user_attr("same_as", same.number)
        study.tell(trial, same.value)
        print(f"Trial {trial.number} has the settings of trial {same.number} and is not run again.")
    return new


def _consecutive(trials: Sequence[optuna.Trial]) -> Iterator[list[optuna.Trial]]:
    """Yield groups of trials with consecutive numbers: a launcher numbers its jobs from the first one's."""
    for _, group in groupby(enumerate(trials), key=lambda pair: pair[1].number - pair[0]):
        yield [trial for _, trial in group]


def _value(result: JobReturn) -> float | None:
    """Return what a job returned, None unless it ended well with a finite number."""
    if result.status is not JobStatus.COMPLETED:  # its return_value would raise
        return None
    value: Any = result.return_value
    return float(value) if isinstance(value, Real) and math.isfinite(value) else None


def _print_best(study: optuna.Study, space: Space) -> None:
    complete = _complete(study)
    total = sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))
    if not complete:
        print(f"genoseq: none of {total} trials returned a value", file=sys.stderr)
        return
    best = min(complete, key=lambda trial: (trial.value, trial.number))
    failed = f", {total - len(complete)} failed" if total > len(complete) else ""
    print(
        f"Best of {total} trials{failed}: trial {best.number} with {best.value:.4f} bits per base on validation, "
        + " ".join(space.varied(best.params))
    )
