"""Run the best settings of a sweep with fresh seeds, to see how sure the ranking is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count, islice, product
from pathlib import Path

from hydra.core.utils import JobReturn
from hydra.plugins.sweeper import Sweeper

from genoseq.errors import UserError
from genoseq.overrides import key_of, parse, settings
from genoseq.sweeps.launcher import JobLauncher
from genoseq.sweeps.read import OBJECTIVE, read_sweep


def replicate(
    sweeper: Sweeper, arguments: Sequence[str], best: int = 5, seeds: int | Sequence[int] = 3
) -> Sequence[JobReturn]:
    """Run the best settings of the sweep in ``sweep.dir`` with fresh seeds, in the same folder.

    The seed that selected the best settings favours them (winner's curse), so only seeds that had no part in the
    ranking can confirm it. The ranking is that of the sweep's own runs, without replicates: the same command again
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
        If no run has finished.
    """
    assert sweeper.config is not None and sweeper.launcher is not None
    swept = [override.input_line for override in parse(arguments) if override.is_sweep_override()]
    if swept:
        raise UserError(f"{swept[0]}: hparams_search=replicate takes its settings from the sweep; give one value")
    runs = read_sweep(Path(sweeper.config.hydra.sweep.dir))
    original = runs[~runs["replicate"]]
    keys = [key for key in runs.attrs["varied"] if key != "seed"]
    done = original[original[OBJECTIVE].notna()]
    if done.empty:
        raise UserError(f"no run of the sweep in {sweeper.config.hydra.sweep.dir} has finished, so none can be best")
    by_setting = [setting for _, setting in done.groupby(keys, dropna=False)] if keys else [done]
    ranked = sorted(by_setting, key=lambda setting: float(setting[OBJECTIVE].mean()))
    fresh = islice((n for n in count() if n not in set(original["seed"])), seeds) if isinstance(seeds, int) else seeds
    pairs = list(product(ranked[:best], fresh))
    batch = [
        [*_recorded(setting["overrides"].iloc[0], arguments), *arguments, f"seed={seed}"]
        for setting, seed in pairs
        if seed not in set(setting["seed"])
    ]
    if isinstance(sweeper.launcher, JobLauncher):  # it names folders after what varies
        sweeper.launcher.varied = [*keys, "seed"]
    sweeper.validate_batch_is_legal(batch)
    return sweeper.launcher.launch(batch, initial_job_idx=len(original))


def _recorded(texts: Iterable[str], arguments: Sequence[str]) -> list[str]:
    """Return a run's recorded overrides as they were written, but for what the command gives itself."""
    own = {key_of(override) for override in parse(arguments)} | {"seed", "trust"}
    overrides = [override for override in parse(texts) if settings([str(override.input_line)])]
    kept = [override for override in overrides if key_of(override) not in own]
    return [str(override.input_line) for override in kept]
