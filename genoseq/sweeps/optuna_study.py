"""The study that a sweep keeps its trials in: opened, checked against the command, read.

Optuna is imported when a sweep begins, so that nothing else needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from genoseq.errors import UserError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

_SETTINGS = "genoseq:settings"  # the study's attribute that says what its trials have in common


def quiet_optuna() -> None:
    """Import Optuna, which then says warnings only.

    Raises
    ------
    UserError
        If it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UserError("sweep=optuna needs a package that is not here: pip install 'genoseq[optuna]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_study(folder: Path, storage: str | None, name: str, settings: dict[str, str]) -> Study:
    """Return the study, new or the one that was begun in `folder`.

    Parameters
    ----------
    folder : Path
        The sweep's.
    storage : str or None
        A database's address; None for ``optuna.db`` in `folder`.
    name : str
        The study's name.
    settings : dict of str
        What makes its trials comparable: what varies and what does not, by key.

    Raises
    ------
    UserError
        If the storage cannot be opened, or its trials have other settings.
    """
    import optuna

    storage = storage or f"sqlite:///{(folder / 'optuna.db').resolve()}"
    try:
        study = optuna.create_study(storage=storage, study_name=name, direction="minimize", load_if_exists=True)
        before = study.user_attrs.get(_SETTINGS)
    except Exception as error:  # a database's own errors, whichever it is
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"the sweep's storage {storage} cannot be opened: {reason}") from error
    if before is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(_SETTINGS, settings)
    elif before != settings:
        raise UserError(_difference(folder, before or {}, settings))
    return study


def _difference(folder: Path, before: dict[str, str], now: dict[str, str]) -> str:
    key = min(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    said, says = (settings.get(key, "nothing said") for settings in (before, now))
    return (
        f"the sweep in {folder} was begun with {key}: {said}, and this command has {key}: {says}; "
        "repeat the first command, or give another sweep.dir"
    )


def begun(study: Study) -> int:
    """Return how many trials were begun; one that waits to be asked for was not."""
    return sum(trial.state.name != "WAITING" for trial in study.get_trials(deepcopy=False))


def finished(study: Study) -> int:
    """Return how many trials ended, with a value or without."""
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def complete(study: Study) -> list[FrozenTrial]:
    """Return the trials that gave a value."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name == "COMPLETE"]
