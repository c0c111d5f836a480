"""A disk that is full at the n-th write, whichever it is: one line, what was there stays, and the next try goes on."""

import errno
import os

import pytest
import torch

from ghostnet import GhostNet
from search.engine.backends import backend
from search.engine.log import TrialLog, read_trials
from search.engine.plan import Plan
from search.export.export import export
from search.report.report import write_report
from search.terminal import os_error
from tests.helpers import randomise, small_arch
from tests.search.runs import made_up_run
from tests.search.searches import HEADER, problem


class FullAt:
    """Stands in for `os.fsync`, which every writer of ours calls before its file counts."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, _: int) -> None:
        self.left -= 1
        if self.left <= 0:  # and it stays full
            raise OSError(errno.ENOSPC, "No space left on device")


def until_there_is_room(monkeypatch, work, after_failing, step=1):
    """Does the work with a disk full at its first write, then its second (or `step` later), until it is done; how
    many writes came before the last that failed."""
    for number in range(1, 200, step):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", FullAt(number))
            try:
                work()
                return number - 1
            except OSError as error:
                assert "No space left" in os_error(error) and error.filename and "\n" not in os_error(error)
        after_failing()
    raise AssertionError("never done")


def test_an_export_is_whole_or_absent(tmp_path, monkeypatch):
    net = randomise(GhostNet(small_arch(), 5)).eval()
    images, out = torch.randn(3, 3, 15, 15), tmp_path / "out"
    failed = until_there_is_room(
        monkeypatch,
        lambda: export(net, out, ["safetensors", "onnx"], images, {}),
        lambda: pytest.fail("something is left") if list(tmp_path.iterdir()) else None,
    )
    assert failed >= 5 and (out / "manifest.json").exists()


def test_a_report_of_before_stays_until_the_new_one_is_there(tmp_path, monkeypatch):
    folder = made_up_run(tmp_path / "run")
    page = write_report(folder)
    before = page.read_bytes()

    def unchanged() -> None:
        assert page.read_bytes() == before

    failed = until_there_is_room(monkeypatch, lambda: write_report(folder), unchanged, step=8)  # a report takes seconds
    assert failed >= 9 and page.read_bytes() == before
    assert not list(folder.rglob("*.tmp"))


def test_a_search_on_a_disk_that_fills_up_again_and_again_equals_an_unbroken_one(tmp_path, monkeypatch):
    def search(log) -> None:
        with TrialLog(log, HEADER) as trials:
            backend("optuna")(problem(), trials, Plan(trials=12, population=6))

    search(tmp_path / "unbroken")
    broken = tmp_path / "broken"
    for _ in range(40):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", FullAt(4))
            try:
                search(broken)
                break
            except OSError as error:
                assert os_error(error).startswith(f"{broken}: No space left")
    once, again = (
        [{k: v for k, v in t.items() if k != "seconds"} for t in read_trials(log)]
        for log in (tmp_path / "unbroken", broken)
    )
    assert once == again
