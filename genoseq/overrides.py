"""Parse, quote and name Hydra overrides (``data.seq_len=50``, ``+key=1``, ``~logger``)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from genoseq.errors import UserError


def parse(texts: Iterable[str]) -> list[Override]:
    """Parse overrides by Hydra's grammar; raise `UserError` naming the text that is none."""
    parser = OverridesParser.create()
    overrides = []
    for text in texts:
        try:
            overrides += parser.parse_overrides([text])
        except (HydraException, RecursionError) as error:  # nested without end
            how = "write key=value, with quotes around a value that holds = or brackets"
            raise UserError(f"{text!r:.200} is not an override: {how}") from error
    return overrides


def key_of(override: Override) -> str:
    """Return an override's key without ``+``, ``++`` or ``~``, with its ``@package``."""
    return str(override.get_key_element()).lstrip("+~")


def value_text(override: Override) -> str:
    """Return an override's value as it was written; an empty text for a deletion without one."""
    return str(override.input_line).partition("=")[2].strip()


def is_setting(override: Override) -> bool:
    """Return whether an override says what a run is, and not only where or how it runs."""
    return not override.is_hydra_override() and key_of(override) not in ("ckpt", "sweep.dir", "hparams_search")


def settings(texts: Iterable[str]) -> dict[str, str]:
    """Return the values of those overrides that are settings as they were written, by key."""
    return {key_of(override): value_text(override) for override in parse(texts) if is_setting(override)}


def quote(value: str) -> str:
    """Return a text in quotes, as Hydra's grammar reads it back unchanged."""
    return str(QuotedString(value, Quote.single).with_quotes())


def quote_paths(argv: Iterable[str]) -> list[str]:
    """Return a command's arguments with quotes around the paths that Hydra would refuse or take for a sweep.

    The folder of a sweep's run has ``=`` and ``,`` in its name.
    """
    return [_quote_path(argument) for argument in argv]


def _quote_path(argument: str) -> str:
    key, _, value = argument.partition("=")
    if argument.startswith("-") or not os.path.exists(value):  # noqa: PTH110 (False for a name that is too long)
        return argument
    try:
        reads_whole = not parse([argument])[0].is_sweep_override()
    except UserError:
        reads_whole = False
    return argument if reads_whole else f"{key}={quote(value)}"


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Return each key's last part (`seq_len` for `data.seq_len`), or the whole key where two share that part."""
    dotted = {key: key.replace("/", ".") for key in keys}
    last = {key: name.rpartition(".")[2] for key, name in dotted.items()}
    shared = Counter(last.values())
    return {key: last[key] if shared[last[key]] == 1 else name for key, name in dotted.items()}
