"""Work side by side on this machine: the same results, whoever dies."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from search.data.encoded import EncodedSplit
from search.data.images import ImageSource
from search.errors import UserError
from search.parallel.processes import Processes, cores_for
from tests.search.data.test_datasets import image_folder

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


def dies_once(mark: str, alive: int, number: int) -> tuple[int, int]:
    """In the first other process that comes to it."""
    time.sleep(0.2)
    if os.getpid() != alive:
        try:
            open(mark, "x").close()
        except FileExistsError:
            return number, os.getpid()
        os._exit(3)
    return number, os.getpid()


def with_data(data: bytes, item: int) -> int:
    """Work for which a data set is sent."""
    time.sleep(0.2)
    return item


def refuses(item: tuple[int, int]) -> None:
    """In every process but one, which works on."""
    alive, number = item
    if os.getpid() != alive:
        raise UserError(f"item {number} is refused")
    time.sleep(0.5)


def streams(split: EncodedSplit, item: int) -> tuple[int, torch.Tensor]:
    """Decodes a batch as a training does, in processes of its own."""
    time.sleep(0.2)
    ((images, _, seed),) = split.stream([(torch.tensor([0, 1]), item)])
    assert seed == item
    return os.getpid(), images


def test_each_of_several_processes_may_have_images_decoded_by_others(tmp_path):
    """Two networks that were trained side by side on pictures from files once ended a run with a traceback."""
    folder = image_folder(tmp_path, train=2)
    sources = tuple(ImageSource(str(file)) for file in sorted((folder / "train/cat").iterdir()))
    with Processes(partial(streams, EncodedSplit(sources, torch.tensor([0, 1]), 8)), 2) as workers:
        end, others = time.monotonic() + 120, set[int]()
        while not others:
            results = workers.map(range(4))
            assert all((images == results[0][1]).all() for _, images in results)
            others = {process for process, _ in results} - {os.getpid()}
            assert time.monotonic() < end


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


def test_those_that_live_on_when_one_dies_go_on_with_the_work(tmp_path):
    mark, end = tmp_path / "died", time.monotonic() + 120
    with Processes(partial(dies_once, str(mark), os.getpid()), 3) as workers:
        others = set[int]()
        while not (mark.exists() and others):
            results = workers.map(range(12))
            assert [number for number, _ in results] == list(range(12))
            others = {pid for _, pid in results} - {os.getpid()} if mark.exists() else set()
            assert time.monotonic() < end


STARTING = """
import signal, sys, threading, time
from functools import partial
from search.parallel.processes import Processes
from tests.search.parallel.test_processes import dies_when_it_starts, with_data

signal.signal(signal.SIGINT, signal.default_int_handler)  # which what is begun in the background ignores
dies = threading.Thread(target=dies_when_it_starts)
try:
    with Processes(partial(with_data, bytes(1 << 20)), 2) as workers:
        if sys.argv[1] == "dies":
            dies.start()
        while sys.argv[1] == "stopped" or dies.is_alive():
            assert workers.map(range(4)) == [0, 1, 2, 3]
        assert workers.map(range(4)) == [0, 1, 2, 3]
except KeyboardInterrupt:
    sys.exit(130)
"""


def dies_when_it_starts() -> None:
    os.kill(_starting(os.getpid()), signal.SIGKILL)


@pytest.mark.parametrize(("what", "code"), [("dies", 0), ("stopped", 130)])
def test_a_death_or_ctrl_c_while_another_process_starts_hangs_nothing(tmp_path, what, code):
    """Where it is sent more than a pipe holds."""
    command, pipe = [sys.executable, "-c", STARTING, what], subprocess.PIPE
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, process_group=0) as process:
        try:
            if what == "stopped":
                _starting(process.pid)
                time.sleep(0.1)
                os.killpg(process.pid, signal.SIGINT)
            said = process.communicate(timeout=120)
        except BaseException:
            process.kill()
            raise
    assert (process.returncode, *said) == (code, "", "")
    assert not any(tmp_path.iterdir())


def test_what_others_need_is_in_no_file_once_they_have_it(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("search.parallel.processes.PATIENCE_S", 0.0)
    end, written = time.monotonic() + 120, False
    with Processes(where, 3) as workers:
        while not written or any(tmp_path.iterdir()):
            written = written or any(tmp_path.iterdir())
            assert time.monotonic() < end
            time.sleep(0.01)
        assert [item for item, _ in workers.map(range(4))] == [0, 1, 2, 3]


def test_no_room_for_others_is_said_and_the_work_is_done_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    monkeypatch.setattr("search.parallel.processes.PATIENCE_S", 0.0)
    with Processes(where, 2) as workers:
        assert workers.map(range(3)) == [(item, os.getpid()) for item in range(3)]
    assert "warning: no other process helps with the work: " in (said := capsys.readouterr().err)
    assert "No such file" in said and said.count("\n") == 1


def test_the_end_waits_for_no_start_that_is_stuck(monkeypatch):
    stuck = threading.Event()

    def submit(pool, *_):
        with pool._flags.shutdown_lock:  # as loky has while it starts a process
            stuck.wait(60)
        raise OSError("it never started")

    monkeypatch.setattr("search.parallel.processes.ProcessPoolExecutor.submit", submit)
    monkeypatch.setattr("search.parallel.processes.PATIENCE_S", 0.0)
    monkeypatch.setattr("search.parallel.processes.STOP_S", 0.2)
    begun = time.monotonic()
    with Processes(where, 3) as workers:
        while len(workers._pools) < 2:
            assert workers.map([1.0]) == [(1.0, os.getpid())]
    assert time.monotonic() - begun < 30
    stuck.set()


def test_what_another_process_refuses_is_said_as_it_says_it():
    with pytest.raises(UserError, match=r"^item \d+ is refused$"), Processes(refuses, 2) as workers:
        workers.map([(os.getpid(), number) for number in range(200)])


def test_nothing_is_started_for_what_is_done_at_once():
    with Processes(lambda item: -item, 1) as alone:
        assert alone.map([1, 2]) == [-1, -2]
    with Processes(abs, 8) as several:
        assert several.map([-1, 2]) == [1, 2]
        assert not several._pools


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


def _starting(parent: int) -> int:
    """The process that another one starts for itself, as soon as it is there."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for path in Path("/proc").glob("[0-9]*"):
            try:
                with open(path / "stat") as file:
                    ours = int(file.read().rpartition(")")[2].split()[1]) == parent
                if ours and b"LokyProcess" in (path / "cmdline").read_bytes():
                    return int(path.name)
            except OSError:
                continue
        time.sleep(0.002)
    raise AssertionError("no process was started")
