"""Rank a sweep's settings, say how sure the ranking is, and report it on the console, as CSV, JSON and a picture."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text
from scipy import stats

from genoseq.files import write_atomic, write_json
from genoseq.overrides import short_names
from genoseq.sweeps.read import OBJECTIVE, STATES, read_sweep

TEST = "test/bits_per_base"
REPEATS = ("seed", "data.split.fold")
"""What is averaged over, not ranked."""
_MEANS = [OBJECTIVE, TEST, "test/accuracy", "seconds"]
_CSV = [OBJECTIVE, TEST, "test/accuracy", "baseline/bits_per_base", "imm/bits_per_base"]
_CSV += ["step", "train/tokens_per_second", "seconds"]
_SHOWN = 20  # rows of a table on the console
_MANY = 12  # values of a parameter beyond which a table by value says nothing
_FEW_SEEDS = 3  # Welch's test has no power below
_FEW_TRIALS = 8  # importances of fewer are noise
_SAME = 0.0005  # bits per base; equal at three decimals


def write_sweep(folder: Path | str, console: Console | None = None) -> pd.DataFrame:
    """Print how a sweep went, or how far it is, and write ``sweep.csv``, ``sweep.json`` and ``sweep.png``.

    Returns
    -------
    DataFrame
        The settings, best first, as `rank_settings` returns them.

    Raises
    ------
    UserError
        If there is no such folder, or no run in it.
    """
    folder = Path(folder)
    runs = read_sweep(folder)
    keys = parameters(runs)
    settings = rank_settings(runs)
    means = marginal_means(settings, keys)
    importances = {} if is_grid(settings, keys) else read_importances(folder)
    table = runs[["name", "state", "why", *runs.attrs["varied"], *_CSV]].rename(columns={"step": "train/steps"})
    write_atomic(folder / "sweep.csv", table.to_csv(index=False))
    rows = [{"settings": row[keys].to_dict()} | row.drop([*keys, "states"]).to_dict() for _, row in settings.iterrows()]
    unfinished = runs[~runs["state"].isin(["done", "failed"])]
    summary = {
        "objective": OBJECTIVE,
        "varied": runs.attrs["varied"],
        "counts": _counts(runs),
        "best": rows[0] if settings[OBJECTIVE].notna().any() else None,
        "verdict": verdict(settings),
        "settings": rows,
        "effects": {key: values.to_dict("records") for key, values in means.items()},
        "importances": importances,
        "failed": runs.loc[runs["state"] == "failed", ["name", "why"]].to_dict("records"),
        "unfinished": unfinished[["name", "state", "why", "step", "max_steps", "latest"]].to_dict("records"),
    }
    write_json(folder / "sweep.json", summary)
    console = console or Console()
    _print_runs(runs, settings, console)
    _print_effects(means, importances, console)
    tensorboard = f"tensorboard --logdir {shlex.quote(str(folder))}"
    console.print(Text(f"\nfiles:   {folder}\ncurves:  {tensorboard}"), soft_wrap=True)
    if settings[OBJECTIVE].notna().any():
        from genoseq.sweeps.plot import save_sweep  # matplotlib is slow to import

        save_sweep(runs, folder / "sweep.png")
    return settings


def parameters(runs: pd.DataFrame) -> list[str]:
    """Return what a sweep varied but for seeds and folds, as override keys."""
    return [key for key in runs.attrs["varied"] if key not in REPEATS]


def rank_settings(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the settings of a sweep, lowest mean validation bits per base first, those without one last.

    Returns
    -------
    DataFrame
        One row a setting, with the columns

        - one a parameter, named by its override key;
        - ``val/bits_per_base``, ``test/bits_per_base``, ``test/accuracy``, ``seconds``: means over seeds;
        - ``sem``, ``test_sem``: standard errors of the mean validation and test bits per base, nan below two seeds;
        - ``done``, ``seeds``: seeds with a finite validation value, and seeds asked for;
        - ``values``: list of the validation bits per base of each seed; ``fresh``: of the fresh seeds alone, which had
          no part in choosing the setting: replicates, and seeds that not all settings were run with;
        - ``runs``, ``states``: lists of the names and the states of its runs;
        - ``overrides``: those of a run that has a result, else of the first; without the seed where there are several.

        Folds are averaged as seeds are.
    """
    keys = parameters(runs)
    repeated = [key for key in REPEATS if key in runs.attrs["varied"]]
    if repeated != ["seed"]:  # a fold of a seed is one observation too
        runs = runs.assign(seed=runs[repeated].map(str).agg(" ".join, axis=1) if repeated else 0)
    parts = [part for _, part in runs.groupby(keys or (lambda _: 0), sort=False, dropna=False)]
    own = [set(part["seed"][~part["replicate"]]) for part in parts if not part["replicate"].all()]
    shared = set.intersection(*own) if own else set()
    rows = []
    for part in parts:
        fresh = part["replicate"] | ~part["seed"].isin(shared)
        # a seed that ran twice is one observation
        seeds = part.assign(fresh=fresh).groupby("seed", dropna=False)[[*_MEANS, "fresh"]].mean()
        overrides = part["overrides"].iloc[int(part[OBJECTIVE].notna().argmax())]
        row = {
            **part[keys].to_dict("records")[0],
            **seeds[_MEANS].mean(),
            "sem": seeds[OBJECTIVE].sem(),
            "done": seeds[OBJECTIVE].count(),
            "seeds": len(seeds),
            "values": list(seeds[OBJECTIVE].dropna()),
            "fresh": list(seeds[OBJECTIVE][seeds["fresh"] == 1].dropna()),
            "runs": list(part["name"]),
            "states": list(part["state"]),
            "test_sem": seeds[TEST].sem(),
            "overrides": [t for t in overrides if len(seeds) == 1 or t.lstrip("+").partition("=")[0] not in REPEATS],
        }
        rows.append(row)
    return pd.DataFrame(rows).sort_values(OBJECTIVE, kind="stable", ignore_index=True)


def verdict(settings: pd.DataFrame) -> str | None:
    """Return whether the best setting can be told from the second; None if there are not two to compare.

    Welch's t test of the validation bits per base, on fresh seeds only where there are any: a setting that a seed
    chose out of many looks better under that seed than it is (the winner's curse).
    """
    ranked = settings[settings[OBJECTIVE].notna()]
    if len(ranked) < 2:
        return None
    gap = f"How sure: best and second differ by {bits_text(ranked[OBJECTIVE][1] - ranked[OBJECTIVE][0])} bits per base"
    if settings["seeds"].max() == 1:
        remedy = "hparams_search=replicate runs the best settings again with fresh seeds."
        return f"{gap}; with one seed each, this difference may be noise. {remedy}"
    fresh = settings["fresh"].map(bool).any()
    best, second = ranked["fresh" if fresh else "values"][:2]
    which = "fresh seeds (those that chose the settings left out)" if fresh else "seeds, which also ranked the settings"
    counts = f"{len(best)} and {len(second)} {which}"
    if min(len(best), len(second)) < _FEW_SEEDS:
        return f"{gap}; with {counts}, this may be noise (three of each can tell)."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # seeds that agree to the last digit
        low, high = stats.ttest_ind(second, best, equal_var=False).confidence_interval(0.95)
    told = "are clearly apart" if low > 0 else "are in the other order here" if high < 0 else "cannot be told apart"
    return (
        f"How sure: best and second {told}: second minus best is {fmean(second) - fmean(best):.4f} bits per base, "
        f"95 % interval {low:.4f} to {high:.4f} (Welch's t test of {counts})."
    )


def is_grid(settings: pd.DataFrame, keys: Sequence[str]) -> bool:
    """Return whether every combination of the parameters' values has a result, once each."""
    combinations = settings[list(keys)].nunique(dropna=False).prod()
    return bool(settings[OBJECTIVE].notna().all() and len(settings) == combinations)


def marginal_means(settings: pd.DataFrame, keys: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return, by parameter, the validation bits per base of the settings with each value; none unless a whole grid.

    Elsewhere the settings with one value differ from those with another in more than that value.
    """
    if len(keys) < 2 or not is_grid(settings, keys):
        return {}
    of: list[Any] = ["count", "min", "median", "mean", "std", "max"]
    return {key: settings.groupby(key, dropna=False)[OBJECTIVE].agg(of).reset_index() for key in keys}


def read_importances(folder: Path) -> dict[str, float]:
    """Return the importance of each parameter of a search, fractions of 1, largest first.

    PED-ANOVA over the trials in ``optuna.db``; empty without that database, without Optuna, or with too few trials.
    """
    path = (folder / "optuna.db").resolve()
    if not path.is_file() or find_spec("optuna") is None:
        return {}
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.load_study(study_name=None, storage=f"sqlite:///{path}")
        complete = study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        enough = len(complete) >= _FEW_TRIALS
        return optuna.importance.get_param_importances(study, evaluator=evaluator) if enough else {}
    except Exception:  # whatever a database of somebody else raises
        return {}


def _baselines(runs: pd.DataFrame) -> list[tuple[str, float, float]]:
    """Return name, test bits per base and accuracy of the baselines and chance, where every finished run agrees."""

    def agreed(key: str) -> float:
        values = runs[key][runs["state"] == "done"].dropna()
        return float(values.min()) if len(values) and values.max() - values.min() <= _SAME else float("nan")

    order = agreed("baseline/order")
    names = {"baseline": f"order-{'k' if pd.isna(order) else int(order)} Markov model"}
    names |= {"imm": "interpolated Markov model", "chance": "chance"}
    found = [(name, agreed(f"{key}/bits_per_base"), agreed(f"{key}/accuracy")) for key, name in names.items()]
    return [row for row in found if pd.notna(row[1])]


def _cautions(runs: pd.DataFrame) -> list[str]:
    """Return what must be known before the runs are compared."""
    done = runs[runs["state"] == "done"]

    def differ(*keys: str) -> bool:
        return len(done.reindex(columns=keys).drop_duplicates()) > 1

    out = []
    if leaks(runs):
        out.append("The split leaks: these metrics measure memory, not what the models have learnt about DNA.")
    if differ("genome/sha256", "genome/name", "split/name"):
        out.append("Not all runs were validated on the same bases: their metrics differ by the data as well.")
    if blank := int(done[OBJECTIVE].isna().sum()):
        out.append(f"{blank} finished run{'s' * (blank > 1)} without a finite validation metric: ranked last.")
    return out


def leaks(runs: pd.DataFrame) -> bool:
    """Return whether the test windows of a run overlap its training windows."""
    return any(value is True for value in runs.get("split/leaks", ()))


def headline(runs: pd.DataFrame) -> str:
    """Return the genomes that runs were trained on, and how many runs are in which state."""
    genomes = sorted(map(str, runs["genome/name"].dropna().unique())) if "genome/name" in runs else []
    counts = ", ".join(f"{n} {state}" for state, n in _counts(runs).items() if n)
    return ", ".join([*genomes, f"{len(runs)} run{'s' * (len(runs) != 1)}: {counts}"])


def _counts(runs: pd.DataFrame) -> dict[str, int]:
    return {state: int((runs["state"] == state).sum()) for state in STATES}


def shown(value: Any) -> str:
    """Return the value of a setting in as few characters as it can be read."""
    if isinstance(value, (bool, np.bool_)):
        return str(value).lower()
    return "null" if pd.isna(value) else f"{value:.4g}" if isinstance(value, float) else str(value)


def bits_text(value: float) -> str:
    """Return bits per base with four decimals; fewer digits where training has diverged."""
    return "–" if pd.isna(value) else f"{value:.4f}" if abs(value) < 1000 else f"{value:.3g}"


def _describe(setting: Mapping[Any, Any]) -> str:
    """Return a setting in short names, as in ``seq_len=50, lr=0.01``."""
    names = short_names(setting)
    return ", ".join(f"{names[key]}={shown(value)}" for key, value in setting.items()) or "the one setting"


def _print_runs(runs: pd.DataFrame, settings: pd.DataFrame, console: Console) -> None:
    """Print the ranking, the runs that are not done, what spoils the comparison, and the verdict."""

    def say(text: str, style: str = "", wrap: bool = True) -> None:
        console.print(Text(text, style=style), soft_wrap=not wrap)

    best = settings.iloc[0]
    ranked = pd.notna(best[OBJECTIVE])
    say(f"\n{headline(runs)}")
    if ranked:
        console.print(_ranking(runs, settings, console))
        say(f"… and {len(settings) - _SHOWN} more, in sweep.csv\n" if len(settings) > _SHOWN else "")
    for state, style in (("failed", "red"), ("stopped", ""), ("running", "")):
        some = runs[runs["state"] == state].to_dict("records")
        for run in some[:_SHOWN]:
            say(f"{state}: {run['name']}{_progress(run)}", style)
        if len(some) > _SHOWN:
            say(f"… and {len(some) - _SHOWN} more {state}, in sweep.csv")
    for sentence in _cautions(runs):
        say(sentence, "bold red" if leaks(runs) else "yellow")
    if not ranked:
        say("No finished run has a validation metric." if "done" in set(runs["state"]) else "No run has finished yet.")
        return
    test = f"; test (not used for the ranking) {bits_text(best[TEST])}" if pd.notna(best[TEST]) else ""
    setting = _describe(best[parameters(runs)].to_dict())
    say(f"Best on validation: {setting}, {bits_text(best[OBJECTIVE])} bits per base{test}.")
    say(f"Run it again with: python -m genoseq.train {shlex.join(best['overrides'])}".rstrip(), wrap=False)
    if how_sure := verdict(settings):
        say(how_sure)


def _print_effects(means: dict[str, pd.DataFrame], importances: dict[str, float], console: Console) -> None:
    for key, values in means.items():
        if 2 <= len(values) <= _MANY:
            name = short_names(means)[key]
            heads = {key: name, "count": "settings", "min": "best", "std": "sd", "max": "worst"}
            text = values.assign(**{key: values[key].map(shown)}).rename(columns=heads)
            console.print(f"\nvalidation bits per base by {name}, over all the rest\n")
            console.print(Text(text.to_string(index=False, float_format=bits_text, na_rep="–")))
    if importances:
        shares = pd.Series(importances).rename(short_names(importances))
        console.print("\nimportance of each parameter, over the trials of optuna.db (PED-ANOVA, fractions)\n")
        console.print(Text(shares.to_string(float_format="{:.2f}".format)))


def _progress(run: Mapping[Any, Any]) -> str:
    parts = [run["why"]] if pd.notna(run["why"]) else []
    if pd.notna(run["step"]):
        parts.append(f"step {run['step']:,}" + (f" of {run['max_steps']:,}" if pd.notna(run["max_steps"]) else ""))
    if pd.notna(run["latest"]):
        parts.append(f"{bits_text(run['latest'])} bits per base on validation so far")
    return f" ({'; '.join(parts)})" if parts else ""


def _ranking(runs: pd.DataFrame, settings: pd.DataFrame, console: Console) -> Table:
    """Return the best settings over the baselines; on a narrow console one column holds all parameters."""
    keys, names = parameters(runs), short_names(parameters(runs))
    folds = "data.split.fold" in runs.attrs["varied"]
    counted = "seeds and folds" if folds and "seed" in runs.attrs["varied"] else "folds" if folds else "seeds"
    rows = []

    def test_cells(bits: float, accuracy: float) -> dict[str, str]:
        percent = "–" if pd.isna(accuracy) else f"{100 * accuracy:.2f}"
        return {"test\nbits/base": bits_text(bits), "test\naccuracy\n(%)": percent}

    for rank, row in enumerate(settings[:_SHOWN].to_dict("records"), 1):
        finite = pd.notna(row[OBJECTIVE])
        state = next((s for s in ("running", "waiting", "failed", "stopped") if s in row["states"]), "not finite")
        error = "" if pd.isna(row["sem"]) else f" ± {bits_text(row['sem'])}"
        cells = {"": str(rank) if finite else "–"}
        cells |= {"setting": _describe({key: row[key] for key in keys}).replace(", ", ",\n")}
        cells |= {names[key]: shown(row[key]) for key in keys} | {counted: f"{row['done']}/{row['seeds']}"}
        cells |= {"val\nbits/base": bits_text(row[OBJECTIVE]) + error if finite else state}
        cells |= test_cells(row[TEST], row["test/accuracy"])
        if folds and pd.notna(row["test_sem"]):
            cells["test\nbits/base"] += f" ± {bits_text(row['test_sem'])}"
        rows.append(cells | {"seconds": "–" if pd.isna(row["seconds"]) else f"{row['seconds']:,.0f}"})
    for name, *metrics in _baselines(runs):
        rows.append({"setting": name, **dict.fromkeys(list(names.values())[:1], name), **test_cells(*metrics)})
    text = pd.DataFrame(rows).fillna("").drop(columns=[counted] if settings["seeds"].max() == 1 else [])
    folded = text.drop(columns=[*names.values(), "seconds"])
    for layout in (text.drop(columns="setting") if keys else text, folded):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for head in map(str, layout):
            is_text = head in ("", "setting")
            table.add_column(Text(head), justify="left" if is_text else "right", no_wrap=not is_text, overflow="fold")
        for texts in layout.itertuples(index=False):
            table.add_row(*map(Text, texts))
        if Measurement.get(console, console.options.update(max_width=10_000), table).maximum <= console.width:
            break
    table.rows[0].style = "bold"
    table.rows[min(len(settings), _SHOWN) - 1].end_section = True
    return table
