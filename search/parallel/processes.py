"""Work side by side on this machine: in this process, and in others that are started for it and end with it.

Small networks gain nothing from several threads, so a machine of several cores works at several of them. The processes
are loky's, which scikit-learn starts, too; Ray's, for clusters, take longer to start than such work.
"""

import gc
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch
from loky import cpu_count
from loky.process_executor import ProcessPoolExecutor

from search.progress import set_verbosity, warn
from search.terminal import os_error
from search.training.distributed import best_device

T = TypeVar("T")
R = TypeVar("R")
NO_LEAK = "1e18"  # bytes that a helper may grow by: what networks need is no leak, for which loky would start it anew
MOST = 8  # processes, each of which takes some 0.6 GB and more, of which a batch of a search has work for about as many
PATIENCE_S = 1.0  # in which small work is done before others are started for it
STOP_S = 5.0  # in which processes are killed; one whose start is stuck is left to end by itself
WATCH_S = 0.5  # between two looks at the process that a helper works for
_function: Callable[[Any], Any]  # of a helper


def cores_for(threads: int | None) -> int:
    """At how many networks, each with so many threads, this machine's cores can work, up to `MOST`; at one where there
    is a GPU, or torch chooses the threads."""
    return max(1, min(MOST, cpu_count() // threads)) if threads and best_device().type == "cpu" else 1


class Processes(Generic[T, R]):
    """A function in several processes: a context, at whose end the others are stopped, whatever they are at.

    This process works, too, and alone until the others are there. What one of them is at that dies is done again, and
    the others work on; the end doesn't wait for one whose start is stuck.

    Args:
        function: is sent to each of them, as it is when the context is entered; it gives the same in whichever process.
        count: of all processes, this one among them.
    """

    def __init__(self, function: Callable[[T], R], count: int) -> None:
        self.function, self.count = function, count
        self._waiting, self._results = deque[tuple[int, T]](), dict[int, R]()
        self._error: BaseException | None = None
        self._changed = threading.Condition()  # of what waits, of results, of an error, of the end
        self._ended = False
        self._pools: list[ProcessPoolExecutor] = []  # one for each of the others: one that dies takes no other with it

    def __enter__(self) -> "Processes[T, R]":
        if self.count > 1:
            threading.Thread(target=self._start, args=(pickle.dumps(self.function),), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        stop = {"wait": True, "kill_workers": True}
        stopping = [threading.Thread(target=pool.shutdown, kwargs=stop, daemon=True) for pool in self._pools]
        for each in stopping:
            each.start()
        latest = time.monotonic() + STOP_S
        for each in stopping:
            each.join(max(0.0, latest - time.monotonic()))

    def map(self, items: Sequence[T]) -> list[R]:
        """The function's results, in the order of the items.

        Raises:
            Exception: the first one that it raises, wherever that was.
        """
        with self._changed:
            self._results.clear()
            self._waiting.extend(enumerate(items))
            self._changed.notify_all()
        while len(self._results) < len(items):
            self._work(self.function)
            with self._changed:
                self._changed.wait_for(lambda: self._error or self._waiting or len(self._results) == len(items))
                if self._error:
                    raise self._error
        return [self._results[k] for k in range(len(items))]

    def _start(self, function: bytes) -> None:
        """Starts the others, unless all is done before that is worth it.

        The function goes by a file. loky writes what a process begins with, and what it is to do, to pipes whose other
        ends are open here, too: more than a pipe holds would block for ever once the process is dead.
        """
        with self._changed:
            if self._changed.wait_for(lambda: self._ended, PATIENCE_S):
                return
        try:
            with tempfile.TemporaryDirectory(prefix="ghostnas-", ignore_cleanup_errors=True) as folder:
                file = Path(folder, "function")
                file.write_bytes(function)
                begun = [threading.Event() for _ in range(self.count - 1)]
                begin = (file, torch.get_num_threads(), os.getpid())
                for each in begun:
                    threading.Thread(target=self._help, args=(begin, each), daemon=True).start()
                for each in begun:
                    each.wait()
        except OSError as error:
            warn(f"no other process helps with the work: {os_error(error)}")

    def _help(self, begin: tuple[Path, int, int], begun: threading.Event) -> None:
        """Has another process work, until it dies or the end comes, maybe before it is there.

        Args:
            begin: what `_begin` takes.
            begun: is set once this process needs the file no more.
        """
        try:
            env = {"OMP_NUM_THREADS": str(begin[1]), "LOKY_MAX_MEMORY_LEAK_SIZE": NO_LEAK}
            pool = ProcessPoolExecutor(1, initializer=_begin, initargs=begin, env=env)
            with self._changed:
                if self._ended:
                    return
                self._pools.append(pool)
            ensure_running()  # multiprocessing's tracker, whose start unblocks signals
            # Ctrl-C is for this process: what is started from a thread that blocks it never sees it.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            pool.submit(_call, None).result()  # once it is there
            begun.set()
            while not self._ended:
                self._work(lambda item: pool.submit(_call, (item,)).result())
                with self._changed:
                    self._changed.wait_for(lambda: self._ended or self._waiting)
        except (RuntimeError, OSError):  # it died, the end came, or the system has no room for it
            return
        finally:
            begun.set()

    def _work(self, function: Callable[[T], R]) -> None:
        """Takes items as long as some wait.

        Raises:
            BrokenExecutor: the process died that was at an item, which waits again.
        """
        while True:
            with self._changed:
                if not self._waiting or self._error or self._ended:
                    return
                number, item = self._waiting.popleft()
            result: R | None = None
            error: BaseException | None = None
            try:
                result = function(item)
            except BaseException as raised:
                error = raised
            with self._changed:
                if isinstance(error, BrokenExecutor):
                    self._waiting.append((number, item))
                elif error:
                    self._error = self._error or error
                else:
                    self._results[number] = cast(R, result)
                self._changed.notify_all()
            if isinstance(error, BrokenExecutor):
                raise error


def _begin(function: Path, threads: int, parent: int) -> None:
    """What a helper begins with; it has the function in a file."""
    global _function
    set_verbosity(quiet=True)
    torch.set_num_threads(threads)
    # loky's own way of starting processes is the default in its workers, and can't start those of a DataLoader.
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with function.open("rb") as file:
        _function = pickle.load(file)
    gc.freeze()  # loky collects garbage every second


def _end_with(parent: int) -> None:
    """Ends this process once the other has died, however it died: what it writes is the next one's to write."""
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(1)


def _call(item: tuple[Any] | None) -> Any:
    return _function(*item) if item else None
