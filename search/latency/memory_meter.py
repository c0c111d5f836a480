"""Measures the peak memory of networks on a runtime: see `timing/peak_memory.py` for how."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from search.latency.bench import reference_module
from search.latency.runtimes import RUNTIMES, Runtime
from search.latency.timing.peak_memory import ask, end_group, unavailable

SERVER = "import sys; sys.path[:] = {path!r}; from search.latency.memory_server import main; main(sys.argv[1])"


def why_not(run: Runtime) -> str | None:
    """Why the memory of that runtime's networks can't be measured here; None where it can."""
    if RUNTIMES[run.name].on_gpu:
        return f"networks of {run.name} are not in the host's memory"
    return unavailable()


class MemoryMeter:
    """Measures networks of one runtime, one at a time, in children of a process that has only loaded that runtime. Used
    by `with`.

    What is written to a private folder for it is what `Runtime.compile` made in this process.
    """

    def __init__(self, run: Runtime) -> None:
        self._run = run

    def __enter__(self) -> Self:
        self._folder = TemporaryDirectory(prefix="ghostnas-memory-")
        self._model = Path(self._folder.name) / "model"
        reference, (net, shape) = Path(self._folder.name) / "reference", reference_module()
        reference.write_bytes(self._run.compile(net, shape))
        run = self._run
        setting = [run.name, run.threads, run.dtype, run.lowering, [str(reference), [1, *shape]]]
        self._server = subprocess.Popen(
            [sys.executable, "-c", SERVER.format(path=sys.path), json.dumps(setting)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
        return self

    def __call__(self, compiled: bytes, shape: Sequence[int]) -> int | None:
        """Bytes that a network takes at its peak beyond the runtime's own and its file's content; None where the
        runtime failed, or took longer than half a minute.

        Args:
            shape: of its input, batch first.
        """
        self._model.write_bytes(compiled)
        return ask(self._server.stdin, self._server.stdout, self._model, shape)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        end_group(self._server.pid)
        self._server.communicate()
        self._folder.cleanup()
