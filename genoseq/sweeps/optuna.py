"""Search settings with Optuna, whose trials are the jobs of a sweep."""

from __future__ import annotations

import math
import random
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from genoseq.errors import UserError
from genoseq.sweeps.launcher import lock
from genoseq.sweeps.space import Space, read_space

_SETTINGS = "genoseq:settings"  # the study's attribute that holds what its trials have in common


@dataclass
class Search:
    """Minimise what the jobs return, validation bits per base, over a space in Hydra's sweep grammar.

    The same command with the same folder resumes: trials that were stopped run first, with their numbers and settings,
    then new ones until there are `n_trials`. Each trial's sampler is seeded by (seed, trial number), so `random`
    proposes the same settings whatever is stopped or runs beside it; `tpe` does if it knows the same results when it
    is asked (always with ``n_jobs: 1``). A trial with the settings of a finished one takes its value.
    """

    sampler: str = "tpe"  # or random
    seed: int | None = 0  # of the proposals; None for different ones each time
    n_trials: int = 20  # in all, failed ones and those of earlier commands with this folder included
    n_jobs: int | None = None  # trials proposed at a time; None for as many as the launcher runs at a time
    n_startup_trials: int = 8  # random trials before tpe uses their results
    max_failed: float = 1.0  # fraction of n_trials that may fail before the search stops
    storage: str | None = None  # URL of a database; None for optuna.db in the sweep's folder
    study_name: str = "genoseq"
    params: Mapping[str, object] = field(default_factory=dict)  # the preset's values or sweeps; see read_space

    def __post_init__(self) -> None:
        """Check the options."""
        if self.sampler not in ("tpe", "random"):
            raise UserError(f"hydra.sweeper.sampler must be tpe or random, got {self.sampler}")
        for name, least in (("n_trials", 1), ("n_jobs", 1), ("n_startup_trials", 0)):
            count = getattr(self, name)
            if not (isinstance(count, int) and count >= least) and (name, count) != ("n_jobs", None):
                raise UserError(f"hydra.sweeper.{name} must be an integer of at least {least}, got {count}")
        if not isinstance(self.max_failed, (int, float)) or not 0 <= self.max_failed <= 1:
            raise UserError(f"hydra.sweeper.max_failed must be between 0 and 1, got {self.max_failed}")

    def run(self, sweeper: Sweeper, arguments: Sequence[str]) -> list[JobReturn]:
        """Run the trials that are missing to `n_trials` with the sweeper's launcher; return their jobs' results."""
        assert sweeper.config is not None and sweeper.launcher is not None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        folder = Path(sweeper.config.hydra.sweep.dir)
        space = read_space(self.params, arguments)
        sweeper.validate_batch_is_legal(space.examples())
        jobs: list[JobReturn] = []
        with lock(folder, ".optuna.lock"):  # another search would take this one's running trials for stopped ones
            study = self._open(folder, space)
            OmegaConf.save(sweeper.config, folder / "multirun.yaml")
            while trials := self._ask(study, space, sweeper.launcher):
                overrides = [space.overrides(trial.params) for trial in trials]
                results = sweeper.launcher.launch(overrides, initial_job_idx=trials[0].number)
                for trial, result in zip(trials, results, strict=True):
                    value = result.return_value if result.status is JobStatus.COMPLETED else None  # it would raise
                    failed = value is None or not math.isfinite(value)
                    study.tell(trial, None if failed else value, TrialState.FAIL if failed else None)
                jobs += results
        _print_best(study, space)
        return jobs

    def _open(self, folder: Path, space: Space) -> optuna.Study:
        """Return the folder's study, new or resumed, with the trials that were stopped waiting to run first."""
        url = self.storage or f"sqlite:///{(folder / 'optuna.db').resolve()}"
        try:
            storage = optuna.storages.get_storage(url)
            study = optuna.create_study(storage=storage, study_name=self.study_name, load_if_exists=True)
            before = study.user_attrs.get(_SETTINGS, {})
        except Exception as error:  # whatever the database raises
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"the storage {url} cannot be opened: {reason}") from error
        if not study.get_trials(deepcopy=False):
            study.set_user_attr(_SETTINGS, before := space.settings)
        for key in sorted({*before, *space.settings}):
            was, now = (settings.get(key, "not set") for settings in (before, space.settings))
            if was != now:
                raise UserError(
                    f"the search in {folder} began with {key}: {was}, and this command has {key}: {now}; repeat the "
                    "first command, or give another sweep.dir"
                )
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
        missing = self.n_trials - sum(trial.state.is_finished() for trial in trials)
        at_a_time = self.n_jobs or getattr(launcher, "at_a_time", lambda: 1)()
        known = {tuple(space.varied(trial.params)): trial for trial in trials if trial.state is TrialState.COMPLETE}
        batch: list[optuna.Trial] = []
        while len(batch) < min(at_a_time, missing):
            study.sampler = self._sampler(len(study.get_trials(deepcopy=False)))
            trial = study.ask({**space.distributions})
            if same := known.get(tuple(space.varied(trial.params))):
                study.tell(trial, same.value)
                print(f"Trial {trial.number} has the settings of trial {same.number} and is not run again.")
                missing -= 1
            else:
                batch.append(trial)
        return batch

    def _sampler(self, number: int) -> BaseSampler:
        """Return the sampler of a new trial."""
        seed = None if self.seed is None else random.Random(f"{self.seed} {number}").getrandbits(32)
        if self.sampler == "random":
            return RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some versions of Optuna call constant_liar an experiment
            return TPESampler(n_startup_trials=self.n_startup_trials, constant_liar=True, seed=seed)


def _print_best(study: optuna.Study, space: Space) -> None:
    trials = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if not complete:
        print(f"genoseq: none of {len(trials)} trials returned a value", file=sys.stderr)
        return
    best = min(complete, key=lambda trial: (trial.value, trial.number))
    failed = f", {len(trials) - len(complete)} failed" if len(trials) > len(complete) else ""
    print(
        f"Best of {len(trials)} trials{failed}: trial {best.number} with {best.value:.4f} bits per base on validation, "
        + " ".join(space.varied(best.params))
    )
