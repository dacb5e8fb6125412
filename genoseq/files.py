"""Atomic files, JSON, CSV, and YAML from outside."""

import csv
import io
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import yaml

from genoseq.errors import UserError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield the name of a new file beside `path`, which takes its place once the block ends without an error.

    So a reader, or a crash, meets the old content or the new, never a part. The folder is made if missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # in the same folder, since a move is atomic inside one file system only; not mkstemp, whose files others can't read
    part = path.with_name(f".{os.getpid()}.part.{path.name}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_atomic(path: Path | str, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, meets the old content or the new, never a part.

    Its folder is made if missing; text is written as UTF-8 with its line ends as they are.
    """
    with atomic_path(Path(path)) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path | str, obj: Any) -> None:
    """Write containers of numbers, strings, booleans, None, paths, arrays and tensors as JSON, the keys in their order.

    A number that is not finite becomes null, which is all that JSON has for it.
    """
    plain = json.loads(json.dumps(obj, default=_plain), parse_constant=lambda constant: None)
    write_atomic(path, json.dumps(plain, indent=2, ensure_ascii=False) + "\n")


def once(path: Path | None, make: Callable[[], Any]) -> Any:
    """Return the plain containers that `make` gives, as the file `path` has them once a process has made them.

    Processes that ask at the same time wait for the first; without a path each makes its own.
    """
    if path is None:
        return make()
    from filelock import FileLock  # here, as every Hydra application imports this module

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if not path.is_file():
            write_json(path, make())
        return json.loads(path.read_text(encoding="utf-8"))


def _plain(obj: Any) -> Any:
    if isinstance(obj, PurePath):
        return str(obj)
    if hasattr(obj, "tolist"):  # numpy's scalars and arrays, torch's tensors
        return obj.tolist()
    raise TypeError(f"{type(obj).__name__} has no plain form for JSON")


def write_csv(path: Path | str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV under one header line; the columns are all their keys in the order they first occur.

    What a row lacks, or None, is an empty cell; nan stays nan.
    """
    out = io.StringIO()
    table = csv.DictWriter(out, dict.fromkeys(key for row in rows for key in row), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_atomic(path, out.getvalue())


def read_metrics(path: Path | str) -> dict[str, list[float | None]]:
    """Return the columns of a table of numbers, such as ``metrics.csv``; None where a cell is empty or nan.

    A missing file, or a cell that is not a number, raises UserError.
    """
    import pandas

    try:
        table = pandas.read_csv(path, dtype=float, float_precision="round_trip")
    except FileNotFoundError:
        raise UserError(f"there is no {path}; give the folder of a run that has logged metrics") from None
    except pandas.errors.EmptyDataError:
        return {}
    except ValueError as error:  # a cell that is not a number, or a line with too many cells
        raise UserError(f"{path} is not a table of numbers ({str(error).strip()}); mend or remove the line") from None
    columns: dict[Any, list[float | None]] = table.astype(object).where(table.notna(), None).to_dict("list")
    return columns


def read_objective(folder: Path) -> float | None:
    """Return the validation bits per base of a finished run's folder; None if it has none."""
    try:
        value = json.loads((folder / "result.json").read_text(encoding="utf-8"))["val/bits_per_base"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


class _NoAliases(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)


def read_yaml(path: Path) -> Any:
    """Return the plain values of a YAML file; aliases, by which a short file unfolds to gigabytes, are refused.

    Raises
    ------
    OSError, ValueError, RecursionError, yaml.YAMLError
        If it cannot be read.
    """
    return yaml.load(path.read_text(encoding="utf-8"), _NoAliases)
