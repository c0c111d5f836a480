"""What workers on other machines see of the driver's files, and what comes back, without a cluster."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from search.errors import UserError
from search.files import write_text
from search.parallel import cluster, folders
from search.parallel.cluster import Cluster, connect
from search.parallel.workers import RayWorkers
from search.pipeline.stages import sharing_workers
from search.recipes.schema import Training

ray = pytest.importorskip("ray")


def test_a_batch_is_shared_by_as_many_workers_as_divide_it():
    for batch, accumulate, workers in ((64, 1, 3), (64, 1, 4), (10, 1, 4), (7, 1, 2), (2, 1, 8), (64, 4, 32)):
        count = sharing_workers(workers, Training(epochs=1, batch_size=batch, accumulate=accumulate))
        assert 1 <= count <= workers and (count == 1 or batch // accumulate % count == 0)
        assert count == 1 or batch // accumulate // count >= 2
    assert sharing_workers(3, Training(epochs=1, batch_size=64)) == 2


def test_a_cluster_with_too_few_processors_is_told(monkeypatch, capsys):
    """Ray waits for more, for ever and without a word."""
    monkeypatch.setattr(cluster, "_begun", None)  # a Ray that the program began itself
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    for known, told in ((2.0, True), (3.0, False)):
        monkeypatch.setattr(ray, "cluster_resources", lambda known=known: {"CPU": known})
        connect(Cluster(workers=3, address="ray-head:6379"))
        assert ("ray-head:6379 has 2 processors for 3 processes" in " ".join(capsys.readouterr().err.split())) == told


@pytest.mark.parametrize("lost", ["WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "RayActorError"])
def test_a_process_that_is_lost_again_and_again_is_told_in_a_line(lost, monkeypatch):
    workers = object.__new__(RayWorkers)
    workers.ray = ray
    kind = getattr(ray.exceptions, lost)
    error = kind() if lost in ("WorkerCrashedError", "RayActorError") else kind("the node\nis gone")
    message = r"^the training of B seed 0 .* 4 times \(.+\); .*--resume$"
    with pytest.raises(UserError, match=message) as told, workers._plain_errors("the training of B seed 0"):
        raise error
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("what", ["the disk is full", "refused"])
def test_what_a_worker_fails_of_comes_back_as_it_was(what):
    """Ray's own error is of the cause's kind, too, but it has neither its file nor its reason."""
    full = what == "the disk is full"
    cause = OSError(28, "No space left on device", "/there/weights") if full else UserError("it is refused")
    workers = object.__new__(RayWorkers)
    workers.ray = ray
    with pytest.raises(type(cause)) as told, workers._plain_errors("the training of B seed 0"):
        raise ray.exceptions.RayTaskError("f", "a traceback", cause).as_instanceof_cause()
    assert str(told.value) == str(cause)
    assert not full or (told.value.filename, told.value.errno) == ("/there/weights", 28)


def test_only_the_folders_that_are_shared_are_given_or_written(tmp_path):
    for name in ("mine/a/one", "mine/two", "mine/.lock", "mine/.three.0123456789abcdef.tmp", "other"):
        write_text(tmp_path / name, name)
    mine = str(tmp_path / "mine")
    desk = folders.Desk([mine, str(tmp_path / "mine/two")])
    assert desk.read(mine) == {"a/one": b"mine/a/one", "two": b"mine/two"}
    assert desk.read(f"{mine}/two") == {"two": b"mine/two"}
    desk.write(mine, "b/four", b"4")
    desk.remove(mine, "two")
    assert set(folders.files_in(Path(mine))) == {"a/one", "b/four"}
    for place, name in ((mine, "../other"), (mine, "/etc/passwd"), (str(tmp_path), "other")):
        with pytest.raises(UserError):
            desk.write(place, name, b"")
        with pytest.raises(UserError):
            desk.remove(place, name)
    assert (tmp_path / "other").read_text() == "other"


class Driver:
    """A desk as Ray's handle of it."""

    def __init__(self, desk: folders.Desk) -> None:
        for name in ("read", "write", "remove"):
            setattr(self, name, SimpleNamespace(remote=getattr(desk, name)))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Two of the driver's folders and a file, as a worker on another machine has them."""
    monkeypatch.setattr(ray, "get", lambda value, timeout=None: value)
    monkeypatch.setattr(folders, "SEND_EVERY_S", 0.01)
    for name in ("work/checkpoint.pt", "supernet/parent/weights", "parent.pth"):
        write_text(tmp_path / name, name)
    places = [str(tmp_path / name) for name in ("work", "supernet", "parent.pth")]
    marks = dict(zip(places, (f"{folders.MARK}1", f"{folders.MARK}2", "0123456789"), strict=True))
    readable = {Path("supernet"): places[1], Path("parent.pth"): places[2]}
    return folders.SharedFiles(Driver(folders.Desk(places)), readable, marks)


def test_a_worker_that_sees_no_folder_works_in_a_copy_whose_changes_come_back_meanwhile(tmp_path, elsewhere):
    work = tmp_path / "work"
    with elsewhere.writing(work) as here:
        assert here != work and here.name == "work"
        assert (here / "checkpoint.pt").read_text() == "work/checkpoint.pt"  # so that it goes on from there
        write_text(here / "checkpoint.pt", "step 2")
        end = time.monotonic() + 60
        while (work / "checkpoint.pt").read_text() != "step 2":
            assert time.monotonic() < end
            time.sleep(0.005)
        (here / "checkpoint.pt").unlink()
        write_text(here / "seed-1/trained.json", "{}")
    assert set(folders.files_in(work)) == {"seed-1/trained.json"}
    assert not here.exists()


def test_of_workers_that_share_a_training_one_sends_its_files(tmp_path, elsewhere):
    with elsewhere.writing(tmp_path / "work", sends=False) as here:
        write_text(here / "checkpoint.pt", "another's")
    assert (tmp_path / "work/checkpoint.pt").read_text() == "work/checkpoint.pt"


def test_what_is_only_read_is_found_by_the_name_it_has_at_the_drivers(tmp_path, elsewhere):
    with elsewhere.located() as located:
        copies = [located[Path("supernet")] / "parent/weights", located[Path("parent.pth")]]
        assert [copy.read_text() for copy in copies] == ["supernet/parent/weights", "parent.pth"]
        assert not any(copy.is_relative_to(tmp_path / "supernet") for copy in copies)


def test_the_architecture_beside_a_file_of_weights_goes_with_it(tmp_path, elsewhere):
    write_text(tmp_path / "arch.json", "its architecture")
    with elsewhere.located() as located:
        assert located[Path("parent.pth")].with_name("arch.json").read_text() == "its architecture"


def test_a_worker_that_sees_a_folder_works_in_it(tmp_path, elsewhere):
    (tmp_path / "work" / elsewhere.marks[str(tmp_path / "work")]).touch()
    with elsewhere.writing(tmp_path / "work") as here:
        assert here == tmp_path / "work"


def test_what_a_copy_refuses_is_said_of_the_drivers_folder(tmp_path, elsewhere):
    message = f"^{tmp_path / 'work'} holds another training$"
    with pytest.raises(UserError, match=message), elsewhere.writing(tmp_path / "work") as here:
        raise UserError(f"{here} holds another training")
