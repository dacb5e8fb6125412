"""What the study of the report reads: the report's own figures, and our runs of its models."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genoseq.errors import UserError
from genoseq.files import read_metrics
from genoseq.paths import conf_dir
from genoseq.report.figures import Curve, points
from genoseq.sweeps.collect import collect
from genoseq.sweeps.groups import Run


@dataclass(frozen=True)
class Cited:
    """What the report states of one of its models.

    Attributes
    ----------
    accuracy : float
        On its test windows (fraction).
    loss : float
        The last that it printed, nats a token.
    steps : int
        Optimizer steps.
    curve : Curve
        Train loss, nats a token.
    """

    accuracy: float
    loss: float
    steps: int
    curve: Curve


@dataclass(frozen=True)
class Trained:
    """A run of ours.

    Attributes
    ----------
    model : int
        Number of the report's model.
    split : str
    run : Run
    train, val : Curve
        Losses, nats a token.
    """

    model: int
    split: str
    run: Run
    train: Curve
    val: Curve

    @property
    def leaks(self) -> bool:
        """Whether test windows overlap training windows."""
        return self.run.result.get("split/leaks") is True

    def nats(self, key: str) -> float | None:
        """Return a figure in bits per base as nats a token: where tokens overlap, only a token's new bases cost."""
        bits, bases = self.run.figure(key), self.run.figure("tokens/new_bases")
        return None if bits is None or bases is None else bits * math.log(2) * bases


def read_cited(out: Path) -> dict[int, Cited]:
    """Return the report's figures by model, from ``report.csv`` and ``curves/`` in `out` or in experiments/report.

    Raises
    ------
    UserError
        If they are in neither.
    """
    usual = conf_dir().parent / "experiments" / "report"
    folder = next((place for place in (out, usual) if (place / "report.csv").is_file()), None)
    if folder is None:
        raise UserError(f"the report's figures are missing: there is no {usual / 'report.csv'}; run this in a checkout")
    table = read_metrics(folder / "report.csv")
    columns = ("model", "accuracy", "loss", "steps")
    if lacking := [name for name in columns if name not in table or None in table[name]]:
        raise UserError(f"{folder / 'report.csv'} lacks a figure under {', '.join(lacking)}; restore the file")
    rows = zip(*([x for x in table[name] if x is not None] for name in columns), strict=True)
    cited = {}
    for model, accuracy, loss, steps in rows:
        curve = points(read_metrics(folder / "curves" / f"model{model:.0f}.csv"), "loss")
        cited[int(model)] = Cited(accuracy, loss, int(steps), curve)
    return cited


def read_runs(folder: Path, cited: dict[int, Cited]) -> list[Trained]:
    """Return the runs of a study, by model, those whose split leaks first; also those without a result.

    Raises
    ------
    UserError
        If none is done, one is of no model of the report, or two are of one model and split.
    """
    found = [_trained(run, cited) for run in collect(folder).runs]
    if not any(one.run.result for one in found):
        raise UserError(f"no run in {folder} is done: the same command goes on with them")
    seen: dict[tuple[int, str], Trained] = {}
    for one in found:
        if other := seen.get((one.model, one.split)):
            raise UserError(
                f"{other.run.name} and {one.run.name} in {folder} are both Model {one.model} on {one.split}: "
                "give a folder with one run of each"
            )
        seen[one.model, one.split] = one
    leaky = {one.split for one in found if one.leaks}
    return sorted(found, key=lambda one: (one.model, one.split not in leaky, one.split))


def _trained(run: Run, cited: dict[int, Cited]) -> Trained:
    given = dict(word.lstrip("+").partition("=")[::2] for word in run.words)
    number = re.search(r"\d+$", given.get("experiment", ""))
    if number is None or int(number[0]) not in cited:
        names = ", ".join(f"…{model}" for model in cited)
        raise UserError(f"{run.folder} is no run of the report's models: its experiment= must end in {names}")
    split = str(run.result.get("split/name") or given.get("data/split") or "unknown split")
    logged = run.folder / "metrics.csv"
    metrics = read_metrics(logged) if logged.is_file() else {}
    return Trained(int(number[0]), split, run, points(metrics, "train/loss"), points(metrics, "val/loss"))


def common(runs: Sequence[Trained], key: str) -> str:
    """Return what the results say under a key: one value, or all of them; numbers in groups of three digits."""
    values = dict.fromkeys(one.run.result[key] for one in runs if one.run.result.get(key) is not None)
    return " and ".join(f"{value:,}" if isinstance(value, int) else str(value) for value in values) or "unknown"


def scale(runs: Sequence[Trained]) -> str:
    """Return at which scale runs were made, as in ``small scale: 50,000 bases of klebsiella``."""
    genome = common(runs, "genome/name")
    cut = re.fullmatch(r"(.+)\[0:\d+\]", genome)
    bases = common(runs, "genome/bases")
    of = f"the first {bases} bases of {cut[1]}" if cut else f"{bases} bases of {genome}"
    return f"{common(runs, 'scale')} scale: {of}"


def facts(runs: Sequence[Trained]) -> list[str]:
    """Return what has to be known beside a table of runs, a sentence or two each."""
    some = next(one for one in runs if one.run.result)
    guess, bits = some.run.figure("chance/accuracy"), some.run.figure("chance/bits_per_base")
    lines = [] if guess is None or bits is None else [f"Chance is {100 * guess:.0f} / {bits:.0f}."]
    if splits := dict.fromkeys(one.split for one in runs if one.leaks):
        lines.append(f"The split {' and '.join(splits)} leaks: figures on it measure memory.")
    for one in runs:
        if not one.run.result:
            why = f" ({one.run.why})" if one.run.why else ""
            lines.append(f"Model {one.model} on {one.split} has no result: {one.run.state}{why}.")
    return lines


def by_model(runs: Sequence[Trained]) -> dict[int, list[Trained]]:
    """Return the runs of each model."""
    return {model: [one for one in runs if one.model == model] for model in dict.fromkeys(one.model for one in runs)}
