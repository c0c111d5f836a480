"""Transferred tables: targets whose truth is known, resumed and refused as calibrations are."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ghostnet.units import Tail, Unit
from search.cli import main
from search.errors import UserError
from search.files import JsonLines
from search.latency import bench, fallback, fitting
from search.latency.bench import all_units, measurement_plan
from search.latency.calibrate import build_table, calibrate, measurements_log
from search.latency.check import _items
from search.latency.fitting import repeatability
from search.latency.measurements import Measurement
from search.latency.predictor import Predictor, Units, table_space
from search.latency.runtimes import RUNTIMES
from search.latency.table import Device, Entry, LatencyTable, Setting
from search.latency.timing import interference, rounds
from search.latency.timing.device import this_device
from search.latency.transfer import transfer_units
from search.report.latency_page import format_table
from spaces import named_space
from spaces.custom import space_to_dict
from spaces.population import sample, sample_evenly
from spaces.space import Space
from spaces.tables import UnitTable
from tests.search.fake_runtime import FakeRuntime
from tests.spaces.test_spaces import tiny_space

TINY, DIGITS = tiny_space(), named_space("digits")
PUBLISHED = Path(__file__).parents[3] / "results" / "latency"
COUNTS = {"rounds": 1, "fit_networks": 12, "held_out": 12, "minutes": None}
HOT, OVERHEAD_MS = 0.8, 0.05
Law = Callable[[Unit], float]


def source_law(unit: Unit) -> float:
    """Milliseconds alone, by layers, with an oddity of widths that no sum over layers has."""
    ms = sum(0.02 + amount for amount in fallback.terms(unit).values())
    return ms * (1.0 if getattr(unit, "in_chs", 8) % 8 == 0 else 1.3)


def law_by_kind(unit: Unit) -> float:
    """Depthwise layers take three times as long as at the source, tails half as long, all else as long."""
    amounts = fallback.terms(unit)
    depthwise = sum(0.02 + amount for term, amount in amounts.items() if term.startswith("depthwise"))
    return (source_law(unit) + 2 * depthwise) * (0.5 if isinstance(unit, Tail) else 1.0)


def network_ms(space: Space, law: Law, codes: np.ndarray) -> np.ndarray:
    return UnitTable(space, law).total(codes) / HOT + OVERHEAD_MS


def table_of(
    space: Space,
    law: Law,
    *,
    units: int | None = None,
    fit_networks: int = 48,
    held_out: int = 24,
    noise: float = 0.0,
    seed: int = 0,
    runtime: str = "target",
    source: LatencyTable | None = None,
) -> LatencyTable:
    """A table of a target that follows a law of units, with normal noise on every measurement (nothing is timed)."""
    rng = np.random.default_rng([seed, 7])
    planned = measurement_plan(
        space, fit_networks=fit_networks, held_out=held_out, rounds=1, threads=1, batch=1, seed=seed
    )
    known, names = all_units(space), [item.name for item in planned.items]
    networks = network_ms(space, law, np.array(planned.networks))
    ms: Mapping[str, float] = {f"network {k}": t for k, t in enumerate(networks)} | {
        k: law(u) for k, u in known.items()
    }
    in_order = names[len(networks) :]
    kept = names[: len(networks)] + list(dict.fromkeys([*rounds.pilot_units(in_order), *in_order]))[:units]
    rows = [
        Measurement(
            item=name,
            visit=0,
            at_s=10.0 * k,
            seconds=0.1,
            reference_ms=0.1,
            min_ms=ms[name] * float(np.exp(noise * rng.standard_normal())),
        )
        for k, name in enumerate(kept)
    ]
    setting = Setting(
        runtime=runtime, runtime_version="1", threads=1, batch=1, dtype="float32", lowering="split",
        space=space_to_dict(space), space_id=space.id, resolution=space.resolution, num_classes=space.num_classes,
        in_chs=space.in_chs,
    )  # fmt: skip
    device = Device.model_validate(this_device())
    return build_table(space, planned.networks, fit_networks, rows, setting, device, seed=seed, source=source)


@pytest.fixture(scope="module", autouse=True)
def rough_plans():
    """Plans and bootstrap intervals take most of the time that a table takes which is not timed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "POPULATION", 600)
        patch.setattr(fitting, "BOOTSTRAPS", 20)
        yield


@pytest.fixture(scope="module")
def source(rough_plans):
    return table_of(DIGITS, source_law, runtime="source")


def error(table: LatencyTable, space: Space, law: Law) -> float:
    codes = sample(space, np.random.default_rng(3), 200)
    return float(np.abs(Predictor(table, space)(codes).latency_ms / network_ms(space, law, codes) - 1).mean())


def test_a_common_scale_is_recovered(source):
    def law(unit: Unit) -> float:
        return 2.5 * source_law(unit)

    table = table_of(DIGITS, law, units=16, fit_networks=8, held_out=9, source=source)
    keys = all_units(DIGITS)
    assert set(table.entries) == set(keys) and table.units_timed == 16
    for key, unit in keys.items():
        assert table.entries[key].ms == pytest.approx(law(unit), rel=0.01)
    assert error(table, DIGITS, law) < 0.005 and table.transfer.unit_error < 0.01


def test_scales_by_kind_are_recovered_within_the_interval(source):
    table = table_of(DIGITS, law_by_kind, units=300, fit_networks=20, held_out=19, source=source)
    off = error(table, DIGITS, law_by_kind)
    assert off < 0.2 * table.validation.simpler["source, one scale"].mape
    inside = [
        entry.low_ms <= law_by_kind(unit) <= entry.high_ms
        for key, unit in all_units(DIGITS).items()
        if (entry := table.entries[key]).visits == 0
    ]
    assert len(inside) == len(table.entries) - 300 and np.mean(inside) > 0.85
    prediction = Predictor(table, DIGITS)(sample(DIGITS, np.random.default_rng(0), 50))
    assert "transfer" in prediction.source and set(prediction.source) <= {"table", "transfer"}


def test_more_measurements_are_better_on_average(source):
    means = [
        np.mean([
            error(
                table_of(DIGITS, law_by_kind, units=units, fit_networks=networks, held_out=9, noise=0.03, seed=seed,
                         source=source),
                DIGITS, law_by_kind,
            )
            for seed in range(3)
        ])
        for units, networks in ((16, 8), (48, 20), (200, 40))
    ]  # fmt: skip
    assert means[0] > means[1] > means[2]


def test_the_interval_covers_its_share_over_many_targets():
    """Each target has its own scales by kind, and noise that its source and its networks to judge by have, too."""
    shares = []
    for seed in range(30):
        rng = np.random.default_rng([seed, 1])
        terms = sorted({term for unit in all_units(TINY).values() for term in fallback.terms(unit)})
        scales = dict(zip(terms, rng.lognormal(0, 0.5, len(terms)).tolist(), strict=True))

        def law(unit: Unit, scales: dict[str, float] = scales) -> float:
            return sum(scales[term] * (0.02 + amount) for term, amount in fallback.terms(unit).items())

        there = table_of(TINY, source_law, noise=0.02, seed=100 + seed, runtime="source")
        table = table_of(TINY, law, units=12, fit_networks=10, held_out=19, noise=0.02, seed=seed, source=there)
        codes = sample_evenly(TINY, rng, 200)  # as those held out
        measured = network_ms(TINY, law, codes) * np.exp(0.02 * rng.standard_normal(200))
        predicted = Predictor(table, TINY)(codes)
        shares.append(np.mean((predicted.low_ms <= measured) & (measured <= predicted.high_ms)))
    # The 18th of 19 scores has coverage 0.9, with a standard deviation of 0.065 from target to target.
    assert 0.9 - 3 * 0.065 / 30**0.5 < np.mean(shares) < 0.9 + 3 * 0.065 / 30**0.5


def test_published_tables_are_transferred_far_better_than_by_one_scale():
    there, here = (
        LatencyTable.load(PUBLISHED / f"digits-{name}-int8-1t-b1.lat.json") for name in ("onnxruntime", "openvino")
    )
    space = table_space(there)
    plan = measurement_plan(space, fit_networks=8, held_out=9, rounds=1, threads=1, batch=1, seed=0)
    keys = [item.name for item in plan.items if item.kind == "unit"][:200]
    moved = transfer_units(space, there, {key: here.entries[key] for key in keys}).entries
    rest = sorted(set(moved) - set(keys))
    log = {name: np.log([table[key].ms for key in rest]) for name, table in (("here", here.entries), ("moved", moved))}
    scaled = np.log([there.entries[key].ms for key in rest])
    assert np.std(log["moved"] - log["here"]) < 0.2 * np.std(scaled - log["here"])


def test_a_table_that_was_measured_is_written_as_before(tmp_path):
    path = PUBLISHED / "digits-onnxruntime-int8-1t-b1.lat.json"
    LatencyTable.load(path).save(tmp_path / path.name)
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_a_check_times_what_was_timed(source):
    table = table_of(DIGITS, source_law, units=16, fit_networks=8, held_out=9, source=source)
    timed = {key for key, entry in table.entries.items() if entry.visits}
    names = {name for name, _ in _items(table, DIGITS) if not name.startswith("network ")}
    assert names and names <= timed


def test_what_a_table_was_transferred_from_is_said(source, tmp_path):
    table = table_of(DIGITS, source_law, units=16, fit_networks=8, held_out=9, source=source)
    table.save(tmp_path / "t.lat.json")
    loaded = LatencyTable.load(tmp_path / "t.lat.json")
    source.save(tmp_path / "s.lat.json")
    origin = loaded.transfer
    assert origin.content_sha256 == LatencyTable.load(tmp_path / "s.lat.json").content_sha256
    assert (origin.setting, origin.device) == (source.setting, source.device)
    assert (origin.networks, origin.units) == (8, 16)
    text = format_table(loaded)
    assert "transferred from source 1, float32, 1 thread(s), batch 1" in text and "by 8 networks and 16 units" in text


class OtherRuntime(FakeRuntime):
    """The law, half as slow again."""

    name = "other"

    def load(self, compiled: bytes):
        session = super().load(compiled)
        session.ns = int(1.5 * session.ns)
        return session


@pytest.fixture
def law(monkeypatch):
    monkeypatch.setattr(interference, "INITIAL_PROBES_S", 0.0)
    monkeypatch.setitem(RUNTIMES, "law", FakeRuntime)
    monkeypatch.setitem(RUNTIMES, "other", OtherRuntime)


@pytest.fixture
def here(law, tmp_path):
    """A table of the runtime `law` in the space `tiny`."""
    path = tmp_path / "here.lat.json"
    calibrate(TINY, path, runtime="law", rounds=2, fit_networks=12, held_out=12, minutes=None)
    return path


def test_a_transfer_goes_on_after_a_kill_and_measures_nothing_twice(here, tmp_path, monkeypatch):
    loaded = LatencyTable.load(here)
    whole, again = tmp_path / "whole" / "t.lat.json", tmp_path / "again" / "t.lat.json"
    unbroken = calibrate(TINY, whole, runtime="other", source=loaded, **COUNTS)
    lines = measurements_log(whole).read_bytes().splitlines(keepends=True)
    kept = len(lines) // 2
    again.parent.mkdir()
    measurements_log(again).write_bytes(b"".join(lines[:kept]) + lines[kept][:10])
    original, visited = rounds.take_measurement, []
    monkeypatch.setattr(rounds, "take_measurement", lambda *a: visited.append(1) or original(*a))
    resumed = calibrate(TINY, again, runtime="other", source=loaded, **COUNTS)
    assert resumed.entries == unbroken.entries and resumed.transfer == unbroken.transfer
    pairs = [(row["item"], row["visit"]) for row in JsonLines(measurements_log(again)) if "item" in row]
    early = sum(b'"item"' in line for line in lines[:kept])
    assert len(pairs) == len(set(pairs)) and len(visited) >= len(pairs) - early
    another = loaded.model_copy(update={"content_sha256": "0" * 64})
    with pytest.raises(UserError, match="visits of another calibration: source is "):
        calibrate(TINY, again, runtime="other", source=another, **COUNTS)


def test_sources_that_dont_fit_are_refused_before_anything_is_measured(here, tmp_path):
    loaded, out = LatencyTable.load(here), tmp_path / "new" / "t.lat.json"
    cases = [
        (replace(TINY, widths=(0.5, 0.75)), {}, "is of space tiny"),
        (replace(TINY, num_classes=4), {}, "num_classes 3, not 4"),
        (replace(TINY, resolution=16), {}, "resolution 8, not 16"),
        (
            TINY,
            {"runtime": "law"},
            r"this very target \(law 1, float32, 1 thread\(s\), batch 1\): `calibrate check`",
        ),
        (TINY, {"fit_networks": 7}, "a transfer needs 8 networks to fit and 9 .* but got 7 and 12"),
        (TINY, {"held_out": 8}, "but got 12 and 8"),
        (TINY, {"rounds": 0}, "rounds"),
    ]
    for space, changed, message in cases:
        with pytest.raises(UserError, match=message):
            calibrate(space, out, **{"runtime": "other", "source": loaded} | COUNTS | changed)
    assert not out.parent.exists()


def test_the_setting_that_differs_may_be_the_batch_alone(here, tmp_path):
    table = calibrate(TINY, tmp_path / "t.lat.json", runtime="law", batch=4, source=LatencyTable.load(here), **COUNTS)
    assert table.setting.batch == 4 and table.validation.mape < 0.01


def test_too_few_units_are_refused(source):
    with pytest.raises(UserError, match="a transfer needs 8 units that were timed on the target, but got 7"):
        table_of(DIGITS, source_law, units=7, source=source)


def test_of_what_a_timed_unit_is_off_the_timings_part_is_left_out(source):
    """A target that takes three times as long, for each unit a little more or less of its own, timed with noise."""
    rng, keys = np.random.default_rng(0), sorted(source.entries)
    errors = {}
    for own, noise in ((0.001, 0.05), (0.05, 0.05), (0.05, 0.001)):
        of_their_own, off = own * rng.standard_normal(len(keys)), noise * rng.standard_normal(len(keys))
        truth = np.log([3 * source.entries[key].ms for key in keys]) + of_their_own
        timed = {
            key: Entry(ms=ms, low_ms=None, high_ms=None, visits=1)
            for key, ms in zip(keys, np.exp(truth + off).tolist(), strict=True)
        }
        found = {
            said: np.log([each.ms for each in transfer_units(DIGITS, source, timed, said).entries.values()])
            for said in (0.0, noise)
        }
        assert found[0.0] == pytest.approx(truth + off)  # as they were timed
        errors[own, noise] = np.std(found[noise] - truth) / np.std(off)
    assert errors[0.001, 0.05] < 0.5  # nearly all of what is off was the timing's
    assert errors[0.05, 0.05] < 0.85  # half of it, where 0.71 is the best that can be done
    assert errors[0.05, 0.001] < 1.05  # nearly nothing


def test_where_all_units_were_timed_the_way_without_a_source_is_learned_too(source):
    """A target that differs from its source by kinds of layers: a law of its own tells it better than the source."""
    rng, known = np.random.default_rng(0), all_units(DIGITS)
    truth = {key: law_by_kind(unit) for key, unit in known.items()}
    timed = {
        key: Entry(ms=ms * float(np.exp(0.05 * rng.standard_normal())), low_ms=None, high_ms=None, visits=1)
        for key, ms in truth.items()
    }
    found = transfer_units(DIGITS, source, timed, 0.05).entries
    before, after = (np.std([np.log(of[key].ms / truth[key]) for key in truth]) for of in (timed, found))
    assert after < 0.5 * before


def test_repeatability_is_the_standard_error_of_one_measurement():
    rng = np.random.default_rng(0)
    several = [np.exp(0.03 * rng.standard_normal(4)).tolist() for _ in range(300)]
    assert repeatability(several) == pytest.approx(0.03, rel=0.1)
    several[::10] = [[1.0, 2.0, 1.0, 2.0] for _ in several[::10]]  # disturbed unnoticed
    assert repeatability(several) == pytest.approx(0.03, rel=0.25)
    assert repeatability([[1.0], [2.0]]) == 0


@pytest.mark.parametrize("estimate", ["fallback", "transfer"])
def test_what_the_source_estimated_itself_is_less_sure(source, estimate):
    keys = sorted(source.entries)
    of = {key: source.entries[key] for key in keys[::2]}
    if estimate == "transfer":
        wide = {key: entry.model_copy(update={"low_ms": 0.8 * entry.ms, "high_ms": 1.2 * entry.ms, "visits": 0})
                for key, entry in source.entries.items()}  # fmt: skip
        of = wide | of
    some = source.model_copy(update={"entries": of})
    moved = transfer_units(DIGITS, some, {key: source.entries[key] for key in keys[:64:2]}).entries
    assert set(moved) == set(keys)
    timed_there, estimated_there = (
        np.mean([np.log(moved[key].high_ms / moved[key].ms) for key in keys[at + 64 :: 2]]) for at in (0, 1)
    )
    assert estimated_there > 1.5 * timed_there
    networks = sample(DIGITS, np.random.default_rng(0), 5)
    assert Units(DIGITS, moved, None).estimated.total(networks).max() > 0


def ghostnas(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of a command in this process, where the runtimes are that are made up."""
    monkeypatch.setattr("sys.argv", ["ghostnas", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code or 0


def test_from_the_command_line(here, tmp_path, capsys, monkeypatch):
    out = tmp_path / "other.lat.json"
    asked = ["calibrate", "transfer", str(here), "--runtime", "other", "--minutes", "0.02", "--out", str(out)]
    assert ghostnas(monkeypatch, *asked) == 0
    table = LatencyTable.load(out)
    assert table.transfer.setting.runtime == "law" and table.setting.runtime == "other"
    assert "networks it never saw" in capsys.readouterr().out
    for arguments, message in (
        (asked, "is there already"),
        ([*asked[:-1], str(tmp_path / "new.lat.json"), "--runtime", "law"], "this very target"),
        ([*asked[:-1], str(tmp_path / "new.lat.json"), "--networks", "8"], "greater than or equal to 9, but got '8'"),
        (["calibrate", "transfer", str(measurements_log(here)), "--out", str(tmp_path / "n")], "no latency table"),
        (["calibrate", "transfer", str(tmp_path / "none"), "--out", str(tmp_path / "n")], "No such file"),
    ):
        assert ghostnas(monkeypatch, *arguments) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1
    assert not (tmp_path / "new.lat.json").exists() and not (tmp_path / "n").exists()
