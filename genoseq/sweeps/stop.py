"""How a sweep whose jobs run elsewhere is stopped: signals are counted here, and a file tells every worker.

A file, since all that the machines surely share is the sweep's folder: nothing has to reach a worker, or know whether
it has started yet.
"""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from genoseq.files import write_atomic

SAVE, KILL = "save", "kill"
_FILE = ".stop"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def ask(sweep: Path, word: str) -> None:
    """Ask the workers of a sweep to have their jobs save and end (`SAVE`), or to end them at once (`KILL`)."""
    write_atomic(sweep / _FILE, word)


def asked(sweep: Path) -> str | None:
    """Return what the workers of a sweep are asked, if anything."""
    try:
        return (sweep / _FILE).read_text()
    except FileNotFoundError:
        return None


def clear(sweep: Path) -> None:
    """Take back what was asked."""
    (sweep / _FILE).unlink(missing_ok=True)


class Signals:
    """Counts Ctrl-C and SIGTERM instead of dying of them.

    Attributes
    ----------
    number : int or None
        The first signal.
    count : int
        How many came.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.count = 0
        self._told = 0
        self._back = ExitStack()

    def __enter__(self) -> Signals:
        """Take the signals over (only the main thread may)."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._back.callback(signal.signal, number, signal.signal(number, self._received))
        return self

    def __exit__(self, *error: object) -> None:
        """Give them back."""
        self._back.close()

    def _received(self, number: int, frame: Any) -> None:
        self.number = self.number or number
        self.count += 1

    def news(self) -> str | None:
        """Return what to ask the workers, once a signal."""
        if self.count == self._told:
            return None
        word = KILL if self.count > 1 else SAVE
        self._told = self.count
        return word
