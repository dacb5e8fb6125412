"""Rank a sweep's settings, say how sure the ranking is, and report it on the console, as CSV, JSON and a picture."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
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
_MEANS = [OBJECTIVE, TEST, "test/accuracy", "seconds"]
_CSV = [OBJECTIVE, TEST, "test/accuracy", "baseline/bits_per_base", "imm/bits_per_base"]
_CSV += ["step", "train/tokens_per_second", "seconds"]
_SHOWN = 20  # rows of a table on the console
_MANY = 12  # values of a parameter beyond which a table by value says nothing
_FEW_SEEDS = 3  # Welch's test has no power below
_SAME = 0.0005  # bits per base; equal at three decimals


def write_sweep(folder: Path | str, console: Console | None = None) -> pd.DataFrame:
    """Print how a sweep went, or how far it is, and write ``sweep.csv``, ``sweep.json`` and ``sweep.png``.

    Parameters
    ----------
    folder : Path or str
        The sweep's.
    console : Console, optional
        Standard output by default.

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
    settings = rank_settings(runs)
    table = runs[["name", "state", "why", *runs.attrs["varied"], *_CSV]].rename(columns={"step": "train/steps"})
    write_atomic(folder / "sweep.csv", table.to_csv(index=False))
    write_json(folder / "sweep.json", _summary(runs, settings))
    _print(runs, settings, folder, console or Console())
    if settings[OBJECTIVE].notna().any():
        from genoseq.sweeps.plot import save_sweep  # matplotlib is slow to import

        save_sweep(runs, folder / "sweep.png")
    return settings


def parameters(runs: pd.DataFrame) -> list[str]:
    """Return what a sweep varied but for the seed, as override keys."""
    return [key for key in runs.attrs["varied"] if key != "seed"]


def rank_settings(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the settings of a sweep, lowest mean validation bits per base first, those without one last.

    Parameters
    ----------
    runs : DataFrame
        As `read_sweep` returns them.

    Returns
    -------
    DataFrame
        One row a setting, with the columns

        - one a parameter, named by its override key;
        - ``val/bits_per_base``, ``test/bits_per_base``, ``test/accuracy``, ``seconds``: means over seeds;
        - ``sem``: standard error of the mean validation bits per base, nan below two seeds;
        - ``done``, ``seeds``: seeds with a finite validation value, and seeds asked for;
        - ``values``: list of the validation bits per base of each seed; ``fresh``: of the fresh seeds alone, which had
          no part in choosing the setting: replicates, and seeds that not all settings were run with;
        - ``runs``, ``states``: lists of the names and the states of its runs;
        - ``overrides``: those of a run that has a result, else of the first; without the seed where there are several.
    """
    keys = parameters(runs)
    folded = "seed" in runs.attrs["varied"]
    runs = runs.assign(seed=runs["seed"] if folded else 0)
    chosen_by = [set(part["seed"]) for _, part in _by_setting(runs[~runs["replicate"]], keys)]
    runs["fresh"] = runs["replicate"] | ~runs["seed"].isin(set.intersection(*chosen_by) if chosen_by else set())
    rows = [dict(zip(keys, values, strict=True)) | _setting(part) for values, part in _by_setting(runs, keys)]
    return pd.DataFrame(rows).sort_values(OBJECTIVE, kind="stable", ignore_index=True)


def _by_setting(runs: pd.DataFrame, keys: list[str]) -> Iterable[tuple[Any, pd.DataFrame]]:
    return runs.groupby(keys, sort=False, dropna=False) if keys else [((), runs)]


def _setting(runs: pd.DataFrame) -> dict[str, Any]:
    """Return what `rank_settings` says of the runs of one setting."""
    seeds = runs.groupby("seed", dropna=False)[[*_MEANS, "fresh"]].mean()  # a seed that ran twice is one observation
    overrides = runs["overrides"].iloc[int(runs[OBJECTIVE].notna().argmax())]
    return {
        **seeds[_MEANS].mean(),
        "sem": seeds[OBJECTIVE].sem(),
        "done": seeds[OBJECTIVE].count(),
        "seeds": len(seeds),
        "values": list(seeds[OBJECTIVE].dropna()),
        "fresh": list(seeds[OBJECTIVE][seeds["fresh"] == 1].dropna()),
        "runs": list(runs["name"]),
        "states": list(runs["state"]),
        "overrides": [text for text in overrides if len(seeds) == 1 or not text.lstrip("+").startswith("seed=")],
    }


def verdict(settings: pd.DataFrame) -> str | None:
    """Return whether the best setting can be told from the second; None if there are not two to compare.

    Welch's t test of the validation bits per base, on fresh seeds only where there are any: a setting that a seed
    chose out of many looks better under that seed than it is (the winner's curse).
    """
    ranked = settings[settings[OBJECTIVE].notna()]
    if len(ranked) < 2:
        return None
    gap = f"{bits_text(ranked[OBJECTIVE][1] - ranked[OBJECTIVE][0])} bits per base"
    if settings["seeds"].max() == 1:
        return (
            f"How sure: best and second differ by {gap}; with one seed each, this difference may be noise. "
            "hparams_search=replicate runs the best settings again with fresh seeds."
        )
    fresh = settings["fresh"].map(bool).any()
    best, second = ranked["fresh" if fresh else "values"][:2]
    which = "fresh seeds (those that chose the settings left out)" if fresh else "seeds, which also ranked the settings"
    counts = f"{len(best)} and {len(second)} {which}"
    if min(len(best), len(second)) < _FEW_SEEDS:
        return f"How sure: best and second differ by {gap}; with {counts}, this may be noise (three of each can tell)."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # seeds that agree to the last digit
        low, high = stats.ttest_ind(second, best, equal_var=False).confidence_interval(0.95)
    told = "are clearly apart" if low > 0 else "are the other way round" if high < 0 else "cannot be told apart"
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


def baselines(runs: pd.DataFrame) -> list[tuple[str, float, float]]:
    """Return name, test bits per base and accuracy of the baselines and chance, where every finished run agrees."""
    done = runs[runs["state"] == "done"]
    order = _agreed(done, "baseline/order")
    names = {"baseline": f"order-{order:.0f} Markov model" if pd.notna(order) else "order-k Markov model"}
    names |= {"imm": "interpolated Markov model", "chance": "chance"}
    found = [(n, _agreed(done, f"{key}/bits_per_base"), _agreed(done, f"{key}/accuracy")) for key, n in names.items()]
    return [row for row in found if pd.notna(row[1])]


def _agreed(runs: pd.DataFrame, key: str) -> float:
    values = runs[key].dropna()
    return float(values.min()) if len(values) and values.max() - values.min() <= _SAME else float("nan")


def cautions(runs: pd.DataFrame) -> list[str]:
    """Return what must be known before the runs are compared."""
    done = runs[runs["state"] == "done"]

    def differ(*keys: str) -> bool:
        return len(done.reindex(columns=keys).drop_duplicates()) > 1

    out = []
    if leaks(runs):
        out.append("The split leaks: these metrics measure memory, not what the models have learnt about DNA.")
    if differ("genome/sha256", "genome/name", "split/name"):
        out.append("Not all runs were validated on the same bases: their metrics differ by the data as well.")
    if differ("tokens/k", "tokens/stride", "tokens/new_bases"):
        out.append("The runs' tokens differ: compare their bits per base, not their accuracies, which are per token.")
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
    if pd.isna(value):
        return "null"
    if isinstance(value, (bool, np.bool_)):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def describe(setting: Mapping[Any, Any]) -> str:
    """Return a setting in short names, as in ``seq_len=50, lr=0.01``."""
    names = short_names(setting)
    return ", ".join(f"{names[key]}={shown(value)}" for key, value in setting.items()) or "the one setting"


def bits_text(value: float) -> str:
    """Return bits per base with four decimals; fewer digits where training has diverged."""
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.3g}"


def _summary(runs: pd.DataFrame, settings: pd.DataFrame) -> dict[str, Any]:
    """Return the content of ``sweep.json``; bits are per base, accuracies fractions."""
    keys = parameters(runs)
    rows = [{"settings": row[keys].to_dict()} | row.drop([*keys, "states"]).to_dict() for _, row in settings.iterrows()]
    unfinished = runs[~runs["state"].isin(["done", "failed"])]
    return {
        "objective": OBJECTIVE,
        "varied": runs.attrs["varied"],
        "counts": _counts(runs),
        "best": rows[0] if settings[OBJECTIVE].notna().any() else None,
        "verdict": verdict(settings),
        "settings": rows,
        "effects": {key: table.to_dict("records") for key, table in marginal_means(settings, keys).items()},
        "failed": runs.loc[runs["state"] == "failed", ["name", "why"]].to_dict("records"),
        "unfinished": unfinished[["name", "state", "why", "step", "max_steps", "latest"]].to_dict("records"),
    }


def _print(runs: pd.DataFrame, settings: pd.DataFrame, folder: Path, console: Console) -> None:
    def say(text: str, style: str = "", wrap: bool = True) -> None:
        console.print(Text(text, style=style), soft_wrap=not wrap)

    keys = parameters(runs)
    best = settings.iloc[0]
    ranked = pd.notna(best[OBJECTIVE])
    say(f"\n{headline(runs)}")
    if ranked:
        console.print(_ranking(runs, settings, console))
        if len(settings) > _SHOWN:
            say(f"… and {len(settings) - _SHOWN} more, in sweep.csv")
        say("")
    for state in ("failed", "stopped", "running"):
        some = runs[runs["state"] == state]
        for _, run in some[:_SHOWN].iterrows():
            say(f"{state}: {run['name']}{_progress(run)}", "red" if state == "failed" else "")
        if len(some) > _SHOWN:
            say(f"… and {len(some) - _SHOWN} more {state}, in sweep.csv")
    for sentence in cautions(runs):
        say(sentence, "bold red" if leaks(runs) else "yellow")
    if ranked:
        test = f"; on the test part, which chose nothing, {bits_text(best[TEST])}" if pd.notna(best[TEST]) else ""
        say(f"Best on validation: {describe(best[keys].to_dict())}, {bits_text(best[OBJECTIVE])} bits per base{test}.")
        say(f"Run it again with: python -m genoseq.train {shlex.join(best['overrides'])}".rstrip(), wrap=False)
        if how_sure := verdict(settings):
            say(how_sure)
    else:
        say("No finished run has a validation metric." if "done" in set(runs["state"]) else "No run has finished yet.")
    for key, table in marginal_means(settings, keys).items():
        if 2 <= len(table) <= _MANY:
            name = short_names(keys)[key]
            say(f"\nvalidation bits per base by {name}, over all the rest")
            heads = {"min": "best", "median": "median", "mean": "mean", "std": "sd", "max": "worst"}
            cells = pd.DataFrame({name: table[key].map(shown), "settings": table["count"].map(str)})
            cells[list(heads.values())] = table[list(heads)].map(lambda x: "–" if pd.isna(x) else bits_text(x))
            console.print(_rich_table(cells))
    say(f"\nfiles:   {folder}", wrap=False)
    say(f"curves:  tensorboard --logdir {shlex.quote(str(folder))}", wrap=False)


def _progress(run: pd.Series[Any]) -> str:
    parts = [run["why"]] if pd.notna(run["why"]) else []
    if pd.notna(run["step"]):
        parts.append(f"step {run['step']:,}" + (f" of {run['max_steps']:,}" if pd.notna(run["max_steps"]) else ""))
    if pd.notna(run["latest"]):
        parts.append(f"{bits_text(run['latest'])} bits per base on validation so far")
    return f" ({'; '.join(parts)})" if parts else ""


def _rich_table(cells: pd.DataFrame, left: int = 1) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, head in enumerate(map(str, cells)):
        table.add_column(Text(head), justify="left" if i < left else "right", no_wrap=i >= left, overflow="fold")
    for row in cells.itertuples(index=False):
        table.add_row(*map(Text, row))
    return table


def _ranking(runs: pd.DataFrame, settings: pd.DataFrame, console: Console) -> Table:
    """Return the table of the best settings over the baselines, with as many columns as the console has room for."""
    keys, dash = parameters(runs), "-" if console.options.ascii_only else "–"
    names = list(short_names(keys).values()) or ["setting"]
    top = settings[:_SHOWN]

    def column(key: str, text: Callable[[float], str] = bits_text) -> pd.Series[str]:
        return top[key].map(lambda value: dash if pd.isna(value) else text(value))

    error = top["sem"].map(lambda sem: "" if pd.isna(sem) else f" ± {bits_text(sem)}")
    cells = top[keys].map(shown).set_axis(names[: len(keys)], axis=1)
    cells.insert(0, "", column(OBJECTIVE, str).where(top[OBJECTIVE].isna(), (top.index + 1).map(str)))
    cells["setting"] = [describe(row).replace(", ", ",\n") for row in top[keys].to_dict("records")]
    cells["seeds"] = top["done"].map(str) + "/" + top["seeds"].map(str)
    cells["val\nbits/base"] = (column(OBJECTIVE) + error).where(top[OBJECTIVE].notna(), top["states"].map(_state))
    cells["test\nbits/base"] = column(TEST)
    cells["test\naccuracy\n(%)"] = column("test/accuracy", lambda share: f"{100 * share:.2f}")
    cells["seconds"] = column("seconds", "{:,.0f}".format)
    for name, bits, accuracy in baselines(runs):
        share = dash if pd.isna(accuracy) else f"{100 * accuracy:.2f}"
        row = {names[0]: name, "setting": name, "test\nbits/base": f"{bits:.4f}", "test\naccuracy\n(%)": share}
        cells = pd.concat([cells, pd.DataFrame([row])])
    metrics = list(cells)[-5 if top["seeds"].max() > 1 else -4 :]
    for columns in ([*names, *metrics], [*names, *metrics[:-1]], ["setting", *metrics], ["setting", *metrics[:-1]]):
        table = _rich_table(cells.fillna("")[["", *columns]], left=2 if columns[0] == "setting" else 1)
        if Measurement.get(console, console.options.update(max_width=10_000), table).maximum <= console.width:
            break
    table.rows[0].style = "bold"
    table.rows[len(top) - 1].end_section = True
    return table


def _state(states: list[str]) -> str:
    return next((state for state in ("running", "waiting", "failed", "stopped") if state in states), "not finite")
