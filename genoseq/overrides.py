"""Words of a command line, as Hydra's grammar takes them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_OWN = ("ckpt", "sweep.dir")  # where a run is and what it goes on from is not what it is


def settings_of(overrides: Iterable[str]) -> dict[str, str]:
    """Return overrides by key, the values as they stand; without the places that are a run's own."""
    pairs = (text.lstrip("+~").partition("=") for text in overrides)
    return {key: value for key, _, value in pairs if key not in _OWN and not re.match(r"hydra[./]", key)}


def quoted(value: str) -> str:
    """Return a value as Hydra's grammar reads it back, whatever letters it has."""
    return "'" + value.replace("'", "\\'") + "'"


def quote_paths(words: list[str]) -> list[str]:
    """Return command-line words with the paths quoted that Hydra would not take: a run of a sweep has = and , in it."""

    def mended(word: str) -> str:
        key, equals, value = word.partition("=")
        plain = re.fullmatch(r"[^'\"\[{$]*[=,][^'\"\[{$]*", value)
        return f"{key}={quoted(value)}" if equals and plain and Path(value).exists() else word

    return [mended(word) for word in words]
