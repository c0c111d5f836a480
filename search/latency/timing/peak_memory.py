"""How much memory a network takes: by how much a process's peak resident memory grows while the network is opened and
run once. Linux tells that; other systems are asked nothing.

An allocator keeps what was freed, so in a process that had another network before, a network takes less anew, or
nothing. Each is opened in a child of its own, forked from a process that has loaded the runtime and no network yet. The
child runs a small network first, so that the runtime's own code and tables are there already, and gives back what is
free.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from pathlib import Path

import numpy as np

CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc_pid_clear_refs(5)
STATUS = Path("/proc/self/status")
SET_NO_HUGE_PAGES, HAS_NO_HUGE_PAGES = 41, 42  # PR_SET_THP_DISABLE and PR_GET_THP_DISABLE of prctl(2)
NETWORKS, FEWEST = 16, 8  # of those held out, that are measured; and that a fit needs
SHARE, MOST_S, LEAST_S = 0.05, 8.0, 2.0  # of a time box, at its end; seconds at most, and below which it isn't begun
PATIENCE_S = 30.0  # with one network


def unavailable():
    """Why this system doesn't tell how much memory a network takes; None where it does."""
    if not sys.platform.startswith("linux"):
        return "peak memory is measured on Linux alone"
    if not os.access(CLEAR_REFS, os.W_OK) or "VmHWM:" not in STATUS.read_text():
        return f"this Linux doesn't tell a process's peak memory ({CLEAR_REFS}, VmHWM of {STATUS})"
    return None


def peak_growth(work) -> int:
    """Bytes by which this process's resident memory grows at most while `work()` runs.

    Linux counts pages on each core and adds up now and then: a hundred kilobytes more or less. Huge pages would be
    counted whole where a part is used, so there are none meanwhile."""
    _give_back()
    with _no_huge_pages():
        CLEAR_REFS.write_text(RESET_PEAK)
        before = resident("VmRSS")
        work()
        return resident("VmHWM") - before


def resident(name) -> int:
    """Bytes of this process: `VmRSS`, resident now, or `VmHWM`, at most since that was reset."""
    lines = [line for line in STATUS.read_text().splitlines() if line.startswith(name + ":")]
    return 1024 * int(lines[0].split()[1])


def network_memory(open_session, read, network, reference) -> int:
    """Bytes that a network takes at its peak, beyond the runtime's own and the content of its file; in this process,
    which must have had no network yet.

    Args:
        open_session: a file's content -> its session.
        read: the path of a file -> its content.
        network, reference: the path of a file and the shape of its input, batch first; the small one is run before.
    """
    kept = []  # what is let go could be used again

    def open_and_run(content, images) -> None:
        session = open_session(content)
        kept.extend([session, session(images)])

    def given(path, shape):
        return read(Path(path)), np.random.default_rng(0).standard_normal(shape, dtype=np.float32)

    open_and_run(*given(*reference))
    content, images = given(*network)
    return peak_growth(lambda: open_and_run(content, images))


def serve(open_session, read, reference, requests, replies) -> None:
    """Answers each line of `requests`, a file's path and the shape of its input as JSON, by a line with the bytes that
    its network takes; by `null` where its child failed. This process opens no network itself."""
    for line in requests:
        network = json.loads(line)
        taken = in_child(lambda: network_memory(open_session, read, network, reference))  # noqa: B023
        replies.write(json.dumps(taken) + "\n")
        replies.flush()


def ask(requests, replies, path, shape):
    """The other end of `serve`: the bytes that a network takes; None where it failed or takes too long."""
    try:
        requests.write(json.dumps([str(path), list(shape)]) + "\n")
        requests.flush()
    except BrokenPipeError:  # it couldn't load the runtime
        return None
    if not select.select([replies], [], [], PATIENCE_S)[0]:
        return None
    answer = replies.readline()
    return json.loads(answer) if answer else None


class ForkedServer:
    """`serve` in a child that is forked now, while this process has loaded its runtime and no network. Used by
    `with`."""

    def __init__(self, open_session, read, reference) -> None:
        (theirs, requests), (replies, answers) = os.pipe(), os.pipe()
        self._child = os.fork()
        if not self._child:
            try:
                os.setpgid(0, 0)
                os.close(requests)  # its end is what ends the child
                os.close(replies)
                nowhere = os.open(os.devnull, os.O_WRONLY)
                for stream in (1, 2):  # runtimes print
                    os.dup2(nowhere, stream)
                serve(open_session, read, reference, os.fdopen(theirs), os.fdopen(answers, "w"))
            finally:
                os._exit(0)
        os.close(theirs)
        os.close(answers)
        self._requests, self._replies = os.fdopen(requests, "w"), os.fdopen(replies)

    def __enter__(self):
        return self

    def __call__(self, path, shape):
        """Bytes, or None, as `ask`."""
        return ask(self._requests, self._replies, path, shape)

    def __exit__(self, *_) -> None:
        end_group(self._child)
        os.waitpid(self._child, 0)
        for pipe in (self._replies, self._requests):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def end_group(leader: int) -> None:
    """Ends a server and the child that it may have."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def reserved_seconds(seconds=None) -> float:
    """How much of a time box of so many seconds, or of none, is for the memory of networks."""
    return MOST_S if seconds is None else min(MOST_S, SHARE * seconds)


def measure_some(measure, names, known, seed, seconds, append):
    """Logs the peak memory of some networks.

    Args:
        measure: a network's name -> bytes, or None where that failed.
        names: those that were timed and held out.
        known: how many were measured before.
        seconds: no network is begun after so many.
        append: puts a row into the log.

    Returns:
        why too few were measured for a fit; None if there are enough.
    """
    left, ends = max(NETWORKS - known, 0), time.monotonic() + seconds
    if not names or not left:
        return None if known >= FEWEST else "too few networks are held out"
    if seconds < LEAST_S:
        return None if known >= FEWEST else "the time box is too short for it"
    for name in np.random.default_rng([seed, 2]).permutation(names).tolist()[:left]:
        if time.monotonic() > ends:
            break
        taken = measure(name)
        if taken is None:
            return None if known >= FEWEST else "the runtime failed in the process that measures it"
        append({"peak_bytes": {name: max(taken, 1)}})
        known += 1
    return None if known >= FEWEST else "too few networks fitted into its part of the time box"


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


@contextlib.contextmanager
def _no_huge_pages():
    """What this process touches in the block is given to it in pages of the usual size, where Linux knows how."""
    prctl = ctypes.CDLL(None).prctl
    before = prctl(HAS_NO_HUGE_PAGES, 0, 0, 0, 0)
    prctl(SET_NO_HUGE_PAGES, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(SET_NO_HUGE_PAGES, max(before, 0), 0, 0, 0)
