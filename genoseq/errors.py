"""The one error class whose text is meant for the user, and the end that it makes."""

import sys
from typing import NoReturn


class UserError(Exception):
    """A mistake the user can mend.

    Verbs print its message as one sentence, without a traceback, and exit with code 2.
    The message says what is wrong, where (file, line, record) and what to do about it.
    """


def fail(message: str) -> NoReturn:
    """Print one sentence for the user and exit with code 2."""
    print(f"genoseq: {message}", file=sys.stderr)
    raise SystemExit(2)
