"""A time limit on a call in this process."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class TimeLimit(BaseException):  # passes the `except Exception` of what it ends
    """The call took too long."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Ends what hangs in Python code, by an alarm. Needs the main thread of a Unix process; elsewhere nothing is ended.

    Raises:
        TimeLimit: the time is up.
    """
    if seconds is None or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: Any) -> None:
        raise TimeLimit(f"took over {seconds:g} s")

    handler: Callable[..., Any] | int | None = signal.signal(signal.SIGALRM, ring)
    left, again = signal.setitimer(signal.ITIMER_REAL, seconds)
    start = time.monotonic()
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:  # somebody else's alarm
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - start), 0.001), again)
