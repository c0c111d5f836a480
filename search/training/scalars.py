"""Scalars for TensorBoard, where it is installed."""

import threading
from functools import cache
from pathlib import Path
from typing import Any

from search.progress import best_effort

EVENTS = "TensorBoard's event files"


class Scalars:
    """Event files in a folder; nothing at all where `folder` is None. Values are written by `flush`, which belongs
    after a checkpoint: so a killed training leaves none that the resumed one writes again.

    Args:
        step: the last step before this process; where a damaged checkpoint sent it back, what is later is passed over.
    """

    def __init__(self, folder: Path | None, step: int) -> None:
        self._writer: Any = None
        self._waiting: list[tuple[str, float, int]] = []
        if folder is None:
            return
        with best_effort(EVENTS):
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ModuleNotFoundError:  # a training machine may lack it
                return
            _silence_its_threads()
            self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def add(self, step: int, values: dict[str, float]) -> None:
        """Keeps values by name until they are written."""
        self._waiting += [(name, value, step) for name, value in values.items()]

    def flush(self) -> None:
        """Writes what was kept."""
        waiting, self._waiting = self._waiting, []
        if self._writer:
            with best_effort(EVENTS):
                for name, value, step in waiting:
                    self._writer.add_scalar(name, value, step)
                self._writer.flush()

    def close(self) -> None:
        """Writes what was kept, and ends."""
        self.flush()
        if self._writer:
            with best_effort(EVENTS):
                self._writer.close()


@cache
def _silence_its_threads() -> None:
    """Keeps what fails in a thread of TensorBoard's off the terminal: its writer raises it again, for `best_effort`."""
    printing = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        if not type(failed.thread).__module__.startswith("tensorboard."):
            printing(failed)

    threading.excepthook = hook
