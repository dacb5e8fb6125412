"""Files that are whole or not there: written beside their place, then moved into it."""

import os
from pathlib import Path


def write_atomic(path: Path | str, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, meets the old content or the new, never a part.

    Parameters
    ----------
    path : Path or str
        Its folder is made if missing.
    content : str or bytes
        Text is written as UTF-8 with its line ends as they are.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    # in the same folder, since a move is atomic inside one file system only; not mkstemp, whose files others can't read
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
