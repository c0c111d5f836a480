"""Checkpoints: the newest and the one before it, so that a damaged file costs minutes, not a training."""

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from search.files import write_bytes
from search.identity import Identity, check_same
from search.terminal import say


class Checkpoint:
    """What a training goes on from, at `path`; the one before it beside it.

    Args:
        of: what is trained, on what and how; a checkpoint of anything else is refused.
    """

    def __init__(self, path: Path, of: Identity) -> None:
        self.path, self.of = path, of
        self.before = path.with_name(f"previous-{path.name}")

    def save(self, values: dict[str, Any]) -> None:
        """Writes a new one; the newest so far becomes the one before."""
        content = io.BytesIO()
        torch.save({"of": dict(self.of), **values}, content)
        if self.path.exists():
            self.path.replace(self.before)
        write_bytes(self.path, content.getvalue())

    def load(self) -> dict[str, Any] | None:
        """The newest whole one; None where there is none.

        Raises:
            UserError: it is of another training.
        """
        for path in (self.path, self.before):
            if not path.exists():
                continue
            try:
                with zipfile.ZipFile(path) as archive:
                    if archive.testzip():  # torch doesn't look at the checksums it writes
                        raise zipfile.BadZipFile
                values = torch.load(path, weights_only=True, map_location="cpu")
                of = values["of"]
            except Exception:  # torch's reader fails in any way on damaged bytes
                say(f"{path} is damaged: the checkpoint before it is taken, if there is one")
                continue
            check_same(of, self.of, f"{path} is of another training")
            return values
        return None

    def remove(self) -> None:
        """Takes both away: the training is finished."""
        for path in (self.path, self.before):
            path.unlink(missing_ok=True)
