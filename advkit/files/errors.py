"""The one exception that a user is meant to see."""

from __future__ import annotations


class InputError(Exception):
    """Something the user gave is wrong: one line that says what, where, and what to do.

    Commands print it as ``advkit: MESSAGE`` on stderr and leave with status 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived and the state needed to resume, if any, is written.

    No ``Exception``: code that takes anything for a damaged file or a failing model must not swallow it.
    """

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message)
        self.signum = signum
