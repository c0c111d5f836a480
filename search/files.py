"""Text and JSON files that are whole or absent; logs whose torn last line is forgiven."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ghostnet.files import write_bytes
from search.errors import UserError

__all__ = ["JsonLines", "read_json", "write_bytes", "write_json", "write_text"]


def write_text(path: Path, content: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """`write_text` of indented JSON; not-a-number is refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value in a file.

    Raises:
        UserError: it is not JSON.
        OSError: there is no such file.
    """
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from None


class JsonLines:
    """An append-only log, one JSON object a line. A line is on the disk when `append` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The whole lines, in order. A last line that a kill tore is passed over.

        Raises:
            UserError: another line is not JSON.
        """
        if self.path.exists():
            for number, line in enumerate(self.path.read_bytes().split(b"\n")[:-1], 1):
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise UserError(f"{self.path}, line {number}, is not JSON: {error}") from None

    def append(self, row: dict[str, Any]) -> None:
        self.extend([row])

    def extend(self, rows: list[dict[str, Any]]) -> None:
        """Adds rows, after dropping what a kill left of a last line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            file.write(b"".join(json.dumps(row, allow_nan=False).encode() + b"\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())
