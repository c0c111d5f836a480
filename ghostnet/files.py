"""Files that are whole or absent: written under a temporary name and renamed."""

import os
from pathlib import Path


def write_bytes(path: Path, content: bytes) -> None:
    """Writes the file in one step: a reader, or a kill at any moment, sees the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")  # what a kill leaves of it, the next writing takes away
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
