"""Folders that only one process writes at a time, and whose files are moved in all together or not at all."""

import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ghostnet.files import parse_json, read_bytes, scratch_name, sync_folder
from search.errors import UserError
from search.files import check_writable

LOCK = ".lock"
SCRATCH = re.compile(r"\..*\.[0-9a-f]{16}\.tmp")  # as `scratch_name` has them
_held_locks: dict[tuple[int, Path], int] = {}  # how often this process has taken each lock


@contextmanager
def locked(folder: Path, only: str = "") -> Iterator[None]:
    """Lets no other process write a folder, which is made where it is missing. This process may lock it again inside.

    The system lets go of the lock when its process dies, however it dies. What a killed writer left under a scratch
    name is taken away, and so is the folder, at the end, where it was made for nothing.

    Args:
        only: the one file of the folder that is to be written, for a folder that others share.

    Raises:
        UserError: another process has the lock, and it says which; or the folder can't be made or written.
    """
    path = folder.absolute() / (f".{only}{LOCK}" if only else LOCK)
    key = os.getpid(), path.resolve()
    if key in _held_locks:
        _held_locks[key] += 1
        try:
            yield
        finally:
            _held_locks[key] -= 1
        return
    if not folder.is_dir():
        check_writable(folder)
    new_folders = [each for each in (path.parent, *path.parent.parents) if not each.exists()]
    with ExitStack() as at_the_end:
        for each in reversed(new_folders):
            each.mkdir(exist_ok=True)
            at_the_end.callback(_remove_empty, each)
        lock = _acquire(path, folder / only)
        at_the_end.callback(lock.release)
        at_the_end.callback(path.unlink, missing_ok=True)
        _held_locks[key] = 1
        at_the_end.callback(_held_locks.pop, key)
        with suppress(OSError):  # Windows lets nobody write a file that is locked
            path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "command": _command()}))
        _sweep(path.parent, f".{only[:64]}." if only else ".")
        yield


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # it is not empty, then
        folder.rmdir()


def _sweep(folder: Path, prefix: str) -> None:
    """Removes what killed writers left, by the names that only `scratch_name` gives."""
    for left in [each for each in folder.iterdir() if SCRATCH.fullmatch(each.name)]:
        if left.name.startswith(prefix) and not left.is_symlink():
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def _acquire(path: Path, what: Path) -> Any:
    """A lock that is held. Whoever had it removes its file: who opened that file just before must try again."""
    while True:
        before, owner = _inode(path), _owner(path)
        lock = FileLock(str(path))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"{what} is in use by {_owner(path) or owner or 'another process'}") from None
        after = _inode(path)
        if after is not None and before in (None, after):
            return lock
        lock.release()


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _owner(path: Path) -> str:
    """Who holds a lock, as far as its file says."""
    try:
        content = parse_json(read_bytes(path))
        return f"process {int(content['pid'])} on {content['host']} ({content['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _command() -> str:
    """The command's first words: what follows may be a secret."""
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    names = [name for name in sys.argv[1:3] if re.fullmatch(r"[a-z]+", name)]
    return " ".join(["ghostnas" if program == "__main__.py" else program, *names[:1]])


def is_empty(folder: Path, but: Collection[str] = ()) -> bool:
    """Whether a folder has nothing but a lock, what killed writers left, and the files named."""
    return all(path.name in (LOCK, *but) or SCRATCH.fullmatch(path.name) for path in folder.iterdir())


@contextmanager
def filled_folder(folder: Path, last: str) -> Iterator[Path]:
    """Yields an empty folder inside `folder`, which must be locked; what it was filled with moves to `folder` at the
    end, or nothing does where filling it fails.

    Args:
        last: the file that moves last: a folder that has it is complete.
    """
    scratch = scratch_name(folder.absolute() / "new")
    scratch.mkdir()
    try:
        yield scratch
        for path in sorted((p for p in scratch.rglob("*") if p.is_file()), key=lambda path: path.name == last):
            target = folder / path.relative_to(scratch)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.name == last:
                sync_folder(folder)
            path.replace(target)
        sync_folder(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
