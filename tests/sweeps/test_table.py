"""A sweep's settings are ranked on validation alone, the verdict says how sure that is, and nothing is dropped."""

import io
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats
from sweep_folders import Fake, grid, write

from genoseq.sweeps.read import OBJECTIVE, read_sweep
from genoseq.sweeps.table import marginal_means, rank_settings, verdict, write_sweep

LR, LEN = "optimizer.lr", "data.seq_len"


@pytest.fixture(autouse=True)
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the picture, which takes most of the time and is tested by itself."""
    monkeypatch.setattr("genoseq.sweeps.plot.save_sweep", lambda runs, path: path.touch())


def report(folder: Path, width: int = 200) -> str:
    out = io.StringIO()
    write_sweep(folder, Console(file=out, width=width))
    return out.getvalue()


def said(folder: Path) -> str:
    """Return what is printed in one line, wherever it wraps."""
    return " ".join(report(folder).split())


def summary(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "sweep.json").read_text())
    return content


def seeds(values: dict[float, list[float | None]], first: int = 0) -> list[Fake]:
    """Return runs of some learning rates with the seeds from `first`; without a value it failed."""
    return [
        Fake({LR: lr, "seed": s}, value, "failed" if value is None else "done")
        for lr, column in values.items()
        for s, value in enumerate(column, start=first)
    ]


def test_seeds_are_folded_with_their_standard_error(tmp_path: Path) -> None:
    write(tmp_path, seeds({0.1: [1.90, 1.92, 1.97], 0.01: [1.80, 1.84, None]}))
    best, second = (row for _, row in rank_settings(read_sweep(tmp_path)).iterrows())
    assert best[LR] == 0.01 and (best["seeds"], best["done"]) == (3, 2) and best["overrides"] == ["optimizer.lr=0.01"]
    assert best[OBJECTIVE] == pytest.approx(1.82) and best["sem"] == pytest.approx(0.02)  # sd 0.02828 / √2
    # deviations -0.03, -0.01, 0.04: squares 0.0009 + 0.0001 + 0.0016 = 0.0026; / 2 = 0.0013; / 3; root
    assert second[OBJECTIVE] == pytest.approx(1.93) and second["sem"] == pytest.approx(math.sqrt(0.0013 / 3))
    assert second["test/bits_per_base"] == pytest.approx(1.94)
    text = said(tmp_path)
    assert "2/3" in text and "1.8200 ± 0.0200" in text and "failed: lr=0.01,seed=2" in text


def test_folds_are_averaged_not_ranked(tmp_path: Path) -> None:
    fold = "data.split.fold"
    values = {0.1: [1.90, 1.92, 1.94], 0.01: [1.80, 1.82, 1.84]}
    fakes = [Fake({LR: lr, fold: i}, v) for lr, each in values.items() for i, v in enumerate(each)]
    best = rank_settings(read_sweep(write(tmp_path, fakes))).iloc[0]
    assert best[LR] == 0.01 and best["seeds"] == 3 and best["overrides"] == ["optimizer.lr=0.01"]
    text = said(tmp_path)
    assert "folds" in text and "3/3" in text and "1.8200 ± 0.0115" in text
    mixed = write(tmp_path / "mixed", [*fakes, Fake({LR: 0.5}, 1.7)])  # another split, without folds
    assert rank_settings(read_sweep(mixed))["seeds"].tolist() == [1, 3, 3]


def test_a_seed_that_ran_twice_is_one_observation(tmp_path: Path) -> None:
    fakes = [Fake({LR: 1, "seed": s}, v, name=n) for s, v, n in ((0, 1.8, "a"), (0, 1.8, "b"), (1, 1.9, "c"))]
    settings = rank_settings(read_sweep(write(tmp_path, fakes)))
    assert len(settings) == 1 and settings["done"][0] == 2 and settings[OBJECTIVE][0] == pytest.approx(1.85)


FIRST = {0.1: [1.800], 0.01: [1.900], 0.001: [1.990]}  # the seed that chose 0.1 and 0.01 for replication


@pytest.mark.parametrize(
    ("again", "sentence"),
    [
        ({0.1: [1.90, 1.91, 1.92], 0.01: [1.90, 1.91, 1.92]}, "cannot be told apart: second minus best is 0.0000"),
        ({0.1: [1.80, 1.81, 1.82], 0.01: [1.90, 1.91, 1.92]}, "are clearly apart: second minus best is 0.1000"),
        ({0.1: [1.91, 1.91, 1.92], 0.01: [1.90, 1.91, 1.90]}, "cannot be told apart: second minus best is -0.0100"),
        (
            {0.1: [1.913, 1.913, 1.914], 0.01: [1.9, 1.9, 1.901]},
            "are in the other order here: second minus best is -0.01",
        ),
        ({0.1: [1.80, 1.81], 0.01: [1.90, 1.91]}, "with 2 and 2 fresh seeds (those that chose the settings left out)"),
        ({0.1: [1.80, 1.81, 1.82]}, "with 3 and 0 fresh seeds"),
    ],
)
def test_replicated_settings_are_judged_on_the_fresh_seeds(
    tmp_path: Path, again: dict[float, list[float | None]], sentence: str
) -> None:
    settings = rank_settings(read_sweep(write(tmp_path, [*seeds(FIRST), *seeds(again, first=1)])))
    assert list(settings[LR]) == [0.1, 0.01, 0.001]
    assert list(settings["fresh"]) == [again[0.1], again.get(0.01, []), []]
    told = verdict(settings)
    assert told is not None and sentence in told
    if len(again) == 2 and len(again[0.1]) == 3:
        interval = stats.ttest_ind(again[0.01], again[0.1], equal_var=False).confidence_interval(0.95)
        assert f"95 % interval {interval.low:.4f} to {interval.high:.4f} (Welch's t test of 3 and 3 fresh seeds" in told


def test_seeds_of_all_settings_also_ranked_them_unless_they_are_replicates(tmp_path: Path) -> None:
    text = said(write(tmp_path / "a", seeds({1: [1.90, 1.91, 1.92], 2: [1.95, 1.96, 1.97]})))
    assert "clearly apart" in text and "3 and 3 seeds, which also ranked the settings" in text
    same = seeds({1: [1.90, 1.91, 1.92], 2: [1.90, 1.91, 1.92]}, first=1)
    again = [Fake({"hparams_search": "replicate", **fake.settings}, fake.val) for fake in same]
    text = said(write(tmp_path / "b", [*seeds({1: [1.80], 2: [1.95]}), *again]))
    assert "cannot be told apart" in text and "3 and 3 fresh seeds" in text


def test_one_seed_cannot_tell(tmp_path: Path) -> None:
    text = said(write(tmp_path, [Fake({LR: lr, "trainer.max_steps": 300}, 1.8 + lr) for lr in (0.1, 0.01)]))
    assert "differ by 0.0900 bits per base; with one seed each, this difference may be noise." in text
    assert "hparams_search=replicate" in text
    assert "Best on validation: lr=0.01, 1.8100 bits per base; test (not used for the ranking) 1.8200." in text
    assert "Run it again with: python -m genoseq.train optimizer.lr=0.01 trainer.max_steps=300" in text


def test_every_state_is_counted_and_said(tmp_path: Path) -> None:
    fakes = [
        Fake({LR: 1}, 1.9),
        Fake({LR: 2}, None),
        Fake({LR: 3}, state="failed", why="killed by signal 9 (SIGKILL)"),
        *(Fake({LR: 4 + i}, state=state) for i, state in enumerate(("running", "waiting", "stopped"))),
        Fake({LR: 7}, math.nan),
    ]
    text = said(write(tmp_path, fakes))
    assert summary(tmp_path)["counts"] == {"done": 3, "failed": 1, "stopped": 1, "running": 1, "waiting": 1}
    assert "7 runs: 3 done, 1 failed, 1 stopped, 1 running, 1 waiting" in text
    assert "failed: lr=3 (killed by signal 9 (SIGKILL); step 150 of 300" in text
    assert "2 finished runs without a finite validation metric" in text
    assert summary(tmp_path)["failed"] == [{"name": "lr=3", "why": "killed by signal 9 (SIGKILL)"}]
    assert [one["name"] for one in summary(tmp_path)["unfinished"]] == ["lr=4", "lr=5", "lr=6"]
    table = pd.read_csv(tmp_path / "sweep.csv")
    assert list(table["state"]) == ["done", "done", "failed", "running", "waiting", "stopped", "done"]
    assert table[OBJECTIVE].count() == 1 and table[OBJECTIVE][0] == 1.9


def test_no_run_has_finished(tmp_path: Path) -> None:
    text = said(write(tmp_path, [Fake({LR: i}, state="running" if i else "waiting") for i in range(3)]))
    assert "No run has finished yet." in text and "Best" not in text
    assert "running: lr=1 (step 150 of 300; 2.1250 bits per base on validation so far)" in text
    assert summary(tmp_path)["best"] is None and not (tmp_path / "sweep.png").exists()
    assert list(pd.read_csv(tmp_path / "sweep.csv")["train/steps"].fillna(0)) == [0, 150, 150]


def test_what_a_value_is_worth_is_said_of_a_whole_grid_only(tmp_path: Path) -> None:
    bits = {(10, 0.1): 1.9, (10, 0.01): 1.8, (50, 0.1): 1.7, (50, 0.01): 1.65}
    fakes = [Fake({LEN: length, LR: lr}, value) for (length, lr), value in bits.items()]
    assert "validation bits per base by seq_len, over all the rest" in report(write(tmp_path / "grid", fakes))
    settings = rank_settings(read_sweep(tmp_path / "grid"))
    ten, fifty = marginal_means(settings, [LEN, LR])[LEN].itertuples(index=False)
    assert ten[:5] == pytest.approx((10, 2, 1.8, 1.85, 1.85)) and ten[5:] == pytest.approx((0.1 / math.sqrt(2), 1.9))
    assert fifty[1] == 2 and [row["count"] for row in summary(tmp_path / "grid")["effects"][LR]] == [2, 2]
    fakes[3].state = "failed"
    for name, part in (("failed", fakes), ("missing", fakes[:3])):
        assert "over all the rest" not in report(write(tmp_path / name, part))
        assert summary(tmp_path / name)["effects"] == {}


def test_importances_of_a_search_that_is_no_grid(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    trials = [{LR: 0.01 * (i % 5 + 1), LEN: 10 + i} for i in range(10)]
    write(tmp_path, [Fake(trial, 1.8 + trial[LR]) for trial in trials])
    (tmp_path / "optuna.db").write_text("not a database")
    assert "PED-ANOVA" not in said(tmp_path) and summary(tmp_path)["importances"] == {}
    (tmp_path / "optuna.db").unlink()
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'optuna.db'}", study_name="any")
    space = {LR: optuna.distributions.FloatDistribution(0, 1), LEN: optuna.distributions.IntDistribution(0, 99)}
    for trial in trials:
        study.add_trial(optuna.create_trial(params=trial, distributions=space, value=1.8 + trial[LR]))
    text, shares = said(tmp_path), summary(tmp_path)["importances"]
    assert list(shares) == [LR, LEN] and sum(shares.values()) == pytest.approx(1) and summary(tmp_path)["effects"] == {}
    assert f"fractions) lr {shares[LR]:.2f} seq_len {shares[LEN]:.2f} files:" in text


def test_csv_and_json_hold_what_was_measured(tmp_path: Path) -> None:
    settings = grid(data__seq_len=[10, 50], model=["rnn1", "rnn2"])
    report(write(tmp_path, [Fake(s, 1.8 + 0.03 * i) for i, s in enumerate(settings)]))
    table = pd.read_csv(tmp_path / "sweep.csv")
    assert list(table) == [
        *("name", "state", "why", LEN, "model", OBJECTIVE, "test/bits_per_base", "test/accuracy"),
        *("baseline/bits_per_base", "imm/bits_per_base", "train/steps", "train/tokens_per_second", "seconds"),
    ]
    assert table[[LEN, "model"]].to_dict("records") == settings
    assert list(table[OBJECTIVE]) == [1.8 + 0.03 * i for i in range(4)]
    content = summary(tmp_path)
    assert content["objective"] == OBJECTIVE and content["varied"] == [LEN, "model"]
    assert content["best"] == content["settings"][0] and [one["settings"] for one in content["settings"]] == settings
    assert content["best"]["overrides"] == ["data.seq_len=10", "model=rnn1"]
    assert (content["best"][OBJECTIVE], content["best"]["sem"], content["best"]["done"]) == (1.8, None, 1)


def test_baselines_are_shown_only_if_every_run_has_the_same(tmp_path: Path) -> None:
    text = said(write(tmp_path / "same", [Fake({LR: i}, 1.9) for i in (1, 2)]))
    assert "order-6 Markov model 1.9510 35.20" in text and "interpolated Markov model 1.9300" in text
    assert "chance 2.0000 25.00" in text
    differing = [Fake({LR: i}, 1.9, result={"baseline/bits_per_base": 1.9 + i}) for i in (1, 2)]
    text = said(write(tmp_path / "differ", differing))
    assert "order-6" not in text and "chance 2.0000" in text


def test_what_spoils_a_comparison_is_said(tmp_path: Path) -> None:
    good = said(write(tmp_path / "good", [Fake({LR: i}, 1.9) for i in (1, 2)]))
    assert "leaks" not in good and "same bases" not in good
    bad = [Fake({LR: i}, 1.9, result={"split/leaks": i == 1, "genome/name": f"g{i}"}) for i in (1, 2)]
    text = said(write(tmp_path / "bad", bad))
    assert "The split leaks" in text and "Not all runs were validated on the same bases" in text


def test_long_sweeps_show_twenty_and_say_how_many_more(tmp_path: Path) -> None:
    text = report(write(tmp_path, [Fake({LR: i + 1}, 1.8 + 0.001 * i) for i in range(23)]))
    assert "… and 3 more, in sweep.csv" in text
    ranks = [line.split()[0] for line in text.splitlines() if line.endswith(" 180")]
    assert ranks == [str(i + 1) for i in range(20)] and len(pd.read_csv(tmp_path / "sweep.csv")) == 23


def test_a_narrow_console_cuts_no_number(tmp_path: Path) -> None:
    values = {"optimizer.weight_decay": [0.1, 0.2], "data.reverse_complement": ["true", "false"]}
    fakes = [Fake(one | {"seed": s}, 1.8 + s / 100) for s in (0, 1) for one in grid(**values)]
    table = report(write(tmp_path, fakes), width=80).split("Best")[0]
    assert "…" not in table and max(map(len, table.splitlines())) <= 80
    assert "1.8050 ± 0.0050      1.8150      36.00" in table and "reverse_complement=false" in table


def test_a_path_that_a_shell_would_split_is_quoted(tmp_path: Path) -> None:
    fakes = [Fake({"data.genome": genome}, 1.9 - i, name=str(i)) for i, genome in enumerate(["c.fa", "'a b.fa'"])]
    assert """genoseq.train 'data.genome='"'"'a b.fa'"'"''""" in said(write(tmp_path, fakes))


bits_st = st.sampled_from([1.7, 1.8, 1.9, 40.0, math.nan]) | st.floats(0.1, 50)
runs_st = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([0.1, None]), st.integers(0, 2), bits_st, bits_st), min_size=1
)


def made(given_runs: list[Any]) -> pd.DataFrame:
    runs = pd.DataFrame(given_runs, columns=["a", "b", "seed", OBJECTIVE, "test/bits_per_base"])
    runs = runs.assign(
        name=[str(i) for i in runs.index], state="done", overrides=[()] * len(runs), seconds=1.0, replicate=False
    )
    runs["test/accuracy"] = 0.3
    runs.attrs["varied"] = ["a", "b", "seed"]
    return runs


@given(runs_st, st.randoms(use_true_random=False))
def test_ranked_by_validation_whatever_the_test_says_and_the_order_of_the_runs(given_runs: list[Any], rng: Any) -> None:
    settings = rank_settings(made(given_runs))
    known = settings[OBJECTIVE].dropna()
    assert known.is_monotonic_increasing and settings[OBJECTIVE][len(known) :].isna().all()
    assert sum(map(len, settings["runs"])) == len(given_runs)
    others = [(*run[:4], rng.uniform(0, 3)) for run in given_runs]
    pd.testing.assert_frame_equal(rank_settings(made(others))[["a", "b", OBJECTIVE]], settings[["a", "b", OBJECTIVE]])
    rng.shuffle(others)
    again = rank_settings(made(others))
    key = ["a", "b"]
    pd.testing.assert_frame_equal(
        again.sort_values(key)[[*key, OBJECTIVE, "sem", "done"]].reset_index(drop=True),
        settings.sort_values(key)[[*key, OBJECTIVE, "sem", "done"]].reset_index(drop=True),
    )
