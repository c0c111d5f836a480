"""Latency tables: a calibration against a runtime whose law is known, a real small one, the file, the predictor."""

import itertools
import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import search.latency.calibrate as calibration
from ghostnet.cost import unit_layers
from ghostnet.units import Bottleneck, chain, output_values, units
from search.api.costs import network_costs
from search.commands.calibrate import _space
from search.engine.budgets import LatencyBudget
from search.engine.objectives import LatencyObjective
from search.errors import UserError
from search.files import JsonLines
from search.latency import fallback
from search.latency.bench import Bench, all_units, logged_units, measurement_plan, networks_to_the_ends
from search.latency.calibrate import _RunningEstimate, calibrate, measurements_log
from search.latency.check import rescale_table
from search.latency.drift import without_drift
from search.latency.fallback import terms
from search.latency.predictor import (
    Predictor,
    Units,
    UnitValues,
    _has_se,
    _is_plain,
    apply,
    conformal,
    fit,
    linear,
    table_space,
)
from search.latency.runtimes import RUNTIMES
from search.latency.table import SCHEMA_FILE, Correction, Entry, LatencyTable, _sealed, json_schema
from search.latency.timing import interference as gates
from search.latency.timing import measurement, rounds
from search.latency.timing.rounds import FEWEST_NETWORKS, FIRST
from search.latency.timing.scores import score
from spaces import SpaceError, named_space, space_from_dict
from spaces.population import mutate, sample
from spaces.tables import UnitTable, params_table, space_units
from tests.helpers import plus_space
from tests.search.fake_runtime import HOT, OVERHEAD_NS, FakeRuntime
from tests.search.runs import made_up_table
from tests.search.test_folders import held
from tests.spaces.test_spaces import tiny_space

SPACE = tiny_space()
MOMENT = 1e-6  # minutes
ARGUMENTS = {"rounds": 2, "fit_networks": 12, "held_out": 12, "seed": 1, "minutes": None}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A real table, of a real runtime."""
    path = tmp_path_factory.mktemp("latency") / "table.lat.json"
    return path, calibrate(SPACE, path, **ARGUMENTS)


@pytest.fixture
def law(monkeypatch):
    monkeypatch.setattr(gates, "INITIAL_PROBES_S", 0.0)
    monkeypatch.setitem(RUNTIMES, "law", FakeRuntime)
    return ARGUMENTS | {"runtime": "law"}


def truth(codes, batch=1):
    """What networks take by the law, in milliseconds."""
    return (10 * batch * params_table(SPACE).total(codes) / HOT + OVERHEAD_NS) / 1e6


@pytest.mark.parametrize("batch", [1, 4])
def test_a_known_law_is_recovered(law, tmp_path, batch):
    table = calibrate(SPACE, tmp_path / "t.lat.json", **law, batch=batch)
    codes = sample(SPACE, np.random.default_rng(0), 200)
    predicted = Predictor(table, SPACE, batch=batch, runtime="law")(codes)
    np.testing.assert_allclose(predicted.latency_ms, truth(codes, batch), rtol=0.002)
    assert table.validation.kendall_tau > 0.98 and table.validation.mape < 0.002
    assert table.validation.simpler["sum of units, uncorrected"].mape > 0.15  # what the correction is for
    assert table.protocol.disturbed == 0 and table.setting.batch == batch


def test_a_noisy_machine_says_so_and_widens_its_intervals(law, tmp_path, monkeypatch):
    calm = calibrate(SPACE, tmp_path / "calm.lat.json", **law)
    monkeypatch.setattr(FakeRuntime, "noise", 2.0)
    monkeypatch.setattr(measurement, "MAX_PROBES", 3)
    noisy = calibrate(SPACE, tmp_path / "noisy.lat.json", **law)
    codes = sample(SPACE, np.random.default_rng(0), 50)
    widths = [(p.high_ms / p.latency_ms).mean() for p in (Predictor(t, SPACE)(codes) for t in (calm, noisy))]
    assert widths[1] > widths[0] + 0.01 and noisy.protocol.disturbed > calm.protocol.disturbed
    assert noisy.validation.ruler.mape > calm.validation.ruler.mape


def test_what_was_never_timed_is_estimated_with_a_wider_interval(law, tmp_path):
    space = named_space("digits")
    whole = calibrate(space, tmp_path / "t.lat.json", **law | {"rounds": 2})
    keys = sorted(whole.entries)
    kept = {key: whole.entries[key] for key in keys if hash_(key) % 3}
    some = whole.model_copy(update={"entries": kept})
    codes = sample(space, np.random.default_rng(0), 200)
    timed, estimated = Predictor(whole, space)(codes), Predictor(some, space)(codes)
    assert set(timed.source) == {"table"} and (timed.timed == 1).all()
    assert "fallback" in estimated.source and estimated.timed.min() < 1
    assert np.abs(estimated.latency_ms / timed.latency_ms - 1).mean() < whole.fallback.error
    guessed = estimated.timed < 1
    assert ((estimated.high_ms / estimated.latency_ms)[guessed] > (timed.high_ms / timed.latency_ms)[guessed]).all()
    with pytest.raises(UserError, match="no entry for the unit"):
        Predictor(some.model_copy(update={"fallback": None}), space)


def hash_(key: str) -> int:
    return sum(key.encode())


def test_the_fallback_recovers_a_law_of_layers():
    blocks = [unit for unit in all_units(named_space("digits")).values() if isinstance(unit, Bottleneck)]
    timed = {unit: sum(0.01 + a for a in fallback.terms(unit).values()) for unit in blocks}
    units_of = [blocks[k] for k in np.random.default_rng(0).permutation(len(blocks))]
    law_of = fallback.fit({unit: timed[unit] for unit in units_of[::2]})
    left = [(unit, timed[unit]) for unit in units_of[1::2]]
    errors = [fallback.estimate(law_of, unit) / ms - 1 for unit, ms in left]
    assert law_of.error < 0.02 and np.abs(errors).max() < 0.1
    assert fallback.fit({unit: timed[unit] for unit in blocks[:5]}) is None


def test_a_calibration_times_every_unit_and_reads_back(made):
    path, table = made
    assert set(table.entries) == set(all_units(SPACE)) and table.validation.networks >= 1
    assert LatencyTable.load(path) == table
    codes = sample(SPACE, np.random.default_rng(0), 50)
    prediction = Predictor(table, SPACE)(codes)
    assert (prediction.low_ms <= prediction.latency_ms).all() and (prediction.latency_ms <= prediction.high_ms).all()
    assert (prediction.latency_ms > 0).all()


def test_nothing_is_measured_twice_after_a_kill(law, tmp_path, monkeypatch):
    path = tmp_path / "whole" / "t.lat.json"
    calibrate(SPACE, path, **law)
    log = path.with_name(path.name + ".visits.jsonl")
    rows = log.read_bytes().splitlines(keepends=True)
    again = tmp_path / path.name
    kept = len(rows) // 2
    (tmp_path / log.name).write_bytes(b"".join(rows[:kept]) + rows[kept][:10])
    visited = []
    original = rounds.take_measurement
    monkeypatch.setattr(rounds, "take_measurement", lambda *a: visited.append(1) or original(*a))
    calibrate(SPACE, again, **law)
    before, after = ([r for r in JsonLines(p) if "item" in r] for p in (log, tmp_path / log.name))
    pairs = [(row["item"], row["visit"]) for row in after]
    assert len(pairs) == len(set(pairs)) == len(before)
    early = sum(b'"item"' in row for row in rows[:kept])
    assert len(visited) >= len(before) - early  # disturbed visits are made again, settled ones never
    with pytest.raises(UserError, match="another calibration"):
        calibrate(SPACE, again, **(law | {"seed": 2}))


def test_two_calibrations_of_one_table_are_not_at_work_at_once(law, tmp_path):
    path = tmp_path / "t.lat.json"
    with held(tmp_path, path.name), pytest.raises(UserError, match=r"t\.lat\.json is in use by process"):
        calibrate(SPACE, path, **law)
    assert not [each for each in tmp_path.iterdir() if each.name != f".{path.name}.lock"]
    with held(tmp_path, "another.lat.json"):
        calibrate(SPACE, path, **law)
    items = [(row["item"], row["visit"]) for row in JsonLines(measurements_log(path)) if "item" in row]
    assert len(items) == len(set(items))


def test_a_finished_table_of_another_setting_or_machine_is_no_place_for_a_new_one(law, tmp_path, monkeypatch):
    path = tmp_path / "t.lat.json"
    calibrate(SPACE, path, **law)
    before = path.read_bytes()
    device = calibration.this_device()
    with (
        monkeypatch.context() as patch,
        pytest.raises(UserError, match=f"another calibration: cpu is {re.escape(device['cpu'][:50])}.*, not another"),
    ):
        patch.setattr(calibration, "this_device", lambda: device | {"cpu": "another"})
        calibrate(SPACE, path, **law)
    measurements_log(path).unlink()
    with pytest.raises(UserError, match=r"t\.lat\.json is another table: batch is 1, not 2$"):
        calibrate(SPACE, path, **law | {"batch": 2})
    assert path.read_bytes() == before and not measurements_log(path).exists()


def test_a_calibration_that_cannot_begin_leaves_no_log(law, tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "reference", lambda run: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        calibrate(SPACE, tmp_path / "a/t.lat.json", **law)
    assert not list(tmp_path.iterdir())


def test_a_deadline_still_visits_the_fewest_networks_and_every_kind_of_layer(law, tmp_path):
    table = calibrate(SPACE, tmp_path / "t.lat.json", **(law | {"rounds": 50, "minutes": MOMENT}))
    timed = [key for key, entry in table.entries.items() if entry.visits]
    assert all(table.entries[key].visits == 1 for key in timed) and len(timed) >= 40
    assert table.protocol.visits == len(timed) + 2 * FEWEST_NETWORKS
    kinds = {kind for unit in all_units(SPACE).values() for kind in terms(unit)}
    assert kinds == {kind for key in timed for kind in terms(all_units(SPACE)[key])}


def test_the_look_at_the_error_takes_a_tenth_of_the_time(monkeypatch):
    """In a space of 70,000 units one takes half a minute."""
    clock, took, looks = [0.0], 7.0, []
    live = _RunningEstimate(
        SPACE, measurement_plan(SPACE, fit_networks=2, held_out=2, rounds=1, threads=1, batch=1, seed=0)
    )

    def fit(*_, **__):
        looks.append(clock[0])
        clock[0] += took
        raise UserError("unknown yet")

    monkeypatch.setattr("search.latency.calibrate.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("search.latency.calibrate.fit_table", fit)
    live.updated, live.enough = 0.0, 0
    while clock[0] < 1000:
        live.message({})
        clock[0] += 1
    assert 1000 * 0.08 < took * len(looks) < 1000 * 0.12


def test_the_look_at_the_error_waits_for_units_without_a_like(capsys):
    """What a disturbed machine puts off may be all units of a kind: so a main job once died in its progress."""
    space = named_space("digits")
    planned = measurement_plan(space, fit_networks=8, held_out=8, rounds=2, threads=1, batch=1, seed=0)
    row = {"visit": 0, "seconds": 0.1, "reference_ms": 0.1}
    measurements = {
        item.name: [row | {"item": item.name, "at_s": float(k), "min_ms": 0.1 + k * 1e-4}]
        for k, item in enumerate(planned.items)
    }
    without = {name: built for name, built in measurements.items() if not name.startswith("stem ")}
    live = _RunningEstimate(space, planned)
    for seen, message in ((without, ""), (measurements, "error ")):
        live.updated = -float("inf")
        assert live.message(seen).startswith(message) and bool(live.message(seen)) == bool(message)
    assert "left out" not in capsys.readouterr().err
    live.updated = -float("inf")
    broken = {name: [built[0] | {"min_ms": "fast"}] for name, built in measurements.items()}
    assert live.message(broken).startswith("error ") and "left out: the error on the way" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["digits", "digits-plus"])
def test_the_units_that_are_timed_in_any_case_have_every_kind_of_layer(name):
    space = named_space(name)
    planned = measurement_plan(space, fit_networks=2, held_out=2, rounds=2, threads=1, batch=1, seed=0)
    known, first = all_units(space), [item.name for item in planned.items[4 : 4 + FIRST]]
    kinds = [set().union(*(fallback.terms(known[key]) for key in keys)) for keys in (first, known)]
    assert kinds[0] == kinds[1]


def test_a_log_of_another_calibration_is_refused_by_what_differs(law, tmp_path):
    path = tmp_path / "t.lat.json"
    calibrate(SPACE, path, **law)
    for changed, message in (
        ({"batch": 2}, "batch is 1, not 2$"),
        ({"seed": 5, "rounds": 3}, "seed is 1, not 5; rounds is 2, not 3$"),
    ):
        with pytest.raises(UserError, match=f"another calibration: {message}"):
            calibrate(SPACE, path, **law | changed)


def test_logs_and_tables_that_have_a_block_under_two_ratios_are_read_as_without(law, tmp_path):
    """Earlier versions timed it twice."""
    space, path = named_space("digits"), tmp_path / "t.lat.json"
    twice = sorted(logged_units(space) - set(all_units(space)))[0]
    calibrate(space, path, **law | {"minutes": MOMENT})
    log = measurements_log(path)
    visit = next(row for row in JsonLines(log) if str(row.get("item")).startswith("ghost"))
    JsonLines(log).append(visit | {"item": twice})
    calibrate(space, path, **law | {"minutes": MOMENT})
    again = LatencyTable.load(path)
    assert twice not in again.entries
    old = again.model_copy(update={"entries": again.entries | {twice: next(iter(again.entries.values()))}})
    old.save(path)
    codes = sample(space, np.random.default_rng(0), 50)
    before, after = (Predictor(table, space)(codes).latency_ms for table in (LatencyTable.load(path), again))
    assert twice in LatencyTable.load(path).entries and (before == after).all()


def test_a_network_that_states_a_block_by_its_other_ratio_has_all_units_in_a_table(law, tmp_path):
    space = named_space("digits")
    predict = Predictor(calibrate(space, tmp_path / "t.lat.json", **law), space)
    stages = space.uniform(0.25).stages
    arch = replace(space.uniform(0.25), stages=tuple(tuple(replace(b, ratio=3) for b in stage) for stage in stages))
    named = chain(arch, space.num_classes, space.in_chs).named
    assert {unit.key for unit in named.values()} - set(all_units(space))
    assert predict.timed_units(arch) == set(predict.per_unit(arch)) == set(named)


def test_what_was_compiled_is_kept_for_the_next_process(tmp_path, monkeypatch):
    planned = measurement_plan(SPACE, fit_networks=2, held_out=2, rounds=2, threads=1, batch=1, seed=0)
    run, names = FakeRuntime(1), [item.name for item in planned.items[:6]]
    bench = partial(Bench, SPACE, planned.networks, store=tmp_path)
    first = [bench(planned.shapes).compiled(run, name) for name in names]
    monkeypatch.setattr(FakeRuntime, "compile", None)
    assert [bench(planned.shapes).compiled(run, name) for name in names] == first
    with pytest.raises(TypeError):  # of another batch there is none
        bench({names[0]: [2, *planned.shapes[names[0]][1:]]}).compiled(run, names[0])


def test_the_plan_covers_what_is_probable_and_holds_out_a_spread():
    space = named_space("digits")
    built = measurement_plan(space, fit_networks=16, held_out=8, rounds=3, threads=1, batch=1, seed=0)
    names = [item.name for item in built.items]
    assert names[:24] == [f"network {k}" for k in range(24)] and set(names[24:]) == set(all_units(space))
    chains = [units(space.decode(np.array(code)), space.num_classes, space.in_chs) for code in built.networks[:16]]
    covered = {unit.key for chain in chains for unit in chain}
    sampled = [
        units(space.decode(c), space.num_classes, space.in_chs) for c in sample(space, np.random.default_rng(0), 16)
    ]
    assert len(covered) > len({unit.key for chain in sampled for unit in chain})
    assert measurement_plan(space, fit_networks=16, held_out=8, rounds=3, threads=1, batch=1, seed=0) == built


def unit_values(ms, outputs=None):
    """Of units without parameters and of no particular kind."""
    nothing = np.zeros_like(ms)
    return UnitValues(ms, nothing, nothing if outputs is None else outputs, nothing, nothing)


def test_the_fit_recovers_a_known_law_and_its_interval_covers():
    rng = np.random.default_rng(0)
    alone = rng.uniform(0.5, 2.0, (400, 6))
    params = rng.uniform(0, 1e6, (400, 6))
    maps = rng.uniform(0, 1e5, (400, 6))
    law = 0.4 + 0.9 * alone.sum(1) - 5e-6 * maps[:, 2] + 0.5e-6 * params.sum(1)
    plain, se = (rng.random((2, 400, 6)) < 0.4).astype(float)
    law += 0.2e-12 * params.sum(1) ** 2 + 0.1 * plain.sum(1) + 5e-6 * (plain * maps).sum(1) - 0.15 * se.sum(1)
    noisy = law * (1 + 0.01 * rng.standard_normal(400))
    values = UnitValues(alone, params, maps, plain, se)
    correction = fit(values[:60], noisy[:60])
    assert correction.ms_per_plain == pytest.approx(0.1, abs=0.03)
    assert correction.ms_per_plain_mvalue == pytest.approx(5, abs=1)
    assert correction.ms_per_se == pytest.approx(-0.15, abs=0.03)
    assert correction.ms_per_mparam_squared == pytest.approx(0.2, abs=0.1)
    assert np.abs(apply(correction, values[160:]) / law[160:] - 1).max() < 0.02
    errors = np.abs(apply(correction, values) / noisy - 1)
    # expected 0.9; for 100 calibration and 240 test points the share is below 0.75 with odds under 1 in 10,000
    assert (errors[160:] <= conformal(errors[60:160])).mean() > 0.75
    sums = [alone.sum(1), np.ones(400), params.sum(1)]
    slope, none, each, base = linear(sums, 3e-3 * sums[0] + 2e-9 * sums[2] + 2e-4)
    assert (slope, each) == pytest.approx((3e-3, 2e-9), rel=1e-3) and none == 0
    assert base == pytest.approx(2e-4, rel=0.02)


def test_no_noise_makes_a_network_of_slower_units_faster():
    rng = np.random.default_rng(0)
    ms = rng.uniform(0.05, 0.3, (12, 5))
    measured = 2.0 - ms.sum(1) + rng.uniform(0, 0.1, 12)  # as on a machine that is busy with something else
    values = unit_values(ms)
    correction = fit(values, measured, by_position=False)
    assert correction.slope == pytest.approx(np.median(measured / ms.sum(1))) and correction.intercept_ms == 0
    assert (np.diff(apply(correction, values)[np.argsort(ms.sum(1))]) > 0).all()


def test_a_map_that_is_the_same_in_all_networks_is_not_corrected_by_rounding():
    """Such as the stem's of a space with one width of it: the mean of many equal numbers is off by a bit, which no
    correction may magnify into milliseconds."""
    rng = np.random.default_rng(0)
    ms, maps = rng.uniform(0.05, 0.3, (2, 40, 5))
    maps[:, 0] = 0.0411
    assert maps.mean(0)[0] != 0.0411
    measured = (0.2 + ms.sum(1)) * rng.normal(1, 0.1, 40)
    correction = fit(unit_values(ms, maps), measured)
    assert correction.ms_per_mvalue[0] == 0 and min(map(abs, correction.ms_per_mvalue[1:])) > 0
    maps[:, 0] = 0
    assert fit(unit_values(ms, maps), measured) == correction


def test_what_units_pay_at_their_ends_when_they_are_timed_alone_is_taken_out():
    """Each brings the map that it reads into the runtime's own form; in a network only the first one does."""
    space, rng = named_space("digits"), np.random.default_rng(0)
    own = {key: rng.uniform(0.01, 0.03) for key in all_units(space)}
    paid = {key: 2e-6 * unit.in_chs * unit.size**2 for key, unit in all_units(space).items()}
    entries = {key: Entry(ms=own[key] + paid[key], low_ms=None, high_ms=None, visits=1) for key in own}
    codes = sample(space, rng, 248)
    chains = [units(space.decode(code), space.num_classes, space.in_chs) for code in codes]
    expected = np.array([0.02 + sum(own[unit.key] for unit in chain) / HOT for chain in chains])
    values = Units(space, entries, None)(codes)
    corrected, uncorrected = (fit(values[:48], expected[:48], by_position=each) for each in (True, False))
    assert max(corrected.ms_per_mvalue[:-1]) < 0 and set(uncorrected.ms_per_mvalue) == {0}
    errors = [np.abs(apply(each, values[48:]) / expected[48:] - 1).mean() for each in (corrected, uncorrected)]
    assert errors[0] < 0.65 * errors[1] and errors[0] < 0.02, errors


@pytest.mark.parametrize("name", ["digits", "digits-plus"])
def test_networks_to_the_ends_reach_where_random_ones_do_not(name):
    """Half of the way from the fastest of many random networks to the fastest of all, at least, by a law of layers and
    by another of values that are read and written; each network once."""
    space, rng = named_space(name), np.random.default_rng(0)
    codes = networks_to_the_ends(space, rng, 80)
    assert len(np.unique(codes, axis=0)) == 80 and (space.canonical(codes) == codes).all()
    for law in (lambda unit: 1.0 + len(list(unit_layers(unit))), lambda unit: 1e-5 * output_values(unit)):
        table = UnitTable(space, law)
        fastest, random = table.total(table.extreme()[None]).item(), table.total(sample(space, rng, 2000)).min()
        assert table.total(codes).min() <= (fastest + random) / 2
    assert len(networks_to_the_ends(SPACE, rng, 10_000)) <= SPACE.size < 10_000


@pytest.mark.parametrize(("rows", "size"), [(1, 2), (2, 8), (4, 32)])
def test_no_network_that_is_held_out_is_fitted_however_small_the_space(rows, size):
    """As "networks it never saw" says; where there are fewer than are to be timed, some are timed twice."""
    digits = named_space("digits")
    space = replace(digits, rows=digits.rows[:rows], widths=(1.0,), ratios=(2,), cheap_kernels=(3,))
    assert space.size >= 2
    for fit_networks, held_out in ((2, 2), (8, 8), (24, 16), (48, 32)):
        counts = {"fit_networks": fit_networks, "held_out": held_out}
        codes = measurement_plan(space, **counts, rounds=2, threads=1, batch=1, seed=0).networks
        fitted, held_back = ({tuple(code) for code in part} for part in (codes[:fit_networks], codes[fit_networks:]))
        assert len(codes) == fit_networks + held_out and not fitted & held_back
        if space.size >= len(codes):
            assert len(fitted) + len(held_back) == len(codes)


@pytest.mark.parametrize("by_position", [True, False])
def test_what_two_kinds_of_blocks_take_less_in_a_network_holds_at_the_fast_end(by_position):
    """Fitted to networks of the plan, judged on the fastest of all and its neighbours: blocks of ratio 1 without SE."""
    space, rng = named_space("digits"), np.random.default_rng(0)
    entries = {key: Entry(ms=rng.uniform(0.01, 0.03), low_ms=None, high_ms=None, visits=1) for key in all_units(space)}
    known = Units(space, entries, None)

    def law(codes):
        each = known(codes)
        kinds = -0.004 * each.plain - 1e-7 * each.plain * each.outputs + 0.003 * each.se
        return 0.01 + (each.ms + kinds).sum(1)

    codes = networks_to_the_ends(space, rng, 48)
    correction = fit(known(codes), law(codes), by_position=by_position)
    fastest = UnitTable(
        space, lambda unit: entries[unit.key].ms - 0.01 * _is_plain(unit) + 0.01 * _has_se(unit)
    ).extreme()
    ends = mutate(space, rng, np.tile(fastest, (50, 1)), 0.1)
    assert np.abs(apply(correction, known(ends)) / law(ends) - 1).max() < 0.01
    few = fit(known(codes[:8]), law(codes[:8]), by_position=by_position)
    assert few.ms_per_plain == few.ms_per_plain_mvalue == few.ms_per_se == 0  # too few to tell


def test_a_table_of_an_earlier_version_predicts_as_it_did(law, tmp_path):
    table = calibrate(SPACE, tmp_path / "t.lat.json", **law)
    positions = SPACE.layout.positions
    slots = np.arange(len(positions)) / 10
    kinds = {"ms_per_plain": 0.0, "ms_per_plain_mvalue": 0.0, "ms_per_se": 0.0, "ms_per_mparam_squared": 0.0}
    earlier = table.correction.model_copy(update={"ms_per_mvalue": (), "slots": tuple(slots.tolist()), **kinds})
    codes = sample(SPACE, np.random.default_rng(0), 20)
    each = Units(SPACE, table.entries, table.fallback)(codes)
    expected = earlier.intercept_ms + ((earlier.slope + slots) * each.ms).sum(1)
    expected += earlier.ms_per_mparam / 1e6 * each.params.sum(1)
    predict = Predictor(table.model_copy(update={"correction": earlier}), SPACE)
    np.testing.assert_allclose(predict(codes).latency_ms, np.maximum(expected, each.ms.max(1)))
    np.testing.assert_allclose(predict.tangent.intercept_ms + predict.tangent.table.total(codes), expected)


def test_a_robust_fit_that_finds_no_way_on_is_followed_by_least_squares(monkeypatch):
    def stuck(*_):
        raise ValueError("HuberRegressor convergence failed: ABNORMAL_TERMINATION_IN_LNSRCH")

    monkeypatch.setattr("sklearn.linear_model.HuberRegressor.fit", stuck)
    sums = np.random.default_rng(0).uniform(0.5, 2.0, 20)
    assert linear([sums], 3e-3 * sums + 2e-4) == pytest.approx([3e-3, 2e-4])


def test_drift_that_all_networks_share_is_taken_out_and_no_other():
    rng = np.random.default_rng(0)
    truth_ms, at = rng.uniform(3, 9, 40), np.sort(rng.uniform(0, 120, (12, 40)).ravel()).reshape(12, 40)
    pace = 0.04 * np.sin(at / 3) + 0.03 * np.sin(at / 17)
    noise = 0.01 * rng.standard_normal(at.shape)
    order = rng.permuted(np.tile(np.arange(40), (12, 1)), axis=1)  # of the networks in each round

    def off(drift: np.ndarray, steady: bool) -> float:
        """How far scores are from the truth, up to a factor common to all."""
        measurements = {f"network {k}": [] for k in range(40)}
        for turn, place in np.ndindex(at.shape):
            k = order[turn, place]
            measurements[f"network {k}"].append((at[turn, place], truth_ms[k] * np.exp(drift + noise)[turn, place]))
        built = (
            without_drift(measurements)
            if steady
            else {name: [ms for _, ms in each] for name, each in measurements.items()}
        )
        return float(np.log([score(each) for each in built.values()] / truth_ms).std())

    assert off(pace, True) < 0.6 * off(pace, False)
    assert off(0 * pace, True) < 1.2 * off(0 * pace, False)


def test_predictions_are_sums_of_entries_and_the_fastest_is_exact(made):
    _, table = made
    predict = Predictor(table, SPACE)
    codes = np.array(list(itertools.product(*(range(n) for n in SPACE.choices))))[::7]
    fastest = float(predict(predict.fastest()).latency_ms[0])
    assert fastest <= predict(codes).latency_ms.min() + 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_the_least_upper_end_is_exact_though_the_fastest_network_may_have_another(seed):
    """Half of the units are estimated and err by up to half of their milliseconds."""
    rng = np.random.default_rng(seed)
    table = made_up_table(rng, SPACE)
    entries = {}
    for key in table.entries:
        ms, error = rng.uniform(1, 1.3), rng.choice([0.001, rng.uniform(0.1, 0.5)])
        entries[key] = Entry(ms=ms, low_ms=ms * (1 - error), high_ms=ms * (1 + error), visits=0 if error > 0.01 else 5)
    spread, spread_ms = rng.uniform(0.001, 0.2), rng.uniform(0, 2)
    params = params_table(SPACE)
    largest = params.total(params.extreme(largest=True)).item() / 1e6
    squared = rng.choice([0, 1, 30]) / largest**2  # milliseconds of the largest network
    correction = table.correction.model_copy(
        update={"ms_per_mparam": 0.0, "ms_per_mparam_squared": squared, "spread": spread, "spread_ms": spread_ms}
    )
    predict = Predictor(table.model_copy(update={"entries": entries, "correction": correction}), SPACE)
    everything = predict(np.array(list(itertools.product(*(range(n) for n in SPACE.choices)))))
    exactly = 1e-12 if squared == 0 else 0.005
    assert predict(predict.least_high()).high_ms.item() == pytest.approx(everything.high_ms.min(), rel=exactly)
    assert predict(predict.fastest()).latency_ms.item() == pytest.approx(everything.latency_ms.min(), rel=exactly)
    at = rng.uniform(0, 1.2) * largest * 1e6
    for high in (1.01 * everything.high_ms.min(), np.median(everything.high_ms), everything.high_ms.max()):
        inside = everything.high_ms <= high
        assert everything.latency_ms[inside].max() <= predict.most_ms(high) < high
    tangent, codes = predict.tangent_at(at), sample(SPACE, rng, 50)
    over = predict(codes).latency_ms - tangent.table.total(codes) - tangent.intercept_ms
    np.testing.assert_allclose(over, squared * ((params.total(codes) - at) / 1e6) ** 2, atol=1e-9)


def test_a_latency_budget_that_the_fastest_network_may_miss_is_refused_only_where_all_miss_it():
    """The stem of the fastest networks is estimated: of another, a little slower, the upper end is lower."""
    table = made_up_table(np.random.default_rng(0), SPACE)
    exact = Entry(ms=1.0, low_ms=0.999, high_ms=1.001, visits=5)
    narrow = min((unit for unit in space_units(SPACE)[0].flat), key=lambda unit: unit.out_chs)
    entries = dict.fromkeys(table.entries, exact)
    entries[narrow.key] = Entry(ms=0.95, low_ms=0.55, high_ms=1.35, visits=0)
    correction = table.correction.model_copy(update={"ms_per_mparam": 0.0, "spread": 0.001})
    predict = Predictor(table.model_copy(update={"entries": entries, "correction": correction}), SPACE)
    fastest, least = predict(np.stack([predict.fastest(), predict.least_high()])).high_ms
    assert least < fastest
    latency = LatencyObjective(predict=predict)
    LatencyBudget(latency, (least + fastest) / 2, predict.least_high).check(SPACE)
    nearest = SPACE.decode(predict.least_high()).id
    with pytest.raises(SpaceError, match=rf"the nearest feasible one, {nearest}, takes up to [\d.]+ ms$"):
        LatencyBudget(latency, 0.999 * least, predict.least_high).check(SPACE)
    with pytest.raises(SpaceError) as told:
        LatencyBudget(latency, 0.5 * least, predict.least_high).check(SPACE)
    shown = float(re.search(r"takes up to (\S+) ms$", str(told.value))[1])
    assert least <= shown <= 1.01 * least
    LatencyBudget(latency, shown, predict.least_high).check(SPACE)


def test_dropped_blocks_take_no_time():
    space = plus_space()
    keys = {unit.key for slot in space_units(space) for unit in slot.flat if unit}
    ms = {key: 1 + k / 7 for k, key in enumerate(sorted(keys))}
    entries = {key: Entry(ms=value, low_ms=None, high_ms=None, visits=1) for key, value in ms.items()}
    codes = sample(space, np.random.default_rng(0), 30)
    for code, total in zip(codes, Units(space, entries, None).ms.total(codes), strict=True):
        chain = units(space.decode(code), space.num_classes, space.in_chs)
        assert total == pytest.approx(sum(ms[unit.key] for unit in chain))


def test_the_milliseconds_of_units_add_up_to_the_prediction(made):
    _, table = made
    predict = Predictor(table, SPACE)
    bent = predict.correction.model_copy(update={"intercept_ms": -0.01, "ms_per_mparam": -5.0})
    for correction in (predict.correction, bent):  # of few networks units and intercepts may come out below zero
        predict.correction = correction
        for code in sample(SPACE, np.random.default_rng(0), 20):
            parts = predict.per_unit(SPACE.decode(code)).values()
            whole = max(correction.intercept_ms, 0.0) + sum(parts)
            assert whole == pytest.approx(float(predict(code).latency_ms[0])) and min(parts) >= 0


def test_tables_that_dont_fit_are_refused(made):
    _, table = made
    for space, message in (
        (replace(SPACE, num_classes=4), "num_classes 3, not 4"),
        (replace(SPACE, resolution=16), "resolution 8, not 16"),
        (replace(SPACE, widths=(0.5, 0.75)), "is of space tiny"),
    ):
        with pytest.raises(UserError, match=message):
            Predictor(table, space)
    for wanted in ({"batch": 8}, {"threads": 2}, {"dtype": "int8"}, {"runtime": "openvino"}):
        (name, value), *_ = wanted.items()
        with pytest.raises(UserError, match=f"was made for {name} .*, not {value}"):
            Predictor(table, SPACE, **wanted)


def test_files_that_are_no_table_or_were_changed_are_refused(made, tmp_path):
    path, _ = made
    text = path.read_text()
    content = json.loads(text)
    entry = next(iter(content["entries"]))
    for broken, message in (
        ("{", "is not JSON"),
        ("[]", "must be a JSON object"),
        (
            json.dumps(content | {"schema": "ghostnas.latency/1"}),
            "has schema ghostnas.latency/1, but .* calibrate again",
        ),
        (json.dumps(content | {"extra": 1}), "extra"),
        (json.dumps(content | {"entries": {"a": {"ms": 0, "visits": 1}}}), "entries.a"),
        (text.replace(f'"{entry}": {{"ms": ', f'"{entry}": {{"ms": 9'), "was changed since it was written"),
    ):
        (tmp_path / "broken.lat.json").write_text(broken)
        with pytest.raises(UserError, match=message):
            LatencyTable.load(tmp_path / "broken.lat.json")
    with pytest.raises(UserError, match="No such file"):
        LatencyTable.load(tmp_path / "none.lat.json")


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("validation", "held_out", []),
        ("validation", "mape", -1.0),
        ("correction", "slope", 1e308),
        ("correction", "quantile", 1e308),
        ("correction", "coverage", 2.0),
        ("setting", "batch", -3),
        ("setting", "threads", 0),
        ("setting", "num_classes", -1),
        ("setting", "dtype", "bf16"),
        ("protocol", "rescaled", 0.0),
    ],
)
def test_numbers_that_no_calibration_gives_are_refused_though_the_hash_fits(part, key, value, made, tmp_path):
    content = json.loads(made[0].read_text())
    content[part][key] = value
    (tmp_path / "t.lat.json").write_text(json.dumps(_sealed(content)))
    with pytest.raises(UserError, match=rf"t\.lat\.json: {part}\.{key}: .*, but got {re.escape(repr(value))}$"):
        LatencyTable.load(tmp_path / "t.lat.json")


def test_a_network_that_took_no_time_is_refused(made, tmp_path):
    content = json.loads(made[0].read_text())
    content["validation"]["held_out"][1]["measured_ms"] = 0.0
    (tmp_path / "t.lat.json").write_text(json.dumps(_sealed(content)))
    with pytest.raises(UserError, match=r"held_out\.1\.measured_ms: Input should be greater than 0, but got 0\.0"):
        LatencyTable.load(tmp_path / "t.lat.json")


def test_a_table_that_could_not_be_read_is_not_written(made, tmp_path):
    correction = made[1].correction.model_copy(update={"slope": 1e308})
    with pytest.raises(UserError, match=r"correction\.slope"):
        made[1].model_copy(update={"correction": correction}).save(tmp_path / "t.lat.json")
    assert not list(tmp_path.iterdir())


def test_the_shipped_json_schema_is_the_tables(made):
    jsonschema = pytest.importorskip("jsonschema")
    path, _ = made
    shipped = json.loads(SCHEMA_FILE.read_text())
    assert shipped == json_schema()
    jsonschema.validate(json.loads(path.read_text()), shipped)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"schema": "ghostnas.latency/3"}, shipped)


def test_a_table_reads_well(made):
    path, table = made
    lines = path.read_text().splitlines()
    assert sum(line.lstrip().startswith('"ghost ') for line in lines) == sum(
        key.startswith("ghost") for key in table.entries
    )
    assert max(map(len, lines)) < 300


def test_no_network_takes_less_than_its_slowest_unit():
    correction = Correction(intercept_ms=-5.0, slope=0.5, ms_per_mparam=0.0, spread=0.01, quantile=1.0, coverage=0.9)
    ms = np.array([[1.0, 4.0, 2.0], [6.0, 6.0, 6.0]])
    assert apply(correction, unit_values(ms)).tolist() == [4.0, 6.0]
    slower = correction.model_copy(update={"intercept_ms": 5.0})
    assert apply(slower, unit_values(ms)).tolist() == [8.5, 14.0]


TABLES = sorted((Path(__file__).parents[3] / "results").glob("**/*.lat.json"))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_published_tables_are_of_the_spaces_that_they_say(path):
    table = LatencyTable.load(path)
    assert table_space(table).id == table.setting.space_id


def test_a_table_of_a_space_whose_numbers_were_written_whole_is_of_the_same_space_with_decimals():
    whole = {"base": "digits", "name": "own", "widths": [0.5, 1]}
    decimals = space_from_dict({**whole, "widths": [0.5, 1.0]})
    table = made_up_table(np.random.default_rng(0), space := space_from_dict(whole))
    codes = np.zeros((1, len(space.choices)), dtype=np.int64)
    assert Predictor(table, decimals)(codes).latency_ms == Predictor(table, space)(codes).latency_ms
    of_before = {**table.setting.model_dump(), "space_id": "23d17f6bd6"}  # by version 0.1
    before = table.model_copy(update={"setting": type(table.setting).model_validate(of_before)})
    assert table_space(before) == space and Predictor(before, space)


def test_a_table_of_a_preset_at_another_resolution_is_read(law, tmp_path):
    space = _space("digits", 12)
    table = calibrate(space, tmp_path / "t.lat.json", **law | {"minutes": MOMENT})
    assert space.name == "digits-12" and table_space(LatencyTable.load(tmp_path / "t.lat.json")) == space
    assert network_costs(space.smallest, latency=table).resolution == 12
    assert _space("digits", 16) == _space("digits", None) == named_space("digits")


def test_a_rescaled_table_is_not_made_anew_from_its_old_measurements(law, tmp_path):
    path = tmp_path / "t.lat.json"
    calibrate(SPACE, path, **law)
    rescale_table(LatencyTable.load(path), 1.5).save(path)
    before = path.read_bytes()
    with pytest.raises(
        UserError, match=r"t\.lat\.json was rescaled by 1\.5, which its measurements don't know: another"
    ):
        calibrate(SPACE, path, **law)
    assert path.read_bytes() == before
