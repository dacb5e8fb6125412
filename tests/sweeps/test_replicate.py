"""The best settings of a sweep run again with fresh seeds; what a sweep folder records can name no code."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf
from sweep_folders import Fake, grid, write

from genoseq.sweeps.read import read_sweep
from hydra_plugins.genoseq.sweepers import ReplicateSweeper

LR, COMMAND = "optimizer.lr", "hparams_search=replicate"


class StubLauncher:
    """Leaves a result for each job, as a run does."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.jobs, self.first = folder, [], -1

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        self.jobs, self.first = [list(overrides) for overrides in job_overrides], initial_job_idx
        for num, overrides in enumerate(job_overrides, start=initial_job_idx):
            run = self.folder / f"job{num}"
            (run / ".hydra").mkdir(parents=True, exist_ok=True)
            (run / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))
            seed = int(overrides[-1].removeprefix("seed="))
            # worse than the sweep's own runs: what a replicate measures may not change which settings are the best
            (run / "result.json").write_text(json.dumps({"val/bits_per_base": 3.0, "seed": seed}))
        return []


def replicate(folder: Path, *arguments: str, trust: Sequence[str] = (), **options: Any) -> StubLauncher:
    sweeper = ReplicateSweeper(**options)
    sweeper.config = OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}, "trust": list(trust)})
    sweeper.launcher = launcher = StubLauncher(folder)  # type: ignore[assignment]
    sweeper.validate_batch_is_legal = lambda batch: None  # type: ignore[method-assign]
    sweeper.sweep([COMMAND, *arguments])
    return launcher


def sweep_of(folder: Path, *overrides: str, seeds: Sequence[int] = (0,)) -> Path:
    """Write a sweep over three learning rates and some seeds, 0.01 best and 0.1 worst."""
    values = {0.01: 1.8, 0.001: 1.9, 0.1: 2.0}
    settings = [{LR: lr, "seed": seed} if len(seeds) > 1 else {LR: lr} for lr in values for seed in seeds]
    runs = [Fake(each, values[each[LR]], result={"seed": each.get("seed", 0)}) for each in settings]
    write(folder, runs, jobs=False)
    for file in folder.glob("*/.hydra/overrides.yaml"):
        file.write_text(yaml.safe_dump([*yaml.safe_load(file.read_text()), *overrides]))
    return folder


def test_three_fresh_seeds_of_the_best_by_default(tmp_path: Path) -> None:
    launcher = replicate(sweep_of(tmp_path), best=2)
    assert launcher.jobs == [[f"{LR}={lr}", COMMAND, f"seed={s}"] for lr in (0.01, 0.001) for s in (1, 2, 3)]
    assert launcher.first == 3  # after the sweep's own
    runs = read_sweep(tmp_path)
    assert list(runs["replicate"]) == [False] * 3 + [True] * 6
    again = replicate(tmp_path, best=2)  # resumes: the same jobs with the same numbers
    assert again.jobs == launcher.jobs and again.first == 3


@pytest.mark.parametrize(("seeds", "fresh"), [(3, [3, 4, 5]), (1, [3]), ([2, 7, 9], [7, 9])])
def test_seeds_that_the_sweep_has_are_not_fresh(tmp_path: Path, seeds: Any, fresh: list[int]) -> None:
    jobs = replicate(sweep_of(tmp_path, seeds=(1, 0, 2)), best=2, seeds=seeds).jobs
    assert jobs == [[f"{LR}={lr}", COMMAND, f"seed={seed}"] for lr in (0.01, 0.001) for seed in fresh]


def test_recorded_overrides_stay_as_they_were_written(tmp_path: Path) -> None:
    recorded = ["+model.extra='a=1, b'", "~logger", "++data.x=1", "callbacks=[ema,early_stopping]", "model=rnn2"]
    dropped = ["hydra/launcher=basic", "hydra.verbose=true", "ckpt=x.ckpt", "sweep.dir=y", "seed=5", "trust=[evil]"]
    (job,) = replicate(sweep_of(tmp_path, *recorded, *dropped), "model=rnn3", "trainer=cpu", best=1, seeds=1).jobs
    assert job == [f"{LR}=0.01", *recorded[:-1], COMMAND, "model=rnn3", "trainer=cpu", "seed=1"]


@pytest.mark.parametrize(
    "recorded",
    [
        "model._target_=os.system",
        "+model={_target_: os.system}",
        "model._target_=genoseq.files.os.system",
        "model._target_='${x}'",
        "model._target_=mylab.Mamba",
        "model.x='${oc.create:{}}'",
        "model=../../outputs/evil",
        "callbacks=[ema,'../evil']",
    ],
)
def test_a_recorded_override_names_no_code(tmp_path: Path, capsys: pytest.CaptureFixture[str], recorded: str) -> None:
    with pytest.raises(SystemExit) as end:
        replicate(sweep_of(tmp_path, recorded))
    err = capsys.readouterr().err
    assert end.value.code == 2 and err.startswith("genoseq: ") and err.count("\n") == 1
    assert not list(tmp_path.glob("job*"))


def test_recorded_classes_that_the_user_trusts_or_gives_are_built(tmp_path: Path) -> None:
    folder = sweep_of(tmp_path, "model._target_=torch.nn.LSTM", "data.genome=../x.fa", "data.bases='${x.y}'")
    assert len(replicate(folder, trust=["torch"], best=1).jobs) == 3
    assert len(replicate(folder, "model._target_=mylab.Mamba", best=1).jobs) == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"), [((), "no run of the sweep in"), (("model=rnn1,rnn2",), "model=rnn1,rnn2: a replicate")]
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    write(tmp_path, [Fake(values, state="failed") for values in grid(**{LR: [1, 2]})])
    with pytest.raises(SystemExit) as end:
        replicate(tmp_path, *arguments)
    err = capsys.readouterr().err
    assert end.value.code == 2 and sentence in err and err.count("\n") == 1
