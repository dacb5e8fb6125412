"""`UserError`, whose message is shown to the user, and what turns other errors into one."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


class UserError(Exception):
    """A mistake the user can mend.

    Commands print its message as one sentence, without a traceback, and exit with code 2.
    The message says what is wrong, where (file, line, record) and what to do about it.
    """


def fail(message: str) -> NoReturn:
    """Print one sentence for the user and exit with code 2."""
    message = "".join(letter if letter.isprintable() else " " for letter in message)  # it may quote a stranger's file
    print(f"genoseq: {message}", file=sys.stderr)
    raise SystemExit(2)


@contextmanager
def user_mistakes(what: str) -> Iterator[None]:
    """Turn what a library refuses while it builds `what` from the user's values into a `UserError`.

    HYDRA_FULL_ERROR=1 in the environment leaves the library's own error.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        refused = isinstance(error, (TypeError, ValueError, ImportError))
        # Lightning's MisconfigurationException is not to be imported here
        if "HYDRA_FULL_ERROR" in os.environ or not (refused or type(error).__name__ == "MisconfigurationException"):
            raise
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"{what} cannot be built as the config says: {reason} (HYDRA_FULL_ERROR=1 shows where)"
        ) from error
