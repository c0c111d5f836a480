"""When work must end: a moment by `time.monotonic()`, or None, which never comes."""

import time


def deadline_in(seconds: float | None) -> float | None:
    """The moment so many seconds from now; None of no limit."""
    return None if seconds is None else time.monotonic() + seconds


def has_passed(deadline: float | None) -> bool:
    """Whether it is later than that; never, where there is no deadline."""
    return deadline is not None and time.monotonic() > deadline
