"""Parse, quote and name Hydra overrides (``data.seq_len=50``, ``+key=1``, ``~logger``)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from genoseq.errors import UserError

__all__ = ["Override", "key_of", "parse", "quote", "quote_paths", "settings", "short_names", "value_text"]

# where and how a run runs, not what it is
_NOT_SETTINGS = {"ckpt", "sweep.dir", "hparams_search"}


def parse(texts: Iterable[str]) -> list[Override]:
    """Parse overrides by Hydra's grammar.

    Raises
    ------
    UserError
        If a text is not an override.
    """
    parser = OverridesParser.create()
    overrides = []
    for text in texts:
        try:
            overrides += parser.parse_overrides([text])
        except HydraException as error:
            how = "write key=value, with quotes around a value that holds = or brackets"
            raise UserError(f"{text!r} is not an override: {how}") from error
    return overrides


def key_of(override: Override) -> str:
    """Return an override's key without ``+``, ``++`` or ``~``, with its ``@package``."""
    return str(override.get_key_element()).lstrip("+~")


def value_text(override: Override) -> str:
    """Return an override's value as it was written; an empty text for a deletion without one."""
    return str(override.input_line).partition("=")[2].strip()


def settings(texts: Iterable[str]) -> dict[str, str]:
    """Return the values of overrides as they were written, by key.

    Left out is what says where and how a run runs: `ckpt`, `sweep.dir`, the search preset, and all of ``hydra``.
    """
    return {
        key_of(override): value_text(override)
        for override in parse(texts)
        if not override.is_hydra_override() and key_of(override) not in _NOT_SETTINGS
    }


def quote(value: str) -> str:
    """Return a text in quotes, as Hydra's grammar reads it back unchanged."""
    return str(QuotedString(value, Quote.single).with_quotes())


def quote_paths(argv: Iterable[str]) -> list[str]:
    """Return a command's arguments with quotes around the paths that Hydra would refuse or take for a sweep.

    The folder of a sweep's run has ``=`` and ``,`` in its name.
    """
    return [_quote_path(argument) for argument in argv]


def _quote_path(argument: str) -> str:
    key, equals, value = argument.partition("=")
    if not equals or argument.startswith("-"):
        return argument
    try:
        read_whole = not parse([argument])[0].is_sweep_override()
    except UserError:
        read_whole = False
    return argument if read_whole or not _exists(value) else f"{key}={quote(value)}"


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # too long for a file's name, or no name at all
        return False


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Return each key's last part (`seq_len` for `data.seq_len`), or the whole key where two share that part."""
    keys = list(dict.fromkeys(keys))
    last = {key: key.replace("/", ".").rsplit(".", 1)[-1] for key in keys}
    shared = Counter(last.values())
    return {key: name if shared[name] == 1 else key.replace("/", ".") for key, name in last.items()}
