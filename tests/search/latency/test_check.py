"""An old table against a machine of today: valid, shifted by a factor, or stale."""

import json
import os

import numpy as np
import pytest

from search.api import latency as api
from search.api.latency import check_table as check_file
from search.errors import UserError
from search.folders import locked
from search.latency.calibrate import calibrate
from search.latency.check import SHIFTED, STALE, VALID, check_table, rescale_table
from search.latency.predictor import Predictor
from search.latency.runtimes import RUNTIMES
from search.latency.table import LatencyTable
from search.latency.timing import interference as gates
from search.report.latency_page import format_table, write_page
from spaces.population import sample
from tests.search.fake_runtime import FakeRuntime
from tests.search.test_folders import FORK, held
from tests.spaces.test_spaces import tiny_space

SPACE = tiny_space()


@pytest.fixture
def table(monkeypatch, tmp_path):
    monkeypatch.setattr(gates, "INITIAL_PROBES_S", 0.0)
    monkeypatch.setitem(RUNTIMES, "law", FakeRuntime)
    path = tmp_path / "t.lat.json"
    return calibrate(SPACE, path, runtime="law", rounds=2, fit_networks=12, held_out=12, minutes=None)


def slowed(monkeypatch, factor):
    """Makes compiled networks take `factor(ns)` times as long."""
    compile_ = FakeRuntime.compile
    monkeypatch.setattr(
        FakeRuntime,
        "compile",
        lambda self, *a: str(int(int(ns := compile_(self, *a)) * factor(int(ns)))).encode(),
    )


def test_what_is_as_it_was_is_valid(table):
    verdict = check_table(table, seconds=1)
    assert verdict.state == VALID and verdict.shift == pytest.approx(1, abs=1e-3) and verdict.items > 20


def test_a_common_factor_is_a_shift_and_rescales(table, monkeypatch, tmp_path):
    slowed(monkeypatch, lambda ns: 1.3)
    verdict = check_table(table, seconds=1)
    assert verdict.state == SHIFTED and verdict.shift == pytest.approx(1.3, rel=0.01)
    again = rescale_table(table, verdict.shift)
    assert again.protocol.rescaled == pytest.approx(1.3, rel=0.01)
    assert check_table(again, seconds=1).state == VALID
    codes = sample(SPACE, np.random.default_rng(0), 30)
    before, after = (Predictor(each, SPACE)(codes) for each in (table, again))
    for name in ("latency_ms", "low_ms", "high_ms"):
        np.testing.assert_allclose(getattr(after, name), verdict.shift * getattr(before, name), rtol=1e-9)
    again.save(tmp_path / "again.lat.json")
    assert LatencyTable.load(tmp_path / "again.lat.json").protocol.rescaled > 1.2


def test_the_speed_of_other_threads_is_not_put_into_a_table(table, monkeypatch, tmp_path):
    slowed(monkeypatch, lambda ns: 1.3)
    path = tmp_path / "t.lat.json"
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"by its own number of threads: .* has 1, but got 2"):
        check_file(path, threads=2, rescale=True)
    assert path.read_bytes() == before
    check_file(path, threads=1, rescale=True)
    assert LatencyTable.load(path).protocol.rescaled == pytest.approx(1.3, rel=0.01)


@pytest.mark.parametrize("threads", [0, 1.5, "1"])
def test_threads_that_are_no_whole_number_are_told(table, tmp_path, threads):
    with pytest.raises(UserError, match=f"threads must be a whole number from 1 to 1024, but got {threads!r}"):
        check_file(tmp_path / "t.lat.json", threads=threads)


def test_a_table_that_another_process_writes_is_not_rescaled(table, monkeypatch, tmp_path):
    slowed(monkeypatch, lambda ns: 1.3)
    path = tmp_path / "t.lat.json"
    before = path.read_bytes()
    with held(tmp_path, path.name), pytest.raises(UserError, match=r"t\.lat\.json is in use by process"):
        check_file(path, rescale=True)
    assert path.read_bytes() == before
    with held(tmp_path, path.name):
        assert check_file(path).state == SHIFTED  # which writes nothing


def test_nobody_else_writes_a_table_from_its_loading_to_its_saving(table, monkeypatch, tmp_path):
    slowed(monkeypatch, lambda ns: 1.3)
    path = tmp_path / "t.lat.json"
    look_again, refused = api.look_again, []

    def meanwhile(*arguments, **settings):
        another = FORK.Process(target=write_elsewhere, args=(path,))
        another.start()
        another.join()
        refused.append(another.exitcode)
        return look_again(*arguments, **settings)

    monkeypatch.setattr(api, "look_again", meanwhile)
    check_file(path, rescale=True)
    assert refused == [2]


def write_elsewhere(path) -> None:
    """What another process does that writes the table: exit code 2 where it is refused."""
    try:
        with locked(path.parent, only=path.name):
            pass
    except UserError:
        os._exit(2)
    os._exit(0)


def test_codes_of_no_network_are_refused(table):
    first, *others = table.validation.held_out
    for code in ((99,) * len(first.code), (1,)):
        held_out = (first.model_copy(update={"code": code}), *others)
        validation = table.validation.model_copy(update={"held_out": held_out})
        with pytest.raises(UserError, match="the latency table's `held_out`: "):
            check_table(table.model_copy(update={"validation": validation}), seconds=1)


def test_items_that_moved_apart_make_a_table_stale(table, monkeypatch):
    # Each by another factor from 0.5 to 1.5: the median item is a quarter off the median, whichever items are timed.
    slowed(monkeypatch, lambda ns: 0.5 + ns * 2654435761 % 2**32 / 2**32)
    assert check_table(table, seconds=1).state == STALE


def test_another_version_or_machine_is_noted(table):
    moved = table.model_copy(
        update={
            "setting": table.setting.model_copy(update={"runtime_version": "0.9"}),
            "device": table.device.model_copy(update={"governor": "powersave"}),
        }
    )
    notes = " ".join(check_table(moved, seconds=1).notes)
    assert "was 0.9 and is 1" in notes and "governor was powersave" in notes


def test_the_report_has_every_figure_and_needs_no_network(table, tmp_path):
    message = format_table(table)
    v = table.validation
    for figure in (v.mape, v.max, v.p90):
        assert f"{100 * figure:.2f} %" in message
    for name in ("macs alone", "sum of units, uncorrected", "features alone", "half against half"):
        assert name in message
    write_page(table, tmp_path / "page.html")
    table.save(tmp_path / "t.lat.json")
    before = (tmp_path / "t.lat.json").read_bytes()
    with pytest.raises(UserError, match=r"^a page's file ends in \.html, not '.*t\.lat\.json'$"):
        write_page(table, tmp_path / "t.lat.json")
    assert (tmp_path / "t.lat.json").read_bytes() == before
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 3 and "<script src" not in page and 'src="http' not in page
    assert json.loads(table.model_dump_json(by_alias=True))["schema"] in ("ghostnas.latency/3",)
