"""How much memory a network takes: by how much a process's peak resident memory grows while the network is opened and
run once. Linux tells that; other systems are asked nothing.

An allocator keeps what was freed, so in a process that had another network before, a network takes less anew, or
nothing. Each is opened in a child of its own, forked from a process that has loaded the runtime and no network yet. The
child runs a small network first, so that the runtime's own code and tables are there already, and gives back what is
free.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path

import numpy as np

CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc_pid_clear_refs(5)
STATUS = Path("/proc/self/status")


def unavailable():
    """Why this system doesn't tell how much memory a network takes; None where it does."""
    if not sys.platform.startswith("linux"):
        return "peak memory is measured on Linux alone"
    if not os.access(CLEAR_REFS, os.W_OK) or "VmHWM:" not in STATUS.read_text():
        return f"this Linux doesn't tell a process's peak memory ({CLEAR_REFS}, VmHWM of {STATUS})"
    return None


def peak_growth(work) -> int:
    """Bytes by which this process's resident memory grows at most while `work()` runs.

    Linux counts pages on each core and adds up now and then: a hundred kilobytes more or less."""
    _give_back()
    CLEAR_REFS.write_text(RESET_PEAK)
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def resident(name) -> int:
    """Bytes of this process: `VmRSS`, resident now, or `VmHWM`, at most since that was reset."""
    lines = [line for line in STATUS.read_text().splitlines() if line.startswith(name + ":")]
    return 1024 * int(lines[0].split()[1])


def network_memory(open_session, network, reference) -> int:
    """Bytes that a network takes at its peak, beyond the runtime's own and the content of its file; in this process,
    which must have had no network yet.

    Args:
        open_session: a file's content -> its session.
        network, reference: the path of a file and the shape of its input, batch first; the small one is run before.
    """
    kept = []  # what is let go could be used again

    def open_and_run(content, images) -> None:
        session = open_session(content)
        kept.extend([session, session(images)])

    def read(path, shape):
        return Path(path).read_bytes(), np.random.default_rng(0).standard_normal(shape, dtype=np.float32)

    open_and_run(*read(*reference))
    content, images = read(*network)
    return peak_growth(lambda: open_and_run(content, images))


def serve(open_session, reference, requests, replies) -> None:
    """Answers each line of `requests`, a file's path and the shape of its input as JSON, by a line with the bytes that
    its network takes; by `null` where its child failed. This process opens no network itself."""
    for line in requests:
        network = json.loads(line)
        replies.write(json.dumps(in_child(lambda: network_memory(open_session, network, reference))) + "\n")  # noqa: B023
        replies.flush()


def in_child(work):
    """What `work()` gives in a forked child, as JSON has it; None where it failed."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reader)
            os.write(writer, json.dumps(work()).encode())
        finally:  # nothing of the parent's is closed or ended here
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        answer = file.read()
    os.waitpid(child, 0)
    return json.loads(answer) if answer else None


def _give_back() -> None:
    """What the allocator holds free goes back to the system, so that it is counted again where it is used again."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of the GNU C library
    if trim is not None:
        trim(0)
