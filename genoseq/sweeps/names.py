"""Short, readable names for settings: ``seq_len`` for ``data.seq_len``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Return, by override key, its last word (``data.seq_len``: ``seq_len``), or the whole key where two share it."""
    keys = list(dict.fromkeys(keys))
    last = {key: key.replace("/", ".").rsplit(".", 1)[-1] for key in keys}
    shared = Counter(last.values())
    return {key: word if shared[word] == 1 else key.replace("/", ".") for key, word in last.items()}
