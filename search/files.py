"""Text and JSON files that are written completely or not at all, and logs in which an incomplete last line is ignored.

What is read may come from anybody, so JSON is read strictly, here and nowhere else; `search.records` says what must be
in it.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import ghostnet.files
from ghostnet.files import MOST_BYTES, JsonObject, naming, sync_folder, write_bytes
from search.errors import UserError

__all__ = [
    "JsonLines",
    "JsonObject",
    "check_file",
    "check_writable",
    "glob",
    "parse_json",
    "read_bytes",
    "read_json",
    "write_bytes",
    "write_json",
    "write_text",
]
MOST_JSON = 1 << 24  # bytes of a value, a file's or a line's: the longest of ours have some 1 MB


def write_text(path: Path, content: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """`write_text` of indented JSON; not-a-number is refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a file that may come from anybody.

    Raises:
        UserError: it is no regular file, or it has more than `most` bytes.
        OSError: there is no such file.
    """
    try:
        return ghostnet.files.read_bytes(path, most)
    except ValueError as error:
        raise UserError(f"{path} {error}") from None


def read_json(path: Path) -> Any:
    """The JSON value in a file, read strictly.

    Raises:
        UserError: as `parse_json` and `read_bytes`.
        OSError: there is no such file.
    """
    return parse_json(read_bytes(path, MOST_JSON), str(path))


def parse_json(content: bytes, source: str) -> Any:
    """The value of JSON text, read strictly (`ghostnet.files.parse_json`).

    Args:
        source: the file or the line that it comes from, for the message.

    Raises:
        UserError: it is no such text, or has more than `MOST_JSON` bytes.
    """
    if len(content) > MOST_JSON:
        raise UserError(f"{source} must have at most {MOST_JSON:,} bytes, but it has {len(content):,}")
    try:
        return ghostnet.files.parse_json(content)
    except ValueError as error:
        raise UserError(f"{source} is not JSON: {error}") from None


def glob(folder: Path, pattern: str) -> list[Path]:
    """What a folder has of a pattern, in order, such as `*/trained.json`; nothing where there is no folder.

    Raises:
        OSError: a folder can't be read. `Path.glob` takes it for an empty one.
    """
    paths = [folder]
    for part in pattern.split("/"):
        folders = [path for path in paths if path.is_dir()]
        paths = [path for each in folders for path in each.iterdir() if fnmatchcase(path.name, part)]
    return sorted(paths)


def check_writable(folder: Path) -> None:
    """Checks, before any work is done, that a folder can be written to or created.

    Raises:
        UserError: it can't.
        OSError: the path is none, such as one with a name that is too long.
    """
    for there in (folder, *folder.parents):
        try:
            there.stat()
        except FileNotFoundError:
            continue
        except NotADirectoryError:  # below a file
            break
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            return
        break
    raise UserError(f"{folder} is no folder that can be written to: `out` must be another place")


def check_file(path: Path) -> None:
    """Checks, before any work is done, that a path is a file's, which may be yet to come.

    Raises:
        UserError: it is a folder's, such as `.`.
    """
    if not path.name or path.is_dir():
        raise UserError(f"{path} must be a file, but it is a folder: `out` must be another place")


class JsonLines:
    """An append-only log, one JSON object a line. A line is on the disk when `append` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[JsonObject]:
        """The complete lines, in order. A last line that was cut short by a kill is ignored.

        Raises:
            UserError: another line is no JSON object.
        """
        if self.path.exists():
            for number, line in enumerate(read_bytes(self.path).split(b"\n")[:-1], 1):
                row = parse_json(line, self.line_name(number))
                if not isinstance(row, dict):
                    raise UserError(f"{self.line_name(number)} must be a JSON object, but got {str(row)[:40]}")
                yield row

    def line_name(self, number: int) -> str:
        """How a message names a line; the first is number 1."""
        return f"{self.path}, line {number}"

    def append(self, row: Mapping[str, Any]) -> None:
        self.extend([row])

    def extend(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds rows, after dropping what a kill left of a last line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with naming(self.path), self.path.open("a+b") as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            file.write(b"".join(json.dumps(dict(row), allow_nan=False).encode() + b"\n" for row in rows))
            file.flush()
            os.fsync(file.fileno())
        if not end:
            sync_folder(self.path.parent)
