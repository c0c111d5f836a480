"""One process at a time writes a folder; what is written is whole or not there; nothing of anybody else's is lost."""

import json
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import ghostnet.files
from ghostnet.files import scratch_name, write_bytes
from search.errors import UserError
from search.folders import LOCK, filled_folder, is_empty, locked

FORK = multiprocessing.get_context("fork")


def _hold(folder: Path, only: str, ready) -> None:
    with locked(folder, only):
        ready.set()
        time.sleep(600)


@contextmanager
def held(folder: Path, only: str = "") -> Iterator[int]:
    """A folder that another process has locked, which is killed at the end; its id."""
    ready = FORK.Event()
    process = FORK.Process(target=_hold, args=(folder, only, ready))
    process.start()
    try:
        assert ready.wait(60)
        yield process.pid
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()


@pytest.mark.parametrize("only", ["", "table.json"])
def test_another_process_is_refused_with_who_has_it_until_that_one_dies(tmp_path, only):
    with held(tmp_path / "out", only) as pid:
        for _ in range(2):  # asking takes nothing away
            with pytest.raises(UserError) as caught, locked(tmp_path / "out", only):
                pass
            assert f"is in use by process {pid} on {socket.gethostname()} (" in str(caught.value)
            assert str(tmp_path / "out" / only) in str(caught.value)
    assert list((tmp_path / "out").iterdir())  # the dead one's lock file is no obstacle
    with locked(tmp_path / "out", only), locked(tmp_path / "out", only):
        pass
    assert not list((tmp_path / "out").iterdir())


def test_files_of_one_folder_have_locks_of_their_own(tmp_path):
    with held(tmp_path, "a.json"), locked(tmp_path, "b.json"), pytest.raises(UserError, match=r"a\.json is in use"):
        locked(tmp_path, "a.json").__enter__()


def test_a_folder_made_for_nothing_goes_again_and_a_used_one_stays(tmp_path):
    with pytest.raises(RuntimeError), locked(tmp_path / "a/b/c"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with locked(tmp_path / "a/b"):
        (tmp_path / "a/b/kept").touch()
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["kept"]
    (tmp_path / "empty").mkdir()
    with locked(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").is_dir()


def _count(folder: Path, times: int) -> None:
    """Adds to a number under a lock: steps are lost where two hold it at once."""
    while times:
        try:
            with locked(folder):
                number = int((folder / "number").read_text())
                time.sleep(0)
                (folder / "number").write_text(str(number + 1))
            times -= 1
        except UserError:
            time.sleep(0.0005)


def test_no_two_processes_are_inside_at_once(tmp_path):
    (tmp_path / "number").write_text("0")
    processes = [FORK.Process(target=_count, args=(tmp_path, 60)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert (tmp_path / "number").read_text() == "240"


def test_what_killed_writers_left_goes_and_what_users_have_stays(tmp_path):
    theirs = [tmp_path / name for name in ("model.tmp", ".x.tmp", "out.building", ".cache.0123.tmp", "a.lock")]
    for path in theirs:
        path.mkdir()
        (path / "precious").touch()
    ours = [scratch_name(tmp_path / "weights.safetensors"), scratch_name(tmp_path / "new")]
    ours[0].touch()
    ours[1].mkdir()
    (ours[1] / "part").touch()
    assert not is_empty(tmp_path)
    with locked(tmp_path):
        assert not any(path.exists() for path in ours)
        assert all((path / "precious").exists() for path in theirs)
    assert sorted(tmp_path.iterdir()) == sorted(theirs)


def test_a_folder_of_scratch_files_and_a_lock_is_empty(tmp_path):
    scratch_name(tmp_path / "x").touch()
    (tmp_path / LOCK).touch()
    assert is_empty(tmp_path)


def test_a_folder_is_filled_whole_with_its_last_file_last_or_not_at_all(tmp_path, monkeypatch):
    moved = []
    original = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: moved.append(Path(to).name) or original(self, to))
    (tmp_path / "kept").write_text("theirs")
    with pytest.raises(RuntimeError), locked(tmp_path), filled_folder(tmp_path, last="a") as scratch:
        (scratch / "kept").write_text("ours")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["kept"] and (tmp_path / "kept").read_text() == "theirs"
    with locked(tmp_path), filled_folder(tmp_path, last="a") as scratch:
        (scratch / "below").mkdir()
        for name in ("a", "b", "below/c"):
            (scratch / name).touch()
    assert sorted(moved) == ["a", "b", "c"] and moved[-1] == "a"
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == {"kept", "a", "b", "below", "below/c"}


def _write(path: Path, letter: str) -> None:
    for _ in range(40):
        write_bytes(path, letter.encode() * 100_000)


def test_two_writers_of_one_file_leave_it_whole(tmp_path):
    processes = [FORK.Process(target=_write, args=(tmp_path / "file", letter)) for letter in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    content = (tmp_path / "file").read_bytes()
    assert len(content) == 100_000 and len(set(content)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_is_on_the_disk_before_its_name_is_and_its_name_before_the_writer_goes_on(tmp_path, monkeypatch):
    done = []
    flush, rename = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        flush(descriptor)

    monkeypatch.setattr(ghostnet.files.os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", lambda self, to: done.append("rename") or rename(self, to))
    write_bytes(tmp_path / "file", b"x")
    assert done == ["file", "rename", "folder"]
    assert (tmp_path / "file").stat().st_mode & 0o444 & ~os.umask(os.umask(0)) == 0o444 & ~os.umask(os.umask(0))


def test_the_lock_says_nothing_that_a_command_line_may_keep_secret(tmp_path, monkeypatch):
    secret = ["search", "--storage", "postgresql://me:secret@host/db"]
    monkeypatch.setattr("sys.argv", ["/venv/bin/ghostnas", *secret])
    with locked(tmp_path):
        content = json.loads((tmp_path / LOCK).read_text())
    assert content["command"] == "ghostnas search" and "secret" not in str(content)
