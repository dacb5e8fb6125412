"""Build what a file from outside names: only classes of genoseq, or of packages that the user trusts by name."""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from genoseq.errors import UserError
from genoseq.overrides import parse

T = TypeVar("T")
_NEVER = {*sys.stdlib_module_names, "hydra"}  # no advice to trust these
_HYDRAS = {"_target_", "_convert_", "_recursive_"}  # how Hydra passes arguments does not matter to plain values


def trusted_class(target: Any, base: type[T], trust: Sequence[str] = ()) -> type[T]:
    """Return the class at a dotted path if it is a `base`, defined in genoseq or in a package or module of `trust`.

    Nothing is imported before the path is known to lie in one of them.
    """
    packages = ("genoseq", *([trust] if isinstance(trust, str) else map(str, trust)))
    shown = f"{target!r:.100}" if isinstance(target, str) else f"a {type(target).__name__}"
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        raise UserError(f"{shown} is not the dotted path of a class")
    root = target.partition(".")[0]
    if root == "hydra" or not _inside(target, packages):
        advice = "" if root in _NEVER else f"; if you trust its authors, add trust=[{root:.100}]"
        raise UserError(f"{shown} is neither in genoseq nor in a package of trust=, and was not imported{advice}")
    module, _, name = target.rpartition(".")
    try:
        found = vars(importlib.import_module(module or target)).get(name)
    except Exception as error:
        raise UserError(f"{shown} cannot be imported: {_reason(error)}") from error
    if not isinstance(found, type) or not _inside(found.__module__, packages) or not issubclass(found, base):
        raise UserError(f"{shown} is not a {base.__name__} class defined in genoseq or in a trusted package")
    return found


def instantiate_trusted(
    node: Any, base: type[T], trust: Sequence[str] = (), places: Mapping[str, type] | None = None, **extra: Any
) -> T:
    """Build the object that a file from outside describes: ``_target_``, a subclass of `base`, with plain arguments.

    Strings are taken literally: nothing is resolved or interpolated. `extra` arguments take precedence.

    Parameters
    ----------
    places : mapping of str to type
        Arguments that are objects themselves, with their base classes; such an object may be ``_partial_``.
    """
    if not isinstance(node, dict) or "_target_" not in node:
        raise UserError(f"the checkpoint's config names no {base.__name__} class")
    kind = trusted_class(node["_target_"], base, trust)
    arguments: dict[str, Any] = {}
    for name, value in node.items():
        if places and name in places and isinstance(value, dict):
            inner = {key: v for key, v in value.items() if key != "_partial_"}
            build = functools.partial(instantiate_trusted, inner, places[name], trust)
            arguments[name] = build if value.get("_partial_") is True else build()
        elif isinstance(name, str) and not name.startswith("_") and is_plain(value) and not _targets(name, value):
            arguments[name] = value
        elif name not in _HYDRAS:
            raise UserError(f"the argument {str(name)!r:.100} of {kind.__name__} is not a plain value")
    try:
        return kind(**(arguments | extra))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{kind.__name__} cannot be built with the checkpoint's arguments: {_reason(error)}") from error


def check_overrides(overrides: Sequence[str], trust: Sequence[str] = ()) -> None:
    """Check that recorded overrides name only trusted classes, call no resolver and stay in the config folder."""
    for text, override in zip(overrides, parse(overrides), strict=True):
        shown = f"the recorded override {text!r:.100}"
        key, value = override.key_or_group, override.value()
        if re.search(r"\$\{.*:", text, re.DOTALL):  # also ${${name}:…}, whose name is another key's value
            raise UserError(f"{shown} calls a resolver; give its value instead")
        outside = ".." in key or ("." not in key and ".." in str(value))  # of the config folder, as a group's choice
        if outside or override.is_sweep_override() or "hydra" in f"{key}@{override.package}":
            raise UserError(f"{shown} is not a setting of one run")
        for target in _targets(key, value):
            trusted_class(target, object, trust)


def is_plain(value: Any, depth: int = 0, seen: set[int] | None = None) -> bool:
    """Return whether a value is None, a boolean, a number, a string, or a tree of dicts and lists of them."""
    if not isinstance(value, (dict, list)):
        return value is None or type(value) in (bool, int, float, str)
    seen = set() if seen is None else seen
    if depth > 20 or id(value) in seen:  # a pickled list may hold itself, or unfold to gigabytes
        return False
    seen.add(id(value))
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    return all(is_plain(v, depth + 1, seen) for v in inner)


def _targets(key: str, value: Any) -> list[Any]:
    """Return the values, in dicts and lists too, whose keys say ``_target_``."""
    if isinstance(value, dict):
        return [target for name, inner in value.items() for target in _targets(f"{key}.{name}", inner)]
    if isinstance(value, list):
        return [target for inner in value for target in _targets(key, inner)]
    return [value] if "_target_" in key else []


def _inside(path: str, packages: Sequence[str]) -> bool:
    return any(path == package or path.startswith(f"{package}.") for package in packages)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": .")
