"""Run the best settings of a sweep with fresh seeds, to see how sure its ranking is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, islice
from pathlib import Path

from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper

from genoseq.errors import UserError
from genoseq.overrides import key_of, parse
from genoseq.sweeps.launcher import JobLauncher
from genoseq.sweeps.read import OBJECTIVE, read_sweep
from genoseq.sweeps.table import parameters, rank_settings
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
        How many seeds, or which; those that the sweep itself ran with are passed over.
    """
    assert sweeper.config is not None and sweeper.launcher is not None
    folder, trust = Path(sweeper.config.hydra.sweep.dir), list(sweeper.config.get("trust") or [])
    replaced = {"seed", "trust"}
    for override in parse(arguments):
        if override.is_sweep_override():
            raise UserError(f"{override.input_line}: a replicate takes its settings from the sweep; give one value")
        replaced.add(key_of(override))
    runs = read_sweep(folder)
    runs = runs[~runs["replicate"]]
    if runs[OBJECTIVE].isna().all():
        raise UserError(f"no run of the sweep in {folder} has finished, so none is the best")
    # not what only the replicates of an earlier command varied
    runs.attrs["varied"] = [key for key in runs.attrs["varied"] if runs[key].nunique(dropna=False) > 1]
    ranked = rank_settings(runs).dropna(subset=OBJECTIVE)
    used = set(runs["seed"])
    unused = (seed for seed in (count() if isinstance(seeds, int) else seeds) if seed not in used)
    fresh = list(islice(unused, seeds if isinstance(seeds, int) else None))
    batch = []
    for texts in ranked["overrides"].head(best):
        recorded = [str(override.input_line) for override in parse(texts) if key_of(override) not in replaced]
        check_overrides(recorded, trust)  # the folder may come from somebody else
        batch += [[*recorded, *arguments, f"seed={seed}"] for seed in fresh]
    if isinstance(sweeper.launcher, JobLauncher):  # it names folders after what varies
        sweeper.launcher.varied = [*parameters(runs), "seed"]
    sweeper.validate_batch_is_legal(batch)
    return sweeper.launcher.launch(batch, initial_job_idx=len(runs))
