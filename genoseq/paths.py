"""Where the package keeps what is not code."""

from pathlib import Path

from genoseq.errors import UserError

_PACKAGE = Path(__file__).resolve().parent


def conf_dir() -> Path:
    """Return the folder of the Hydra configuration.

    Returns
    -------
    Path
        ``genoseq/conf`` in an installed wheel, else ``conf`` at the top of the checkout.

    Raises
    ------
    UserError
        If neither is there.
    """
    for folder in (_PACKAGE / "conf", _PACKAGE.parent / "conf"):
        if folder.is_dir():
            return folder
    raise UserError(
        f"The configuration folder is missing ({_PACKAGE / 'conf'} or {_PACKAGE.parent / 'conf'}): "
        "install genoseq again, or run it from a whole checkout."
    )
