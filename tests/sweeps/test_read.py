"""A sweep's folder is read as it is, ranked on validation alone, and told whole: nothing is dropped in silence."""

import csv
import io
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sweep_folders import Fake, grid, write

from genoseq.errors import UserError
from genoseq.sweeps.collect import collect
from genoseq.sweeps.groups import Run, Sweep, effects, fold
from genoseq.sweeps.report_files import write_sweep
from genoseq.sweeps.report_words import words

LR, LEN = "optimizer.lr", "data.seq_len"


def printed(folder: Path, width: int = 200) -> str:
    out = io.StringIO()
    write_sweep(folder, Console(file=out, width=width))
    return out.getvalue()


def told(folder: Path) -> str:
    """Return what is printed in one line, so that where it wraps does not matter."""
    return " ".join(printed(folder).split())


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def summary(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "sweep.json").read_text())
    return content


def test_settings_are_what_differs_with_numbers_as_numbers(tmp_path: Path) -> None:
    fakes = [
        Fake(s | {"trainer.max_steps": 300}, 1.9) for s in grid(data__seq_len=[10, 50], optimizer__lr=["1e-1", 0.01])
    ]
    sweep = collect(write(tmp_path, fakes))
    assert sweep.varied == (LEN, LR)
    assert sweep.runs[0].settings == {LEN: 10, LR: 0.1} and isinstance(sweep.runs[0].settings[LEN], int)
    assert [run.settings[LR] for run in sweep.runs] == [0.1, 0.01, 0.1, 0.01]
    assert sweep.runs[0].words == ("data.seq_len=10", "optimizer.lr=1e-1", "trainer.max_steps=300")


def test_folders_of_hydras_launcher_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write(tmp_path, [Fake({LR: 0.001 * (i + 1)}, 1.9 + 0.001 * i) for i in range(11)], jobs=False)
    (tmp_path / "7" / "result.json").unlink()
    (tmp_path / "notes").mkdir()
    (tmp_path / "evaluated").mkdir()
    (tmp_path / "evaluated" / "evaluation.json").write_text("{}")
    sweep = collect(tmp_path)
    assert [run.name for run in sweep.runs] == [str(i) for i in range(11)]
    assert [run.state for run in sweep.runs] == ["done"] * 7 + ["running"] + ["done"] * 3
    seven = sweep.runs[7]
    assert (seven.step, seven.max_steps, seven.latest, seven.val) == (150, 300, 2.125, None)
    assert seven.why is not None and "nothing tells" in seven.why


def test_a_run_without_an_override_has_what_its_config_says(tmp_path: Path) -> None:
    fakes = [
        Fake({}, 1.95),
        Fake({"model": "rnn2"}, 1.9),
        Fake({"data/split": "blocks", LEN: 64}, 1.91),
        Fake({"data.seed": 1}, 1.92),
        Fake({"model": "rnn1"}, 1.93),
    ]
    sweep = collect(write(tmp_path, fakes, jobs=False))
    assert sweep.varied == ("model", "data/split", LEN, "data.seed")
    assert sweep.runs[0].settings == {"model": "rnn1", "data/split": "contiguous", LEN: 32, "data.seed": 0}
    assert sweep.runs[2].settings["data/split"] == "blocks"
    assert len(fold(sweep)) == 4  # model=rnn1 said and unsaid is one setting
    assert words(fold(sweep)[0]) == "model=rnn2 data/split=contiguous data.seq_len=32 data.seed=0"


def test_places_and_hydras_own_settings_are_no_parameters(tmp_path: Path) -> None:
    own = [
        {"ckpt": f"a{i}", "sweep.dir": f"d{i}", "hydra.job.num": i, "hydra/launcher": f"l{i}", LR: i} for i in (1, 2)
    ]
    sweep = collect(write(tmp_path, [Fake(s, 1.9, name=str(s[LR])) for s in own]))
    assert sweep.varied == (LR,) and sweep.runs[0].words == ("optimizer.lr=1",)


def test_true_is_not_one(tmp_path: Path) -> None:
    sweep = collect(write(tmp_path, [Fake({"compile": value}, 1.9) for value in ("true", 1)]))
    assert len(fold(sweep)) == 2 and sweep.varied == ("compile",)


def test_seeds_are_folded_with_their_standard_error(tmp_path: Path) -> None:
    vals = {0.1: (1.90, 1.92, 1.97), 0.01: (1.80, 1.84, None)}
    fakes = [
        Fake({LR: lr, "seed": s}, v, "done" if v else "failed") for lr, vs in vals.items() for s, v in enumerate(vs)
    ]
    best, second = fold(collect(write(tmp_path, fakes)))
    assert best.settings == {LR: 0.01} and (best.seeds, best.done, best.val.n) == (3, 2, 2)
    assert best.val.mean == pytest.approx(1.82) and best.val.se == pytest.approx(0.02)  # sd 0.02828 / √2
    assert second.val.mean == pytest.approx(1.93)
    # deviations -0.03, -0.01, 0.04: squares 0.0009 + 0.0001 + 0.0016 = 0.0026; / 2 = 0.0013; / 3; root
    assert second.val.se == pytest.approx(math.sqrt(0.0013 / 3))
    assert second.test.mean == pytest.approx(1.94) and second.accuracy.mean == pytest.approx(0.36)
    text = told(tmp_path)
    assert "2/3" in text and "1.8200 ± 0.0200" in text and "failed: lr=0.01,seed=2" in text


def test_a_seed_that_ran_twice_is_one_observation(tmp_path: Path) -> None:
    fakes = [Fake({LR: 1, "seed": s}, v, name=n) for s, v, n in ((0, 1.8, "a"), (0, 1.8, "b"), (1, 1.9, "c"))]
    (group,) = fold(collect(write(tmp_path, fakes)))
    assert group.val.n == 2 and group.val.mean == pytest.approx(1.85)
    (alone,) = fold(Sweep(tmp_path, collect(tmp_path).runs[:2], ("seed",)))
    assert alone.val.se is None


@pytest.mark.parametrize(("gap", "verdict"), [(0.001, "cannot be told apart"), (0.1, "are clearly apart")])
def test_how_sure_with_seeds(tmp_path: Path, gap: float, verdict: str) -> None:
    fakes = [Fake({LR: lr, "seed": s}, 1.9 + (lr > 1) * gap + 0.01 * s) for lr in (1, 2) for s in (0, 1, 2)]
    text = told(write(tmp_path, fakes))
    assert verdict in text  # each se 0.01 / √3 = 0.0058, combined 0.0082
    assert f"differ by {gap:.4f}" in text and "than 2.8 times" in text and "(0.0082; 3 and 3 seeds)" in text
    assert "seed=" not in text.split("Run it again with: ")[1].split(" How sure")[0]


def test_one_seed_cannot_tell(tmp_path: Path) -> None:
    text = told(write(tmp_path, [Fake({LR: lr, "trainer.max_steps": 300}, 1.8 + lr) for lr in (0.1, 0.01)]))
    assert "with one seed each" in text and "sweep=replicate repeats" in text and "differ by 0.0900" in text
    assert "Best on validation: lr=0.01, 1.8100 bits per base; on the test part, which chose nothing, 1.8200." in text
    assert "Run it again with: optimizer.lr=0.01 trainer.max_steps=300" in text


def test_every_state_is_counted_and_said(tmp_path: Path) -> None:
    fakes = [
        Fake({LR: 1}, 1.9),
        Fake({LR: 2}, None),
        Fake({LR: 3}, state="failed", why="killed by signal 9 (SIGKILL)"),
        Fake({LR: 4}, state="running"),
        Fake({LR: 5}, state="waiting"),
        Fake({LR: 6}, state="stopped"),
        Fake({LR: 7}, math.nan),
    ]
    text = told(write(tmp_path, fakes))
    counts = {"done": 3, "failed": 1, "stopped": 1, "running": 1, "waiting": 1}
    assert summary(tmp_path)["counts"] == counts
    assert "7 runs: 3 done, 1 failed, 1 stopped, 1 running, 1 waiting" in text
    assert "failed: lr=3 (killed by signal 9 (SIGKILL); step 150 of 300" in text
    assert "2 finished runs without a finite validation figure" in text
    assert summary(tmp_path)["failed"] == [{"name": "lr=3", "why": "killed by signal 9 (SIGKILL)"}]
    assert [one["name"] for one in summary(tmp_path)["unfinished"]] == ["lr=4", "lr=5", "lr=6"]
    assert summary(tmp_path)["unfinished"][0]["step"] == 150
    assert [row["state"] for row in rows(tmp_path)] == [
        *["done"] * 2,
        "failed",
        "running",
        "waiting",
        "stopped",
        "done",
    ]
    assert [row["val/bits_per_base"] for row in rows(tmp_path)] == ["1.9", *[""] * 6]
    groups = fold(collect(tmp_path))
    assert groups[0].settings == {LR: 1} and all(group.val.mean is None for group in groups[1:])
    assert len(groups) == 7


def test_what_lies_in_the_folder_goes_before_a_lagging_list(tmp_path: Path) -> None:
    write(tmp_path, [Fake({LR: i}, 1.9) for i in range(4)])
    content = json.loads((tmp_path / "jobs.json").read_text())
    for job, state in zip(content["jobs"], ("running", "waiting", "done", "failed"), strict=True):
        job["state"] = state
    (tmp_path / "jobs.json").write_text(json.dumps(content))
    for name in ("lr=1", "lr=2"):
        (tmp_path / name / "result.json").unlink()
    runs = collect(tmp_path).runs
    assert [run.state for run in runs] == ["done", "running", "failed", "done"]
    assert runs[2].why == "it ended without a result.json"


@pytest.mark.parametrize("name", ["jobs.json", "lr=0/result.json", "lr=0/metrics.csv", "lr=0/.hydra/overrides.yaml"])
@pytest.mark.parametrize("content", ["", "{", "[1, 2", '{"jobs": [{"na', "step,val/bits_per_base\n1,x\n", "\x00", "3"])
def test_half_written_files_do_no_harm(tmp_path: Path, name: str, content: str) -> None:
    write(tmp_path, [Fake({LR: i}, 1.9 + i) for i in range(3)])
    (tmp_path / name).write_text(content)
    text = told(tmp_path)
    assert "3 runs:" in text and len(rows(tmp_path)) == 3


def test_no_run_has_finished(tmp_path: Path) -> None:
    write(tmp_path, [Fake({LR: i}, state="running" if i else "waiting") for i in range(3)])
    text = told(tmp_path)
    assert "No run has finished yet." in text and "Best" not in text
    assert "running: lr=1 (step 150 of 300; 2.1250 bits per base on validation so far)" in text
    assert summary(tmp_path)["best"] is None and len(rows(tmp_path)) == 3
    assert rows(tmp_path)[1]["train/steps"] == "150" and rows(tmp_path)[0]["train/steps"] == ""
    assert not (tmp_path / "sweep.png").exists()


def test_no_sweep_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*missing"):
        collect(tmp_path / "missing")
    with pytest.raises(UserError, match="holds no run"):
        collect(tmp_path)
    write(tmp_path, [Fake({LR: 1}, 1.9)])
    with pytest.raises(UserError, match=f"it is a run's own, so give dir={tmp_path}"):
        collect(tmp_path / "lr=1")
    (tmp_path / "lr=1" / "jobs.json").write_text('{"verb": "evaluate", "jobs": [{"name": "x", "overrides": []}]}')
    (tmp_path / "lr=1" / "result.json").unlink()
    (tmp_path / "lr=1" / "metrics.csv").unlink()
    with pytest.raises(UserError, match="holds no run"):
        collect(tmp_path / "lr=1")


def test_effects_by_hand(tmp_path: Path) -> None:
    bits = {(10, 0.1): 1.9, (10, 0.01): 1.8, (50, 0.1): 1.7, (50, 0.01): None}
    fakes = [Fake({LEN: s, LR: lr}, v, "done" if v else "failed") for (s, lr), v in bits.items()]
    groups = fold(collect(write(tmp_path, fakes)))
    ten, fifty = effects(groups, LEN)
    assert (ten.value, ten.n, ten.min, ten.max) == (10, 2, 1.8, 1.9)
    assert ten.mean == ten.median == pytest.approx(1.85) and ten.sd == pytest.approx(0.1 / math.sqrt(2))
    assert (fifty.value, fifty.n, fifty.mean, fifty.sd) == (50, 1, 1.7, None)
    assert [effect.value for effect in effects(groups, LR)] == [0.01, 0.1]
    lost = effects([group for group in groups if group.val.mean is None], LR)
    assert [(effect.value, effect.n, effect.mean) for effect in lost] == [(0.01, 0, None)]


def test_csv_and_json_hold_what_was_measured(tmp_path: Path) -> None:
    settings = grid(data__seq_len=[10, 50], model=["rnn1", "rnn2"])
    write(tmp_path, [Fake(s, 1.8 + 0.03 * i) for i, s in enumerate(settings)])
    printed(tmp_path)
    table = rows(tmp_path)
    assert list(table[0]) == [
        *("name", "state", "why", LEN, "model", "val/bits_per_base", "test/bits_per_base", "test/accuracy"),
        *("baseline/bits_per_base", "imm/bits_per_base", "train/steps", "train/tokens_per_second", "seconds"),
    ]
    assert [(int(row[LEN]), row["model"]) for row in table] == [(s[LEN], s["model"]) for s in settings]
    assert [float(row["val/bits_per_base"]) for row in table] == [1.8 + 0.03 * i for i in range(4)]
    content = summary(tmp_path)
    assert content["objective"] == "val/bits_per_base" and content["varied"] == [LEN, "model"]
    assert content["best"]["settings"] == settings[0]
    assert content["best"]["overrides"] == "data.seq_len=10 model=rnn1"
    assert content["best"]["val/bits_per_base"] == {"mean": 1.8, "se": None, "n": 1}
    assert [group["settings"] for group in content["groups"]] == settings
    assert [effect["n"] for effect in content["effects"]["model"]] == [2, 2]
    assert not list(tmp_path.glob(".*part"))


def test_what_all_must_beat_is_shown_only_if_all_tell_the_same(tmp_path: Path) -> None:
    text = told(write(tmp_path / "same", [Fake({LR: i}, 1.9) for i in (1, 2)]))
    assert "order-6 table 1.9510 35.20" in text and "imm of tables 1.9300" in text and "chance 2.0000 25.00" in text
    differing = [Fake({LR: i}, 1.9, result={"baseline/bits_per_base": 1.9 + i}) for i in (1, 2)]
    text = told(write(tmp_path / "differ", differing))
    assert "order-6" not in text and "chance 2.0000" in text


def test_what_spoils_a_comparison_is_said(tmp_path: Path) -> None:
    good = told(write(tmp_path / "good", [Fake({LR: i}, 1.9) for i in (1, 2)]))
    assert "leaks" not in good and "same bases" not in good and "per token" not in good
    bad = [Fake({LR: i}, 1.9, result={"split/leaks": i == 1, "genome/name": f"g{i}", "tokens/k": i}) for i in (1, 2)]
    text = told(write(tmp_path / "bad", bad))
    assert "The split leaks" in text and "Not all runs were validated on the same bases" in text and "per token" in text


def test_long_sweeps_show_twenty_and_say_how_many_more(tmp_path: Path) -> None:
    text = printed(write(tmp_path, [Fake({LR: i + 1}, 1.8 + 0.001 * i) for i in range(23)]))
    assert "… and 3 more, in sweep.csv" in text
    ranks = [line.split()[0] for line in text.splitlines() if line.endswith(" 180")]
    assert ranks == [str(i + 1) for i in range(20)]
    assert len(rows(tmp_path)) == 23


def test_a_narrow_console_cuts_no_figure(tmp_path: Path) -> None:
    settings = grid(
        data__seq_len=[10],
        optimizer__weight_decay=[0.1, 0.2],
        data__reverse_complement=["true", "false"],
        model=["rnn1"],
    )
    fakes = [Fake(one | {"seed": s}, 1.8 + s / 100) for s in (0, 1) for one in settings]
    text = printed(write(tmp_path, fakes), width=80)
    table = text.split("Best")[0].splitlines()
    assert "…" not in "".join(table) and max(map(len, table)) <= 80
    assert "1.8050 ± 0.0050      1.8150          36.00" in text and "reverse_complement=false" in text


def test_five_parameters_and_paths_that_a_shell_would_split(tmp_path: Path) -> None:
    combos = grid(
        model=["rnn1", "rnn2"], data__genome=["'a b.fa'", "c.fa"], seed=[0], data__k=[1], optimizer__lr=[1, 2]
    )
    write(tmp_path, [Fake(s, 1.9 - 0.01 * i, name=str(i)) for i, s in enumerate(reversed(combos))])
    sweep = collect(tmp_path)
    assert sweep.varied == ("model", "data.genome", LR) and sweep.runs[-1].settings["data.genome"] == "a b.fa"
    assert words(fold(sweep)[0]) == "model=rnn1 'data.genome='\"'\"'a b.fa'\"'\"'' seed=0 data.k=1 optimizer.lr=1"


figure = st.none() | st.sampled_from([1.7, 1.8, 1.9, 40.0]) | st.floats(0.1, 50) | st.just(math.nan)
runs_st = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([0.1, 0.01]), st.integers(0, 2), figure, figure),
    min_size=1,
    max_size=20,
)


def made(given_runs: list[tuple[int, float, int, float | None, float | None]]) -> Sweep:
    runs = [
        Run(
            name=str(i),
            folder=Path(str(i)),
            settings={"a": a, "b": b, "seed": seed},
            state="done",
            result={"val/bits_per_base": val, "test/bits_per_base": test},
        )
        for i, (a, b, seed, val, test) in enumerate(given_runs)
    ]
    return Sweep(Path(), tuple(runs), ("a", "b", "seed"))


@given(runs_st, st.randoms(use_true_random=False))
def test_the_order_of_the_runs_changes_nothing(given_runs: list[Any], rng: random.Random) -> None:
    sweep = made(given_runs)
    shuffled = list(sweep.runs)
    rng.shuffle(shuffled)
    assert fold(replace(sweep, runs=tuple(shuffled))) == fold(sweep)


@given(runs_st, st.randoms(use_true_random=False))
def test_settings_are_ranked_by_validation_whatever_the_test_says(given_runs: list[Any], rng: random.Random) -> None:
    groups = fold(made(given_runs))
    ranked = [group.val.mean for group in groups]
    known = [value for value in ranked if value is not None]
    assert known == sorted(known) and ranked[len(known) :] == [None] * (len(ranked) - len(known))
    assert sum(len(group.runs) for group in groups) == len(given_runs)
    others = [(*run[:4], rng.uniform(0, 3)) for run in given_runs]
    assert [group.settings for group in fold(made(others))] == [group.settings for group in groups]
