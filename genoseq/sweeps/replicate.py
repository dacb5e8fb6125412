"""Run the best settings of a sweep with fresh seeds, to see how sure its ranking is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count, islice
from pathlib import Path

from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper

from genoseq.errors import UserError
from genoseq.overrides import key_of, parse, settings
from genoseq.sweeps.launcher import JobLauncher
from genoseq.sweeps.read import OBJECTIVE, read_sweep
from genoseq.trust import check_overrides


def replicate(
    sweeper: Sweeper, arguments: Sequence[str], best: int = 5, seeds: int | Sequence[int] = 3
) -> Sequence[JobReturn]:
    """Run the best settings of the sweep in ``sweep.dir`` with fresh seeds, in the same folder.

    The seed that selected the best settings favours them (winner's curse); only seeds that had no part in the ranking
    can confirm it. The settings are ranked by the sweep's own runs, without replicates, so the same command again
    chooses the same settings and seeds, and resumes.

    Parameters
    ----------
    sweeper : Sweeper
        With its config and launcher.
    arguments : sequence of str
        The command's overrides, which replace those that the runs recorded.
    best : int
        Number of settings, from the lowest mean validation bits per base up.
    seeds : int or sequence of int
        How many seeds that the sweep does not have, or these seeds; a setting is not run again with a seed it has.

    Raises
    ------
    UserError
        If no run has finished, or a recorded override may name code.
    """
    assert sweeper.config is not None and sweeper.launcher is not None
    for override in parse(arguments):
        if override.is_sweep_override():
            raise UserError(f"{override.input_line}: a replicate takes its settings from the sweep; give one value")
    folder, trust = Path(sweeper.config.hydra.sweep.dir), list(sweeper.config.get("trust") or [])
    runs = read_sweep(folder)
    runs = runs[~runs["replicate"]]
    varied = [key for key in runs.attrs["varied"] if key != "seed" and runs[key].nunique(dropna=False) > 1]
    done = runs[runs[OBJECTIVE].notna()]
    if done.empty:
        raise UserError(f"no run of the sweep in {folder} has finished, so none is the best")
    groups = [group for _, group in done.groupby(varied, dropna=False)] if varied else [done]
    ranked = sorted(groups, key=lambda group: float(group[OBJECTIVE].mean()))
    used = set(runs["seed"].dropna())
    fresh = list(islice((n for n in count() if n not in used), seeds) if isinstance(seeds, int) else seeds)
    batch = [
        [*_recorded(group["overrides"].iloc[0], arguments, trust), *arguments, f"seed={seed}"]
        for group in ranked[:best]
        for seed in fresh
        if seed not in set(group["seed"])
    ]
    if isinstance(sweeper.launcher, JobLauncher):  # it names folders after what varies
        sweeper.launcher.varied = [*varied, "seed"]
    sweeper.validate_batch_is_legal(batch)
    return sweeper.launcher.launch(batch, initial_job_idx=len(runs))


def _recorded(texts: Iterable[str], arguments: Sequence[str], trust: Sequence[str]) -> list[str]:
    """Return a run's recorded overrides as they were written, without those that the command gives itself.

    Raises
    ------
    UserError
        If one may name code: the folder may come from somebody else.
    """
    own = {key_of(override) for override in parse(arguments)} | {"seed", "trust"}
    kept = [o for o in parse(texts) if key_of(o) not in own and settings([str(o.input_line)])]
    recorded = [str(override.input_line) for override in kept]
    check_overrides(recorded, trust)
    return recorded
