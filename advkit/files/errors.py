"""The one exception that a user is meant to see."""

from __future__ import annotations

_LONGEST = 600  # characters: names and lists in a message may be any length, the terminal is not

OUT_OF_MEMORY, OUT_OF_MEMORY_AT_ONE = "out of memory", "out of memory at a single image"
MEMORY_ADVICE = {
    OUT_OF_MEMORY: "lower --batch-size",
    OUT_OF_MEMORY_AT_ONE: "take smaller images or a smaller model",
}
_EXHAUSTED = ("allocate memory", "not enough memory", "out of memory", "status_alloc_failed", "bad_alloc")


class InputError(Exception):
    """Something the user gave is wrong: one line that says what, where, and what to do.

    Commands print it as ``advkit: MESSAGE`` on stderr and leave with status 2.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        if len(line) > _LONGEST:  # the start says where, the end what to do
            line = f"{line[: _LONGEST // 2 - 2]} … {line[1 - _LONGEST // 2 :]}"
        super().__init__(line)


class SingleImageError(MemoryError):
    """Memory ran out with one image: no smaller batch helps."""

    def __init__(self) -> None:
        super().__init__(OUT_OF_MEMORY_AT_ONE)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out: Python's, numpy's or torch's way. Nothing is damaged then."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or any(one in words for one in _EXHAUSTED)


def memory_error(error: BaseException) -> str:
    """What to call an ``error`` that :func:`is_out_of_memory`; :data:`MEMORY_ADVICE` says what to do."""
    return OUT_OF_MEMORY_AT_ONE if isinstance(error, SingleImageError) else OUT_OF_MEMORY


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived and the state needed to resume, if any, is written.

    No ``Exception``: code that takes anything for a damaged file or a failing model must not swallow it.
    """

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message)
        self.signum = signum
