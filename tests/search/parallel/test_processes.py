"""Work side by side on this machine: the same results, whoever dies."""

import os
import subprocess
import sys
import threading
import time

import pytest

from search.errors import UserError
from search.parallel.processes import Processes, cores_for

HELD: list[bytes] = []  # what a helper keeps


def where(item: float) -> tuple[float, int]:
    """In half a second, who did it."""
    time.sleep(0.5)
    return item, os.getpid()


def growing(item: float) -> tuple[float, int]:
    """As a network's fit does, of which much is kept."""
    HELD.append(bytes(400_000_000))
    return where(item)


def dies(item: tuple[int, str, int]) -> int:
    """In every process but one, once it has left a mark."""
    alive, mark, number = item
    if os.getpid() != alive:
        open(mark, "w").close()
        os._exit(3)
    time.sleep(0.2)
    return number


def refuses(item: tuple[int, int]) -> None:
    """In every process but one, which works on."""
    alive, number = item
    if os.getpid() != alive:
        raise UserError(f"item {number} is refused")
    time.sleep(0.5)


@pytest.mark.parametrize("function", [where, growing])
def test_several_processes_give_what_one_gives_in_order(function):
    with Processes(function, 2) as workers:
        end, others, rounds = time.monotonic() + 120, set[int](), 0
        while rounds < 3:  # with others at work
            results = workers.map(range(4))
            assert [item for item, _ in results] == [0, 1, 2, 3]
            others |= {pid for _, pid in results} - {os.getpid()}
            rounds += bool(others)
            assert time.monotonic() < end
        assert workers.map([]) == [] and len(others) == 1  # one that lives on, as much as it grows
    (other,) = others
    for _ in range(50):
        if not _runs(other):
            return
        time.sleep(0.1)
    raise AssertionError(f"{other} lives on")


def test_what_a_process_is_at_that_dies_is_done_again(tmp_path):
    mark, end = tmp_path / "died", time.monotonic() + 120
    items = [(os.getpid(), str(mark), number) for number in range(20)]
    with Processes(dies, 2) as workers:
        while not mark.exists():
            assert workers.map(items) == list(range(20))
            assert time.monotonic() < end


def test_what_another_process_refuses_is_said_as_it_says_it():
    with pytest.raises(UserError, match=r"^item \d+ is refused$"), Processes(refuses, 2) as workers:
        workers.map([(os.getpid(), number) for number in range(200)])


def test_nothing_is_started_for_what_is_done_at_once():
    with Processes(lambda item: -item, 1) as alone:
        assert alone.map([1, 2]) == [-1, -2]
    with Processes(abs, 8) as several:
        assert several.map([-1, 2]) == [1, 2]
        assert several._pool is None


def test_an_end_that_comes_before_the_others_are_there_is_no_error(monkeypatch):
    monkeypatch.setattr("search.parallel.processes.PATIENCE_S", 0.0)
    said: list[object] = []
    monkeypatch.setattr(threading, "excepthook", said.append)
    with Processes(where, 2) as workers:
        assert [item for item, _ in workers.map([0.0])] == [0.0]
        end = time.monotonic() + 60
        while not (helping := [each for each in threading.enumerate() if "_help" in each.name]):
            assert time.monotonic() < end
            time.sleep(0.01)
    for each in helping:
        each.join(60)
        assert not each.is_alive()
    assert not said


def test_a_machine_has_as_many_places_as_cores_by_threads(monkeypatch):
    for cores, places in ((6, [1, 6, 3, 1, 1]), (64, [1, 8, 8, 8, 8]), (1, [1] * 5)):
        monkeypatch.setattr("search.parallel.processes.cpu_count", lambda cores=cores: cores)
        assert [cores_for(threads) for threads in (None, 1, 2, 4, 8)] == places


SCRIPT = """
from search.parallel.processes import Processes
from tests.search.parallel.test_processes import where

with Processes(where, 2) as workers:
    while True:
        print(*(pid for _, pid in workers.map(range(4))), flush=True)
"""


def test_others_end_with_the_process_that_they_work_for(tmp_path):
    """Which is killed, and asks nobody to stop."""
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        others: set[int] = set()
        while not others:
            others = set(map(int, process.stdout.readline().split())) - {process.pid}
        process.kill()
    end = time.monotonic() + 10
    while any(map(_runs, others)):
        assert time.monotonic() < end
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
