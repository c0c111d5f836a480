"""Files of the driver's, for workers on machines that don't see its disk.

A worker that sees a folder (on the driver's machine, or on a shared disk) works in it. Elsewhere it works in a copy,
and every file that it writes there goes back while it works, so that a worker on another machine can go on from its
checkpoint.
"""

import os
import secrets
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from ghostnet.files import ARCH_FILE
from search.errors import UserError
from search.files import write_bytes
from search.folders import LOCK, SCRATCH
from search.identity import file_digest

SEND_EVERY_S = 1.0
ANSWER_S = 60.0  # that a driver's answer may take
MARK = ".driver-"  # begins the name of a file by which a worker sees that a folder is the driver's own
Stamp = tuple[int, int]  # of a file: when it was written, in nanoseconds, and its bytes


class Desk:
    """Gives and takes files of the driver's; an actor on its machine.

    Args:
        places: files and folders that workers may read and write; nothing else is given or taken.
    """

    def __init__(self, places: Sequence[str]) -> None:
        self.places = set(places)

    def read(self, place: str) -> dict[str, bytes]:
        """All files of a folder, by their path in it; a file's own content by its name, and the `arch.json` beside it,
        which says what a parent's weights don't."""
        root = self._known(place)
        if root.is_file():
            files = (root, root.with_name(ARCH_FILE))
            return {file.name: file.read_bytes() for file in files if file.is_file()}
        return {name: (root / name).read_bytes() for name in files_in(root)}

    def write(self, folder: str, name: str, content: bytes) -> None:
        """A file of a folder, written whole."""
        write_bytes(self._inside(folder, name), content)

    def remove(self, folder: str, name: str) -> None:
        """Removes a file that the worker has no more."""
        self._inside(folder, name).unlink(missing_ok=True)

    def _known(self, place: str) -> Path:
        if place not in self.places:
            raise UserError(f"{place} is none of the folders that workers share")
        return Path(place)

    def _inside(self, folder: str, name: str) -> Path:
        root = self._known(folder).resolve()
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise UserError(f"{name} is not inside {folder}")
        return path


class SharedFiles:
    """The driver's files and folders as a worker has them; made by the driver, and sent to every worker.

    Args:
        desk: the actor that has the driver's files.
        readable: absolute paths of what is only read, by the paths that name it.
        marks: by which a worker sees that a place is the driver's own: a folder has a file of that name, a file that
            digest.
    """

    def __init__(self, desk: Any, readable: dict[Path, str], marks: dict[str, str]) -> None:
        self.desk, self.readable, self.marks = desk, readable, marks

    @contextmanager
    def located(self) -> Iterator[dict[Path, Path]]:
        """Where the readable places are on this machine, by the paths that name them: copies of those not seen."""
        with ExitStack() as copies:
            yield {name: copies.enter_context(self._here(place)) for name, place in self.readable.items()}

    @contextmanager
    def writing(self, folder: Path, sends: bool = True) -> Iterator[Path]:
        """Where a writable folder is on this machine. What is written to a copy goes back meanwhile and at the end.

        Args:
            folder: its absolute path.
            sends: false for a process that writes nothing; of several that train together, one does.
        """
        with self._here(str(folder)) as here:
            if here == folder or not sends:
                yield here
                return
            with _sending(self.desk, folder, here):
                try:
                    yield here
                except UserError as error:  # in the driver's words
                    raise UserError(str(error).replace(str(here), str(folder))) from None

    def _is_seen(self, place: str) -> bool:
        path, mark = Path(place), self.marks[place]
        with suppress(OSError):
            return file_digest(path) == mark if path.is_file() else (path / mark).exists()
        return False

    @contextmanager
    def _here(self, place: str) -> Iterator[Path]:
        if self._is_seen(place):
            yield Path(place)
            return
        import ray

        with tempfile.TemporaryDirectory(prefix="ghostnas-") as scratch:
            files = ray.get(self.desk.read.remote(place))
            is_file = not self.marks[place].startswith(MARK)
            here = Path(scratch) if is_file else Path(scratch) / Path(place).name
            here.mkdir(exist_ok=True)
            for name, content in files.items():
                write_bytes(here / name, content)
            yield here / Path(place).name if is_file else here


@contextmanager
def shared(writable: Sequence[Path], readable: Sequence[Path] = ()) -> Iterator[SharedFiles]:
    """Places that workers of the connected cluster read and write wherever they run.

    Args:
        writable: folders by absolute paths, made where they are missing.
        readable: files and folders; what isn't there is left out.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    found = {path: path.expanduser().absolute() for path in readable}  # `~` is the driver's home
    named = {path: str(place) for path, place in found.items() if place.exists()}
    places = list(dict.fromkeys([*map(str, writable), *named.values()]))
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    desk: Any = ray.remote(Desk).options(num_cpus=0, scheduling_strategy=here).remote(places)
    marks: dict[str, str] = {}
    try:
        for folder in writable:
            folder.mkdir(parents=True, exist_ok=True)
            for stale in folder.glob(f"{MARK}*"):  # of a driver that was killed
                stale.unlink(missing_ok=True)
        for place in places:
            path = Path(place)
            marks[place] = file_digest(path) if path.is_file() else f"{MARK}{secrets.token_hex(8)}"
            if path.is_dir():
                with suppress(OSError):  # a folder that can't be marked is one that nobody sees
                    (path / marks[place]).touch()
        yield SharedFiles(desk, named, marks)
    finally:
        ray.kill(desk)
        for place, mark in marks.items():
            if mark.startswith(MARK):
                (Path(place) / mark).unlink(missing_ok=True)
        for folder in writable:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


@contextmanager
def _sending(desk: Any, folder: Path, here: Path) -> Iterator[None]:
    """Sends a copy's changes back, now and then and at the end."""
    sent, over = files_in(here), threading.Event()

    def send() -> None:
        import ray

        files = files_in(here)
        for name in sorted(files, key=files.__getitem__):  # as they were written: what says that all is there, last
            if files[name] != sent.get(name):
                with suppress(FileNotFoundError):  # removed or renamed meanwhile
                    content = (here / name).read_bytes()
                    ray.get(desk.write.remote(str(folder), name, content), timeout=ANSWER_S)
                    sent[name] = files[name]
        for name in [name for name in sent if name not in files]:
            ray.get(desk.remove.remote(str(folder), name), timeout=ANSWER_S)
            del sent[name]

    def now_and_then() -> None:
        while not over.wait(SEND_EVERY_S):
            with suppress(Exception):  # what doesn't work is said at the end
                send()

    thread = threading.Thread(target=now_and_then, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        send()


def files_in(root: Path) -> dict[str, Stamp]:
    """A folder's files by their path in it, without locks, marks and what is being written."""
    files: dict[str, Stamp] = {}
    for place, _, names in os.walk(root):
        for name in names:
            if name.endswith(LOCK) or name.startswith(MARK) or SCRATCH.fullmatch(name):
                continue
            path = Path(place) / name
            with suppress(FileNotFoundError):
                about = path.stat()
                files[str(path.relative_to(root))] = (about.st_mtime_ns, about.st_size)
    return files
