"""Searches with Optuna: which trials run, and what failures, interruptions and seeds do to them."""

import json
import math
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from genoseq.overrides import settings
from hydra_plugins.genoseq.sweepers import OptunaSweeper

optuna = pytest.importorskip("optuna", reason="searches with Optuna are an extra")

from optuna.distributions import FloatDistribution  # noqa: E402

GENOME = Path(__file__).parents[1] / "data" / "files" / "hpylori_softmasked.fa"
LOG_LR = {"optimizer.lr": "tag(log, interval(1e-5, 1))"}
MEMORY: dict[Path, Any] = defaultdict(optuna.storages.InMemoryStorage)  # by folder, as SQLite is slow


def quadratic(values: dict[str, str], num: int) -> float:
    """The best learning rate is 0.01."""
    return 1.5 + (math.log10(float(values["optimizer.lr"])) + 2) ** 2


class StubLauncher:
    """Computes what jobs return; `value` may raise, or return an exception for a failed job."""

    def __init__(self, value: Callable[[dict[str, str], int], Any] = quadratic, slots: int | None = None) -> None:
        self.value, self.jobs, self.batches = value, [], []
        if slots is not None:
            self.at_a_time = lambda: slots

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        self.batches.append(len(job_overrides))
        self.jobs += [(initial_job_idx + i, tuple(overrides)) for i, overrides in enumerate(job_overrides)]
        results = []
        for num, overrides in self.jobs[-len(job_overrides) :]:
            value = self.value(settings(overrides), num)
            failed = isinstance(value, Exception)
            results.append(JobReturn(overrides=overrides, status=JobStatus.FAILED if failed else JobStatus.COMPLETED))
            results[-1].return_value = value
        return results


def search(folder: Path, launcher: StubLauncher, *arguments: str, **options: Any) -> Any:
    """Search with a sweeper that composes nothing; return the jobs' results."""
    sweeper = OptunaSweeper(**{"params": LOG_LR, "storage": MEMORY[folder]} | options)
    sweeper.config = OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}})
    sweeper.launcher = launcher  # type: ignore[assignment]
    sweeper.validate_batch_is_legal = lambda batch: None  # type: ignore[method-assign]
    return sweeper.sweep(list(arguments))


def study_in(folder: Path) -> Any:
    file = folder / "optuna.db"
    return optuna.load_study(study_name="genoseq", storage=f"sqlite:///{file}" if file.exists() else MEMORY[folder])


def states(folder: Path) -> list[str]:
    return [trial.state.name for trial in study_in(folder).trials]


def error_of(capsys: pytest.CaptureFixture[str], call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """Return the one sentence with which a call ends."""
    with pytest.raises(SystemExit) as end:
        call(*arguments, **options)
    err = capsys.readouterr().err
    assert end.value.code == 2 and err.count("\n") == 1
    return err


# ---- trials and jobs ------------------------------------------------------------------------------------------------


def test_each_trial_is_a_job_with_its_number_and_value(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder, launcher = tmp_path / "new" / "s", StubLauncher()
    results = search(folder, launcher, "seed=1", "model.hidden_size=8,16", "model=rnn1", n_trials=6, storage=None)
    study = study_in(folder)
    assert [num for num, _ in launcher.jobs] == list(range(6)) and launcher.batches == [1] * 6
    for (num, overrides), trial in zip(launcher.jobs, study.trials, strict=True):
        varied = settings(overrides[2:])
        assert overrides[:2] == ("seed=1", "model=rnn1") and list(varied) == ["model.hidden_size", "optimizer.lr"]
        assert trial.value == quadratic(varied, num) and trial.state.name == "COMPLETE"
        assert trial.params["model.hidden_size"] == varied["model.hidden_size"]
        assert float(varied["optimizer.lr"]) == pytest.approx(trial.params["optimizer.lr"], 1e-3)
    assert [result.return_value for result in results] == [trial.value for trial in study.trials]
    assert study.direction.name == "MINIMIZE" and (folder / "multirun.yaml").is_file()
    best = min(study.trials, key=lambda trial: trial.value)
    line = f"Best of 6 trials: trial {best.number} with {best.value:.4f} bits per base on validation, "
    assert capfd.readouterr() == (line + " ".join(launcher.jobs[best.number][1][2:]) + "\n", "")


def test_batches_sample_what_single_trials_sample(tmp_path: Path) -> None:
    options = {"n_trials": 8, "sampler": "random"}
    search(tmp_path / "single", single := StubLauncher(), **options)
    assert [num for num, _ in single.jobs] == list(range(8)) and len({text for _, text in single.jobs}) == 8
    for n_jobs, slots, batches in ((None, 3, [3, 3, 2]), (4, 3, [4, 4]), (1, 3, [1] * 8)):
        search(tmp_path / str(n_jobs), launcher := StubLauncher(slots=slots), n_jobs=n_jobs, **options)
        assert launcher.batches == batches and launcher.jobs == single.jobs


def test_the_same_settings_run_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    launcher = StubLauncher(lambda values, num: float(values["a.b"]))
    search(tmp_path, launcher, "a.b=1,2,3", n_trials=10, params={})
    assert len(launcher.jobs) == len({overrides for _, overrides in launcher.jobs}) <= 3
    assert states(tmp_path) == ["COMPLETE"] * 10
    assert all(trial.value == float(trial.params["a.b"]) for trial in study_in(tmp_path).trials)
    assert capsys.readouterr().out.count("is not run again") == 10 - len(launcher.jobs)


# ---- failures -------------------------------------------------------------------------------------------------------


def test_failures_are_tolerated_and_count(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    odd = [RuntimeError("out of memory"), math.nan, None, math.inf, np.float32(1.75)]
    search(tmp_path, StubLauncher(lambda values, num: odd[num] if num < 5 else 2.0), n_trials=8, n_jobs=2)
    assert states(tmp_path) == ["FAIL"] * 4 + ["COMPLETE"] * 4
    out, err = capfd.readouterr()
    assert "Best of 8 trials, 4 failed: trial 4 with 1.7500" in out and err == ""
    search(tmp_path, more := StubLauncher(), n_trials=9)
    assert [num for num, _ in more.jobs] == [8]


@pytest.mark.parametrize("max_failed", [0.0, 0.2, 0.25])
def test_too_many_failures_stop_a_search(tmp_path: Path, capsys: pytest.CaptureFixture[str], max_failed: float) -> None:
    launcher = StubLauncher(lambda values, num: math.nan if num % 2 or not max_failed else 2.0)
    search(tmp_path, launcher, n_trials=10, n_jobs=2, max_failed=max_failed)
    failed = states(tmp_path).count("FAIL")
    assert failed > max_failed * 10 >= failed - 2 and len(launcher.jobs) == (2 * failed if max_failed else 2)
    err = capsys.readouterr().err
    assert f"{failed} trials failed, more than hydra.sweeper.max_failed={max_failed}" in err
    assert ("none of 2 trials returned a value" in err) is (max_failed == 0)


# ---- resuming -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sampler", "n_jobs"), [("tpe", 1), ("random", 3)])
def test_an_interrupted_search_resumes(tmp_path: Path, n_jobs: int, sampler: str) -> None:
    def interrupted(values: dict[str, str], num: int) -> float:
        if num == 7:
            raise SystemExit(130)
        return quadratic(values, num)

    options = {"n_trials": 12, "n_jobs": n_jobs, "n_startup_trials": 4, "sampler": sampler, "storage": None}
    first, then, whole = StubLauncher(interrupted), StubLauncher(), StubLauncher()
    with pytest.raises(SystemExit):
        search(tmp_path, first, **options)
    left = [number for number, state in enumerate(states(tmp_path)) if state == "RUNNING"]
    assert left == ([7] if n_jobs == 1 else [6, 7, 8])
    search(tmp_path, then, **options)
    assert states(tmp_path) == ["COMPLETE"] * 12
    assert then.jobs[: len(left)] == first.jobs[-len(left) :]  # the same settings, the same numbers
    # and as if it had never been interrupted
    search(tmp_path / "whole", whole, **options | {"storage": MEMORY[tmp_path]})
    assert dict(whole.jobs) == dict(first.jobs) | dict(then.jobs) and len(set(whole.jobs)) == 12


def test_more_trials_than_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, then, none = StubLauncher(), StubLauncher(), StubLauncher()
    search(tmp_path, first, n_trials=5)
    search(tmp_path, then, n_trials=8)
    assert [num for num, _ in then.jobs] == [5, 6, 7]
    assert len({overrides for _, overrides in first.jobs + then.jobs}) == 8
    capsys.readouterr()
    search(tmp_path, none, n_trials=4)
    assert not none.jobs and capsys.readouterr().out.startswith("Best of 8 trials: trial ")


def test_trials_cut_off_while_they_were_asked_and_trials_in_the_queue_run_first(tmp_path: Path) -> None:
    arguments = ("a.b=interval(0,1)",)
    search(tmp_path, StubLauncher(), *arguments, n_trials=2)
    study = study_in(tmp_path)
    half = study.ask({"a.b": FloatDistribution(0, 1)})
    study.enqueue_trial({"optimizer.lr": 0.01, "a.b": 0.5})
    search(tmp_path, launcher := StubLauncher(), *arguments, n_trials=5, n_jobs=2)
    study = study_in(tmp_path)
    assert states(tmp_path) == ["COMPLETE"] * 5 and study.trials[2].params["a.b"] == half.params["a.b"]
    assert launcher.jobs[1] == (3, ("a.b=0.5", "optimizer.lr=0.01")) and study.best_trial.number == 3


def test_a_search_resumes_with_the_same_settings_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("a.b=8,16", "x=0.01", "~y")
    search(tmp_path, StubLauncher(), *given, "sweep.dir=x", "hparams_search=optuna", n_trials=2)
    # compared as parsed, whatever their order; where and how may differ
    search(tmp_path, StubLauncher(), "sweep.dir=y", "~y", "x=1e-2", "a.b=choice(8, 16)", n_trials=3, sampler="random")
    assert states(tmp_path) == ["COMPLETE"] * 3
    none = StubLauncher()
    for arguments, difference in (
        (["a.b=8,16,64", *given[1:]], "('8', '16')), and this command has a.b: CategoricalDistribution(choices=('8',"),
        (["a.b=8", *given[1:]], "choices=('8', '16')), and this command has a.b: 8;"),
        ([*given, "optimizer.lr=interval(0,1)"], "optimizer.lr: FloatDistribution(high=1.0, log=True, low=1e-05,"),
        ([*given, "trainer.max_steps=9"], "began with trainer.max_steps: not set, and this command"),
        ([*given[:-1], "y=null"], "began with y: removed, and this command has y: null"),
    ):
        err = error_of(capsys, search, tmp_path, none, *arguments, n_trials=4)
        assert difference in err and "give another sweep.dir" in err and not none.jobs


# ---- seeds and samplers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_seed_proposes_the_same(tmp_path: Path, sampler: str) -> None:
    options = {"n_trials": 5, "n_startup_trials": 3, "sampler": sampler, "params": LOG_LR | {"a.b": "8,16,32"}}
    runs = []
    for number, seed in enumerate((3, 3, 4, None, None)):
        runs.append(StubLauncher())
        search(tmp_path / str(number), runs[-1], seed=seed, **options)
    assert runs[0].jobs == runs[1].jobs
    assert not any(set(one.jobs) & set(other.jobs) for one, other in pairwise(runs[1:]))


def test_seeds_spread_over_the_space(tmp_path: Path) -> None:
    search(tmp_path, launcher := StubLauncher(slots=50), n_trials=50, sampler="random")
    logs = sorted(math.log10(float(settings(overrides)["optimizer.lr"])) / 5 + 1 for _, overrides in launcher.jobs)
    gap = max(max(abs(x - i / 50), abs(x - (i + 1) / 50)) for i, x in enumerate(logs))
    assert gap < 1.63 / math.sqrt(50)  # Kolmogorov and Smirnov's, at 1 %


def test_tpe_looks_where_it_is_good(tmp_path: Path) -> None:
    # the proposals after the random ones, not the best of all: along one axis the best of 25 draws is near anyway
    def typical(sampler: str) -> float:
        noise = np.random.default_rng(0)
        launcher = StubLauncher(lambda values, num: quadratic(values, num) + 0.02 * float(noise.normal()))
        search(tmp_path / sampler, launcher, sampler=sampler, n_trials=25)
        return statistics.median(quadratic(settings(overrides), num) for num, overrides in launcher.jobs[8:])

    assert typical("tpe") < typical("random")


# ---- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"sampler": "cmaes"}, "sampler must be tpe or random, got cmaes"),
        ({"n_trials": 0}, "n_trials must be an integer of at least 1, got 0"),
        ({"n_trials": "many"}, "n_trials must be an integer of at least 1, got many"),
        ({"n_jobs": 0}, "n_jobs must be an integer of at least 1, got 0"),
        ({"n_startup_trials": -1}, "n_startup_trials must be an integer of at least 0, got -1"),
        ({"max_failed": 2}, "max_failed must be between 0 and 1, got 2"),
        ({"params": {}}, "varies nothing"),
        ({"storage": "nowhere"}, "nowhere cannot be opened"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], sentence: str
) -> None:
    launcher = StubLauncher()
    assert sentence in error_of(capsys, search, tmp_path, launcher, **options)
    assert not launcher.jobs and {file.name for file in tmp_path.iterdir()} <= {".optuna.lock"}


def test_a_broken_or_busy_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "optuna.db").write_text("this is no database, and long enough to be told from one" * 20)
    assert "cannot be opened" in error_of(capsys, search, tmp_path, StubLauncher(), storage=None)
    with FileLock(tmp_path / ".optuna.lock"):
        assert "another process runs the sweep" in error_of(capsys, search, tmp_path, StubLauncher())


def test_without_optuna(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    for module in ("optuna", "space"):
        monkeypatch.delitem(sys.modules, f"genoseq.sweeps.{module}", raising=False)
    assert "pip install 'genoseq[optuna]'" in error_of(capsys, search, tmp_path, StubLauncher())


def test_hydra_finds_the_plugins_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from hydra.core.plugins import Plugins\n"
        "print(sorted(c.__name__ for c in Plugins.instance().discover() if 'genoseq' in c.__module__))\n"
        "print(sorted({'optuna', 'torch', 'ray', 'submitit', 'pandas', 'rich', 'filelock'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = ["LocalPool", "OptunaSweeper", "RayCluster", "ReplicateSweeper", "SubmititLocal", "SubmititSlurm"]
    assert done.stdout == f"{names}\n[]\n"


# ---- with the project's configs -------------------------------------------------------------------------------------


@pytest.fixture
def tune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_verb: Callable[..., Any]) -> Callable[..., Any]:
    """A function from a launcher and overrides to how a search with that launcher ended, in `tmp_path`."""

    def call(launcher: StubLauncher, *overrides: str) -> Any:
        monkeypatch.setattr(Plugins, "instantiate_launcher", lambda *_, **__: launcher)
        return run_verb("train", tmp_path / "run", f"sweep.dir={tmp_path}", *overrides)

    return call


@pytest.mark.parametrize(("name", "sampler"), [("optuna", "tpe"), ("random", "random")])
def test_the_presets(tune: Callable[..., Any], name: str, sampler: str, tmp_path: Path) -> None:
    launcher = StubLauncher(lambda values, num: float(values["model.embed_dim"]))
    more = ("optimizer.lr=0.01", "seed=7", "model=rnn1,rnn2", "hydra.sweeper.n_trials=3")
    ran = tune(launcher, f"hparams_search={name}", *more)
    assert "Best of 3 trials" in ran.out and 1 <= len(launcher.jobs) <= 3
    for _, overrides in launcher.jobs:
        assert overrides[:4] == (f"sweep.dir={tmp_path}", f"hparams_search={name}", "optimizer.lr=0.01", "seed=7")
        assert set(settings(overrides[4:])) == {"model", "model.embed_dim", "model.hidden_size"}
    saved = OmegaConf.load(tmp_path / "multirun.yaml")
    options = saved.hydra.sweeper
    assert (options.sampler, options.seed, options.n_trials, saved.optimizer.lr) == (sampler, 7, 3, 0.01)


@pytest.mark.parametrize("wrong", ["optimizer.learning=interval(0,1)", "model=rnn1,rnn9"])
def test_what_does_not_exist_is_named_before_anything_begins(
    tune: Callable[..., Any], wrong: str, tmp_path: Path
) -> None:
    ran = tune(launcher := StubLauncher(), "hparams_search=optuna", wrong)
    assert ran.code == 1 and re.search(r"optimizer\.learning|rnn9", ran.err)
    assert not launcher.jobs and not (tmp_path / "optuna.db").exists()


@pytest.mark.slow
def test_from_the_command_line(tmp_path: Path, tiny: tuple[str, ...], run_verb: Callable[..., Any]) -> None:
    small = [text for text in tiny if not text.startswith(("model.embed_dim", "model.hidden_size"))]
    arguments = ["sweep=optuna", "hydra.sweeper.n_trials=2", "model.hidden_size=8,16", "model.embed_dim=8"]
    sweep = tmp_path / "sweep"
    ran = run_verb("train", tmp_path / "unused", *arguments, *small, f"data.genome={GENOME}", f"sweep.dir={sweep}")
    assert ran.code == 0 and "Best of 2 trials: trial " in ran.out and "Traceback" not in ran.err, ran.out + ran.err
    assert states(sweep) == ["COMPLETE"] * 2 and (sweep / "multirun.yaml").is_file()
    values = [json.loads(file.read_text())["val/bits_per_base"] for file in sweep.glob("*/result.json")]
    assert sorted(values) == sorted({trial.value for trial in study_in(sweep).trials})
