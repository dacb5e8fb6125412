"""Build what a file from outside names: only classes of genoseq, or of packages that the user trusts by name."""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from genoseq.errors import UserError
from genoseq.overrides import parse

T = TypeVar("T")
_NO_PLACES: Mapping[str, type] = MappingProxyType({})
_NEVER = {*sys.stdlib_module_names, "hydra"}  # no advice to trust these
_HYDRAS = {"_target_", "_convert_", "_recursive_"}  # how Hydra passes arguments does not matter to plain values


def check_target(target: str, trust: Sequence[str] = ()) -> None:
    """Check that a dotted path lies in genoseq or in a trusted package. Nothing is imported.

    Parameters
    ----------
    target : str
        ``package.module.Class``.
    trust : sequence of str
        Packages, or modules of packages, whose authors the user trusts.

    Raises
    ------
    UserError
        If it lies elsewhere, lies in Hydra, or is not identifiers joined by dots.
    """
    shown = _shown(target)
    if not isinstance(target, str) or not all(part.isidentifier() for part in target.split(".")):
        raise UserError(f"{shown} is not the dotted path of a class")
    if _inside(target, ("hydra",)) or not _inside(target, _packages(trust)):
        root = target.partition(".")[0]
        advice = "" if root in _NEVER else f"; if you trust its authors, add trust=[{root}]"
        raise UserError(
            f"{shown} is neither in genoseq nor in a package that trust= names, and was not imported{advice}"
        )


def trusted_class(target: str, base: type[T], trust: Sequence[str] = ()) -> type[T]:
    """Return the class at a dotted path if it is defined in genoseq or in a trusted package and is a `base`.

    Raises
    ------
    UserError
        If `check_target` refuses it, it cannot be imported, or it is anything but such a class.
    """
    check_target(target, trust)
    module, _, name = target.rpartition(".")
    try:
        found = vars(importlib.import_module(module or target)).get(name)
    except Exception as error:
        raise UserError(f"{_shown(target)} cannot be imported: {_reason(error)}") from error
    if not isinstance(found, type) or not _inside(found.__module__, _packages(trust)) or not issubclass(found, base):
        kind = "class" if base is object else f"subclass of {base.__name__}"
        raise UserError(f"{_shown(target)} is not a {kind} defined in genoseq or in a trusted package")
    return found


def instantiate_trusted(
    node: Any, base: type[T], trust: Sequence[str] = (), places: Mapping[str, type] = _NO_PLACES, **extra: Any
) -> T:
    """Build the object that a file from outside describes.

    Strings are taken literally: nothing is resolved or interpolated.

    Parameters
    ----------
    node : mapping
        ``_target_`` and the arguments of its class: None, booleans, numbers, strings, and lists and mappings of them.
    base : type
        The class must be a subclass of it.
    trust : sequence of str
        As in `check_target`.
    places : mapping of str to type
        Arguments that are objects themselves, with their base classes; such an object may be ``_partial_``.
    extra : Any
        Arguments of the caller, which take precedence.

    Raises
    ------
    UserError
        If the node asks for anything else, or its class refuses the arguments.
    """
    kind, arguments = _parse(node, base, trust, places)
    return _call(kind, arguments, **extra)


def check_overrides(overrides: Sequence[str], trust: Sequence[str] = ()) -> None:
    """Check overrides that a file from outside recorded, before they are composed.

    Raises
    ------
    UserError
        If one names a class that is not in genoseq or a trusted package, calls a resolver, or leaves the config folder.
    """
    for text, override in zip(overrides, parse(overrides), strict=True):
        shown = f"the recorded override {_shown(text)}"
        key: str = override.key_or_group
        value: Any = override.value()
        if re.search(r"\$\{.*:", text, re.DOTALL):  # also ${${name}:…}, whose name is another key's value
            raise UserError(f"{shown} calls a resolver; give its value instead")
        # the choice of a group is a path below the config folder
        if ".." in key or ("." not in key and ".." in str(value)):
            raise UserError(f"{shown} names a config outside the config folder")
        if override.is_sweep_override() or re.match(r"hydra\b", key) or re.match(r"hydra\b", override.package or ""):
            raise UserError(f"{shown} is not a setting of one run")
        targets: list[Any] = [value] if "_target_" in key else _targets(value)
        for target in targets:
            trusted_class(target, object, trust)


def _parse(
    node: Any, base: type[T], trust: Sequence[str], places: Mapping[str, type]
) -> tuple[type[T], dict[str, Any]]:
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise UserError(f"the checkpoint's config names no {base.__name__} class")
    kind = trusted_class(node["_target_"], base, trust)
    arguments: dict[str, Any] = {}
    for name, value in node.items():
        if name in places and isinstance(value, Mapping):
            arguments[name] = _nested(value, places[name], trust)
        elif isinstance(name, str) and not name.startswith("_") and _is_plain(value):
            arguments[name] = value
        elif name not in _HYDRAS:
            raise UserError(f"the argument {_shown(name)} of {_shown(node['_target_'])} is not a plain value")
    return kind, arguments


def _nested(node: Mapping[str, Any], base: type, trust: Sequence[str]) -> Any:
    partial = node.get("_partial_", False) is True
    kind: type[Any]
    kind, arguments = _parse({k: v for k, v in node.items() if k != "_partial_"}, base, trust, _NO_PLACES)
    return functools.partial(_call, kind, arguments) if partial else _call(kind, arguments)


def _call(kind: type[T], arguments: dict[str, Any], /, **extra: Any) -> T:
    try:
        return kind(**(arguments | extra))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{kind.__name__} cannot be built with the checkpoint's arguments: {_reason(error)}") from error


def _is_plain(value: Any, depth: int = 0) -> bool:
    if depth > 20:  # a pickled list may hold itself
        return False
    if isinstance(value, Mapping):
        return "_target_" not in value and all(isinstance(k, str) and _is_plain(v, depth + 1) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(v, depth + 1) for v in value)
    return value is None or type(value) in (bool, int, float, str)


def _targets(value: Any) -> list[Any]:
    """Return every ``_target_`` in plain containers."""
    if isinstance(value, Mapping):
        return [target for k, v in value.items() for target in ([v] if str(k) == "_target_" else _targets(v))]
    return [target for v in value for target in _targets(v)] if isinstance(value, (list, tuple)) else []


def _packages(trust: Sequence[str]) -> tuple[str, ...]:
    return ("genoseq", *([trust] if isinstance(trust, str) else map(str, trust)))


def _inside(path: str, packages: Sequence[str]) -> bool:
    return any(path == package or path.startswith(f"{package}.") for package in packages)


def _shown(text: Any) -> str:
    return f"'{text}'" if isinstance(text, str) and text.isprintable() and len(text) <= 100 else f"{text!r:.100}"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": .")
