"""Ctrl-C while a training is at work."""

import signal
import threading
from contextlib import ExitStack
from types import FrameType


class Interruption(ExitStack):
    """Ctrl-C, kept until a step is done, so that what was trained can be saved; a second one ends the training at once.

    A context, that changes nothing in other threads than the main one, nor where somebody else handles Ctrl-C.
    """

    came = False

    def __enter__(self) -> "Interruption":
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._keep)
            self.callback(signal.signal, signal.SIGINT, signal.default_int_handler)
        return self

    def _keep(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
