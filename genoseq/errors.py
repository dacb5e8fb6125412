"""The one error class whose text is meant for the user."""


class UserError(Exception):
    """A mistake the user can mend.

    Verbs print its message as one sentence, without a traceback, and exit with code 2.
    The message says what is wrong, where (file, line, record) and what to do about it.
    """
