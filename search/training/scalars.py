"""Scalars for TensorBoard, where it is installed."""

from pathlib import Path


class Scalars:
    """Event files in a folder; nothing at all where `folder` is None.

    Args:
        step: the first step that this process will write; what a killed one wrote from there on is passed over.
    """

    def __init__(self, folder: Path | None, step: int) -> None:
        self._writer = None
        if folder:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ModuleNotFoundError:  # a training machine may lack it
                return
            self._writer = SummaryWriter(str(folder), purge_step=step if step else None)

    def add(self, step: int, values: dict[str, float]) -> None:
        """Writes values by name."""
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes what was written."""
        if self._writer:
            self._writer.close()
