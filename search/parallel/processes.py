"""Work side by side on this machine: in this process, and in others that are started for it and end with it.

Small networks gain nothing from several threads, so a machine of several cores works at several of them. The processes
are loky's, which scikit-learn starts, too; Ray's, for clusters, take longer to start than such work.
"""

import gc
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any, Generic, TypeVar, cast

import torch
from loky import cpu_count
from loky.process_executor import ProcessPoolExecutor, ShutdownExecutorError

from search.progress import set_verbosity
from search.training.distributed import best_device

T = TypeVar("T")
R = TypeVar("R")
NO_LEAK = "1e18"  # bytes that a helper may grow by: what networks need is no leak, for which loky would start it anew
MOST = 8  # processes, each of which takes some 0.6 GB and more, of which a batch of a search has work for about as many
PATIENCE_S = 1.0  # in which small work is done before others are started for it
WATCH_S = 0.5  # between two looks at the process that a helper works for
_function: Callable[[Any], Any]  # of a helper


def cores_for(threads: int | None) -> int:
    """At how many networks, each with so many threads, this machine's cores can work, up to `MOST`; at one where there
    is a GPU, or torch chooses the threads."""
    return max(1, min(MOST, cpu_count() // threads)) if threads and best_device().type == "cpu" else 1


class Processes(Generic[T, R]):
    """A function in several processes: a context, at whose end the others are stopped, whatever they are at.

    This process works, too, and alone until the others are there. What one of them is at that dies is done again.

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
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Processes[T, R]":
        if self.count > 1:
            threading.Thread(target=self._start, args=(pickle.dumps(self.function),), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        if self._pool:
            self._pool.shutdown(wait=True, kill_workers=True)

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
        """Starts the others, unless all is done before that is worth it."""
        with self._changed:
            if self._changed.wait_for(lambda: self._ended, PATIENCE_S):
                return
            threads = torch.get_num_threads()
            self._pool = ProcessPoolExecutor(
                self.count - 1,
                initializer=_begin,
                initargs=(function, threads, os.getpid()),
                env={"OMP_NUM_THREADS": str(threads), "LOKY_MAX_MEMORY_LEAK_SIZE": NO_LEAK},
            )
        for _ in range(self.count - 1):
            threading.Thread(target=self._help, args=(self._pool,), daemon=True).start()

    def _help(self, pool: ProcessPoolExecutor) -> None:
        """Has another process work, until it dies or the end comes, maybe before it is there."""
        try:
            pool.submit(_call, None).result()  # once it is there
            while not self._ended:
                self._work(lambda item: pool.submit(_call, (item,)).result())
                with self._changed:
                    self._changed.wait_for(lambda: self._ended or self._waiting)
        except (BrokenExecutor, ShutdownExecutorError):
            return

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


def _begin(function: bytes, threads: int, parent: int) -> None:
    """What a helper begins with."""
    global _function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that it works for
    set_verbosity(quiet=True)
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _function = pickle.loads(function)
    gc.freeze()  # loky collects garbage every second


def _end_with(parent: int) -> None:
    """Ends this process once the other has died, however it died: what it writes is the next one's to write."""
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(1)


def _call(item: tuple[Any] | None) -> Any:
    return _function(*item) if item else None
