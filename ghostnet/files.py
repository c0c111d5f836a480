"""Files that are whole or absent: written under a temporary name and renamed; and JSON and TOML, read strictly."""

import json
import math
import os
import secrets
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

MOST_BYTES = 1 << 28  # of a text file: the longest of ours, logs of many thousand trials, have some 10 MB
ARCH_FILE, WEIGHTS_FILE = "arch.json", "weights.safetensors"  # in the folder of a network
PARENT = "parent"  # such a folder in a transplanted supernet's
HUB_WEIGHTS_FILE = "model.safetensors"  # in place of the second in a folder for the Hugging Face Hub
JsonObject = dict[str, Any]  # as it is read or written, before or after a type says what is in it
TomlDocument = dict[str, Any]
DEEPEST = 32  # lists and objects in each other; ours have 8


def weights_file(folder: Path) -> Path:
    """Where the weights of the network in a folder are, or would be."""
    own, hub = folder / WEIGHTS_FILE, folder / HUB_WEIGHTS_FILE
    return hub if hub.is_file() and not own.exists() else own


def network_folder(folder: Path) -> Path:
    """The folder of the network that a folder is, or of a transplanted supernet's parent."""
    is_supernet = (folder / PARENT / ARCH_FILE).is_file() and not (folder / ARCH_FILE).exists()
    return folder / PARENT if is_supernet else folder


def write_bytes(path: Path, content: bytes) -> None:
    """Writes the file in one step: a reader, a kill or a power cut at any moment meets the old content or the new.

    Raises:
        OSError: it can't be written; names `path`, whose content is what it was.
    """
    scratch = scratch_name(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path):
        try:
            with scratch.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Around what reads or writes a file: an error names it, which a full or a failing disk's doesn't."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def scratch_name(path: Path) -> Path:
    """A name beside `path` that nothing else has, for what is to be renamed to it. Not one of `tempfile`'s, whose files
    only their owner may read."""
    return path.with_name(f".{path.name[:64]}.{secrets.token_hex(8)}.tmp")


def sync_folder(folder: Path) -> None:
    """Flushes a folder's list of files to the disk, as far as the system has that; until then, a power cut may undo a
    renaming."""
    with suppress(OSError):  # Windows opens no folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a file that may come from anybody.

    Raises:
        ValueError: it is no regular file, which might block or never end, or it has more than `most` bytes.
        OSError: there is no such file, or it can't be read; names `path`.
    """
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise ValueError(f"must be a file, but it is a {'folder' if path.is_dir() else 'device or a pipe'}")
    if about.st_size > most:
        raise ValueError(f"must have at most {most:,} bytes, but it has {about.st_size:,}")
    with naming(path):
        return path.read_bytes()


def parse_json(content: bytes) -> Any:
    """The value of JSON text that may come from anybody: in UTF-8, no key twice, every number finite and every whole
    one of at most 64 bits, nested at most `DEEPEST` deep.

    Raises:
        ValueError: it is no such text.
    """
    try:
        value = json.loads(
            content.decode("utf-8-sig"),  # as editors on Windows save it
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} deep") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error.reason} at byte {error.start}") from None
    _check(value, 0)
    return value


def parse_toml(text: str) -> TomlDocument:
    """The table of TOML text that may come from anybody, under the rules of `parse_json`.

    Raises:
        ValueError: it is no such text.
    """
    try:
        value = tomllib.loads(text, parse_float=_finite)
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} deep") from None
    _check(value, 0)
    return value


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values: dict[str, object] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key {key[:80]!r} is there twice")
        values[key] = value
    return values


def _integer(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"a whole number must have at most 64 bits, but got {text[:24]}")
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"a number must be finite, but got {text[:24]}")
    return value


def _check(value: Any, depth: int) -> None:
    """Refuses depth, and text that can't be written again."""
    if depth > DEEPEST:
        raise ValueError(f"nested more than {DEEPEST} deep")
    if isinstance(value, str):
        value.encode()  # fails on half a surrogate pair
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"a whole number must have at most 64 bits, but got {value:#x}"[:80])
    for each in (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check(each, depth + 1)
