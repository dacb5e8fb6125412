"""A sweep that asks Optuna: how many trials, which settings, what failures and interruptions do to it."""

import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import ConfigCompositionException
from hydra.initialize import initialize_config_dir
from hydra.types import HydraContext, RunMode
from omegaconf import OmegaConf

from genoseq.paths import conf_dir
from genoseq.sweeps import plugins
from genoseq.sweeps.optuna import OptunaSweeper

optuna = pytest.importorskip("optuna", reason="sweep=optuna is an extra")

GENOME = Path(__file__).parents[1] / "data" / "files" / "hpylori_softmasked.fa"
LOG_LR = {"optimizer.lr": "tag(log, interval(1e-5, 1))"}


def settings(overrides: Sequence[str]) -> dict[str, str]:
    return dict(word.lstrip("+").split("=", 1) for word in overrides)


def quadratic(words: dict[str, str], num: int) -> float:
    """The best learning rate is 0.01."""
    return 1.5 + (math.log10(float(words["optimizer.lr"])) + 2) ** 2


class Fake:
    """A launcher that computes what a job returns; `value` may raise, or return an exception for a failed job."""

    def __init__(self, value: Callable[[dict[str, str], int], Any] = quadratic, slots: int | None = None) -> None:
        self.value, self.jobs, self.batches = value, [], []
        if slots is not None:
            self.at_a_time = lambda: slots

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        self.batches.append(len(job_overrides))
        self.jobs += [(initial_job_idx + i, tuple(overrides)) for i, overrides in enumerate(job_overrides)]
        out = []
        for num, overrides in enumerate(job_overrides, start=initial_job_idx):
            value = self.value(settings(overrides), num)
            failed = isinstance(value, Exception)
            out.append(JobReturn(overrides=overrides, status=JobStatus.FAILED if failed else JobStatus.COMPLETED))
            out[-1].return_value = value
        return out


def make(folder: Path, launcher: Fake, **about: Any) -> OptunaSweeper:
    """Return a sweeper that composes nothing."""
    sweeper = OptunaSweeper(**{"params": LOG_LR} | about)
    sweeper.config = OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}, "job": {"config_name": "evaluate"}}})
    sweeper.launcher = launcher  # type: ignore[assignment]
    sweeper.validate_batch_is_legal = lambda batch: None  # type: ignore[method-assign]
    return sweeper


def sweep(folder: Path, launcher: Fake, *arguments: str, **about: Any) -> Any:
    make(folder, launcher, **about).sweep(list(arguments))
    return study_in(folder)


def study_in(folder: Path) -> Any:
    return optuna.load_study(study_name="genoseq", storage=f"sqlite:///{folder / 'optuna.db'}")


def states(study: Any) -> list[str]:
    return [trial.state.name for trial in study.trials]


# ---- what is asked and told -----------------------------------------------------------------------------------------


def test_a_sweep(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    launcher = Fake()
    study = sweep(tmp_path / "new" / "s", launcher, "seed=1", "model.hidden_size=8,16", "model=rnn1", n_trials=12)
    assert [num for num, _ in launcher.jobs] == list(range(12)) and launcher.batches == [1] * 12
    for num, overrides in launcher.jobs:
        assert overrides[:2] == ("seed=1", "model=rnn1")
        assert [word.split("=")[0] for word in overrides[2:]] == ["model.hidden_size", "optimizer.lr"]
        assert study.trials[num].value == quadratic(settings(overrides), num)
        assert study.trials[num].params["model.hidden_size"] == settings(overrides)["model.hidden_size"]
        assert float(settings(overrides)["optimizer.lr"]) == pytest.approx(
            study.trials[num].params["optimizer.lr"], 1e-3
        )
    assert study.direction.name == "MINIMIZE" and states(study) == ["COMPLETE"] * 12
    assert (tmp_path / "new" / "s" / "multirun.yaml").is_file()
    best = min(study.trials, key=lambda trial: trial.value)
    out, err = capfd.readouterr()
    words = " ".join(launcher.jobs[best.number][1][2:])
    assert out == f"Best of 12 trials: trial {best.number} with {best.value:.4f} bits per base on validation, {words}\n"
    assert err == ""


def test_what_the_jobs_gave_back_is_returned(tmp_path: Path) -> None:
    got = make(tmp_path, Fake(), n_trials=3).sweep([])
    assert [job.return_value for job in got] == [trial.value for trial in study_in(tmp_path).trials]


@pytest.mark.parametrize(("n_jobs", "slots", "batches"), [(None, 3, [3, 3, 2]), (4, 3, [4, 4]), (None, None, [1] * 8)])
def test_batches(tmp_path: Path, n_jobs: int | None, slots: int | None, batches: list[int]) -> None:
    launcher = Fake(slots=slots)
    sweep(tmp_path, launcher, n_trials=8, n_jobs=n_jobs)
    assert launcher.batches == batches and [num for num, _ in launcher.jobs] == list(range(8))
    assert len({overrides for _, overrides in launcher.jobs}) == 8


def test_the_same_settings_run_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    launcher = Fake(lambda words, num: float(words["a.b"]))
    study = sweep(tmp_path, launcher, "a.b=1,2,3", n_trials=10, params={})
    assert len(launcher.jobs) == len({words for _, words in launcher.jobs}) <= 3
    assert states(study) == ["COMPLETE"] * 10
    assert all(trial.value == float(trial.params["a.b"]) for trial in study.trials)
    assert capsys.readouterr().out.count("is not run again") == 10 - len(launcher.jobs)


# ---- failures -------------------------------------------------------------------------------------------------------


def test_failures_are_tolerated(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    odd = [RuntimeError("out of memory"), math.nan, None, math.inf, "2.0", np.float32(1.75)]
    study = sweep(tmp_path, Fake(lambda words, num: odd[num] if num < 6 else 2.0), n_trials=9, n_jobs=2)
    assert states(study) == ["FAIL"] * 5 + ["COMPLETE"] * 4 and study.best_value == 1.75
    out, err = capfd.readouterr()
    assert "Best of 9 trials, 5 failed: trial 5 with 1.7500" in out and err == ""


@pytest.mark.parametrize(("max_failed", "run"), [(0.0, 2), (0.2, 4), (0.25, 4), (0.3, 6)])
def test_too_many_failures_stop_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], max_failed: float, run: int
) -> None:
    # of twenty trials every second fails
    launcher = Fake(lambda words, num: math.nan if num % 2 else 2.0)
    with pytest.raises(SystemExit) as end:
        sweep(tmp_path, launcher, n_trials=10, n_jobs=2, max_failed=max_failed)
    assert end.value.code == 2 and len(launcher.jobs) >= run
    failed = states(study_in(tmp_path)).count("FAIL")
    assert failed > max_failed * 10 >= failed - 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"{failed} trials failed, more than hydra.sweeper.max_failed={max_failed}" in err


def test_none_with_a_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        sweep(tmp_path, Fake(lambda words, num: ValueError()), n_trials=3)
    assert end.value.code == 2 and "none of 3 trials gave a value" in capsys.readouterr().err


# ---- going on -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("n_jobs", [1, 3])
@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(130)])
def test_an_interrupted_sweep_goes_on(tmp_path: Path, stop: BaseException, n_jobs: int, sampler: str) -> None:
    def interrupted(words: dict[str, str], num: int) -> float:
        if num == 7:
            raise stop
        return quadratic(words, num)

    about = {"n_trials": 15, "n_jobs": n_jobs, "n_startup_trials": 4, "sampler": sampler}
    first, then, whole = Fake(interrupted), Fake(), Fake()
    with pytest.raises(type(stop)):
        sweep(tmp_path / "a", first, **about)
    left = [trial.number for trial in study_in(tmp_path / "a").trials if trial.state.name == "RUNNING"]
    assert left == ([7] if n_jobs == 1 else [6, 7, 8])
    study = sweep(tmp_path / "a", then, **about)
    assert states(study) == ["COMPLETE"] * 15
    assert then.jobs[: len(left)] == first.jobs[-len(left) :]  # the same words, the same numbers
    together = dict(first.jobs) | dict(then.jobs)
    assert sorted(together) == list(range(15)) and len(set(together.values())) == 15
    # and as if it had never been interrupted
    sweep(tmp_path / "b", whole, **about)
    assert dict(whole.jobs) == together


def test_more_trials_than_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, then, none = Fake(), Fake(), Fake()
    sweep(tmp_path, first, n_trials=5)
    study = sweep(tmp_path, then, n_trials=8)
    assert [num for num, _ in then.jobs] == [5, 6, 7] and len(study.trials) == 8
    assert len({words for _, words in first.jobs + then.jobs}) == 8
    capsys.readouterr()
    assert len(sweep(tmp_path, none, n_trials=4).trials) == 8 and not none.jobs
    assert capsys.readouterr().out.startswith("Best of 8 trials: trial ")


def test_failed_trials_count(tmp_path: Path) -> None:
    sweep(tmp_path, Fake(lambda words, num: math.nan if num == 1 else 2.0), n_trials=3)
    again = Fake()
    assert states(sweep(tmp_path, again, n_trials=4)) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert [num for num, _ in again.jobs] == [3]


def test_a_trial_cut_off_while_it_was_asked(tmp_path: Path) -> None:
    sweep(tmp_path, Fake(), "a.b=interval(0,1)", n_trials=2)
    half = study_in(tmp_path).ask({"a.b": optuna.distributions.FloatDistribution(0, 1)})
    launcher = Fake()
    study = sweep(tmp_path, launcher, "a.b=interval(0,1)", n_trials=3)
    assert states(study) == ["COMPLETE"] * 3 and study.trials[2].params["a.b"] == half.params["a.b"]
    assert [num for num, _ in launcher.jobs] == [2]


def test_settings_that_were_put_in_the_queue_run(tmp_path: Path) -> None:
    sweep(tmp_path, Fake(), n_trials=2)
    study_in(tmp_path).enqueue_trial({"optimizer.lr": 0.01})
    launcher = Fake()
    study = sweep(tmp_path, launcher, n_trials=4, n_jobs=2)
    assert launcher.jobs[0] == (2, ("optimizer.lr=0.01",)) and study.best_trial.number == 2
    assert states(study) == ["COMPLETE"] * 4


def test_left_overs_with_gaps_keep_their_numbers(tmp_path: Path) -> None:
    sweep(tmp_path, Fake(), n_trials=1)
    study = study_in(tmp_path)
    kept = [study.ask() for _ in range(4)]
    for trial in kept:
        trial.suggest_float("optimizer.lr", 1e-5, 1, log=True)
    study.tell(kept[1], 2.0)  # trial 2
    launcher = Fake(slots=8)
    assert states(sweep(tmp_path, launcher, n_trials=6)) == ["COMPLETE"] * 6
    assert [num for num, _ in launcher.jobs] == [1, 3, 4, 5] and launcher.batches == [1, 3]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["a.b=8,16,64"], "begun with a.b: 8, 16, and this command has a.b: 8, 16, 64"),
        (["a.b=8"], "a.b: 8, 16, and this command has a.b: 8;"),
        (["a.b=8,16", "optimizer.lr=interval(0,1)"], "optimizer.lr: 1e-05 to 1.0 (log), and this command"),
        (["a.b=8,16", "trainer.max_steps=9"], "trainer.max_steps: nothing said, and this command"),
    ],
)
def test_another_space_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    sweep(tmp_path, Fake(), "a.b=8,16", n_trials=2)
    launcher = Fake()
    with pytest.raises(SystemExit) as end:
        sweep(tmp_path, launcher, *words, n_trials=4)
    err = capsys.readouterr().err
    assert end.value.code == 2 and not launcher.jobs
    assert told in err and "give another sweep.dir" in err and err.count("\n") == 1


def test_the_order_of_the_words_and_the_folder_may_differ(tmp_path: Path) -> None:
    sweep(tmp_path, Fake(), "a.b=8,16", "seed=1", "sweep.dir=x", "sweep=optuna", n_trials=2)
    study = sweep(tmp_path, Fake(), "sweep.dir=y", "seed=1", "a.b=8,16", "sweep=random", n_trials=4, sampler="random")
    assert states(study) == ["COMPLETE"] * 4


# ---- a seed ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_seed_proposes_the_same(tmp_path: Path, sampler: str) -> None:
    about = {"n_trials": 12, "n_startup_trials": 4, "sampler": sampler, "params": LOG_LR | {"a.b": "8,16,32"}}
    runs = []
    for number, seed in enumerate((3, 3, 4)):
        runs.append(Fake(slots=1))
        sweep(tmp_path / str(number), runs[-1], seed=seed, **about)
    assert runs[0].jobs == runs[1].jobs != runs[2].jobs
    assert not set(runs[0].jobs) & set(runs[2].jobs)


def test_random_is_the_same_in_batches(tmp_path: Path) -> None:
    one, three = Fake(), Fake(slots=3)
    sweep(tmp_path / "1", one, n_trials=9, sampler="random")
    sweep(tmp_path / "3", three, n_trials=9, sampler="random")
    assert one.jobs == three.jobs


def test_without_a_seed_each_sweep_is_another(tmp_path: Path) -> None:
    runs = [Fake(), Fake()]
    for number, launcher in enumerate(runs):
        sweep(tmp_path / str(number), launcher, n_trials=3, seed=None)
    assert not set(runs[0].jobs) & set(runs[1].jobs)


def test_seeds_spread_over_the_space(tmp_path: Path) -> None:
    launcher = Fake()
    make(tmp_path, launcher, n_trials=200, sampler="random", storage="sqlite:///:memory:").sweep([])
    logs = sorted(math.log10(float(settings(words)["optimizer.lr"])) / 5 + 1 for _, words in launcher.jobs)
    gap = max(max(abs(x - i / 200), abs(x - (i + 1) / 200)) for i, x in enumerate(logs))
    assert gap < 1.63 / math.sqrt(200)  # Kolmogorov and Smirnov's, at 1 %


def test_tpe_looks_where_it_is_good(tmp_path: Path) -> None:
    # the proposals after the random ones, not the best of all: along one axis the best of 25 draws is near anyway
    def typical(sampler: str, seed: int) -> float:
        noise = np.random.default_rng(seed)
        launcher = Fake(lambda words, num: quadratic(words, num) + 0.02 * float(noise.normal()))
        about = {"n_trials": 25, "n_startup_trials": 8, "storage": "sqlite:///:memory:"}
        make(tmp_path, launcher, sampler=sampler, seed=seed, **about).sweep([])
        return statistics.median(quadratic(settings(words), num) for num, words in launcher.jobs[8:])

    assert all(typical("tpe", seed) < typical("random", seed) for seed in range(4))


# ---- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ({"sampler": "cmaes"}, "say one of tpe, random"),
        ({"n_trials": 0}, "n_trials=0 is no number of trials"),
        ({"n_trials": "many"}, "n_trials=many is no number of trials"),
        ({"n_jobs": 0}, "n_jobs=0 is no number"),
        ({"n_startup_trials": -1}, "n_startup_trials=-1 is no number"),
        ({"max_failed": 5}, "max_failed=5 is no share"),
        ({"params": {}}, "varies nothing"),
        ({"storage": "nowhere"}, "nowhere cannot be opened"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], about: dict[str, Any], told: str
) -> None:
    launcher = Fake()
    with pytest.raises(SystemExit) as end:
        make(tmp_path / "s", launcher, **about).sweep([])
    err = capsys.readouterr().err
    assert end.value.code == 2 and told in err and err.count("\n") == 1 and not launcher.jobs
    assert not (tmp_path / "s" / "optuna.db").exists() and not (tmp_path / "s" / "multirun.yaml").exists()


def test_without_optuna(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SystemExit):
        make(tmp_path, Fake()).sweep([])
    assert "pip install 'genoseq[optuna]'" in capsys.readouterr().err


def test_a_broken_storage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "optuna.db").write_text("this is no database, and long enough to be told from one" * 20)
    with pytest.raises(SystemExit):
        make(tmp_path, Fake()).sweep([])
    err = capsys.readouterr().err
    assert "cannot be opened" in err and err.count("\n") == 1


def test_the_module_imports_no_optuna() -> None:
    code = "import sys, genoseq.sweeps.plugins; print(sorted({'optuna', 'torch', 'sqlalchemy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ---- with the project's configs -------------------------------------------------------------------------------------


@pytest.fixture
def composed(tmp_path: Path) -> Iterator[Callable[..., tuple[OptunaSweeper, list[str]]]]:
    """A function from a command's words to its sweeper, as Hydra makes it, and the arguments that it gets."""
    GlobalHydra.instance().clear()
    plugins.register()

    def compose(*words: str) -> tuple[OptunaSweeper, list[str]]:
        words = ("hydra/launcher=basic", f"sweep.dir={tmp_path}", *words)
        hydra = GlobalHydra.instance().hydra
        config = hydra.compose_config("train", list(words), run_mode=RunMode.MULTIRUN)
        context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks())
        sweeper = Plugins.instance().instantiate_sweeper(
            hydra_context=context, task_function=lambda _: None, config=config
        )
        return sweeper, list(config.hydra.overrides.task)  # type: ignore[return-value]

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield compose
    GlobalHydra.instance().clear()


@pytest.mark.parametrize("name", ["optuna", "random"])
def test_the_sweep_configs(composed: Any, name: str, tmp_path: Path) -> None:
    sweeper, arguments = composed(f"sweep={name}", "optimizer.lr=0.01", "seed=7", "hydra.sweeper.n_trials=4")
    assert type(sweeper) is OptunaSweeper and sweeper.config.hydra.mode is RunMode.MULTIRUN
    assert (sweeper.sampler, sweeper.seed, sweeper.n_trials) == ({"optuna": "tpe"}.get(name, name), 7, 4)
    sweeper.launcher = launcher = Fake(lambda words, num: float(words["model.embed_dim"]))
    sweeper.sweep(arguments)
    for _, words in launcher.jobs:
        assert words[:4] == (f"sweep.dir={tmp_path}", f"sweep={name}", "optimizer.lr=0.01", "seed=7")
        assert set(settings(words[4:])) == {"model.embed_dim", "model.hidden_size"}
    saved = OmegaConf.load(tmp_path / "multirun.yaml")
    assert saved.hydra.sweeper.n_trials == 4 and saved.optimizer.lr == 0.01


@pytest.mark.parametrize(("name", "jobs"), [("grid", 9), ("report", 36)])
def test_the_grids(composed: Any, name: str, jobs: int) -> None:
    sweeper, arguments = composed(f"sweep={name}")
    launcher = sweeper.launcher = Fake(lambda words, num: 2.0)
    sweeper.sweep(arguments)
    assert len(launcher.jobs) == len(set(launcher.jobs)) == jobs
    composing = [words for _, words in launcher.jobs]
    if name == "report":
        assert {settings(words)["data.seq_len"] for words in composing} == {"10", "50", "100", "200"}


def test_a_key_that_is_not_there_is_told_before_anything_begins(composed: Any, tmp_path: Path) -> None:
    sweeper, arguments = composed("sweep=optuna", "optimizer.learning=interval(0,1)")
    with pytest.raises(ConfigCompositionException):
        sweeper.sweep(arguments)
    sweeper, arguments = composed("sweep=optuna", "model=rnn1,rnn9")
    with pytest.raises(Exception, match="rnn9"):
        sweeper.sweep(arguments)
    assert not (tmp_path / "optuna.db").exists()


def test_groups_can_vary(composed: Any) -> None:
    sweeper, arguments = composed("hydra/sweeper=genoseq_optuna", "model=rnn1,rnn2", "hydra.sweeper.n_trials=4")
    sweeper.launcher = launcher = Fake(lambda words, num: 1.0 if words["model"] == "rnn2" else 2.0)
    sweeper.sweep(arguments)
    assert {settings(words)["model"] for _, words in launcher.jobs} <= {"rnn1", "rnn2"}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "local_pool"])
def test_from_the_command_line(tmp_path: Path, tiny: tuple[str, ...], launcher: str) -> None:
    small = [word for word in tiny if not word.startswith(("model.embed_dim", "model.hidden_size"))]
    words = ["sweep=optuna", f"hydra/launcher={launcher}", "hydra.sweeper.n_trials=3", "model.hidden_size=8,16"]
    words += ["model.embed_dim=8", *small, f"data.genome={GENOME}", f"sweep.dir={tmp_path / 'sweep'}"]
    done = subprocess.run(
        [sys.executable, "-m", "genoseq.train", *words], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Best of 3 trials: trial " in done.stdout and "Traceback" not in done.stderr
    study = study_in(tmp_path / "sweep")
    assert states(study) == ["COMPLETE"] * 3 and (tmp_path / "sweep" / "multirun.yaml").is_file()
    values = [json.loads(file.read_text())["val/bits_per_base"] for file in tmp_path.glob("sweep/*/result.json")]
    assert sorted(values) == sorted({trial.value for trial in study.trials})
