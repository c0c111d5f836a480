"""The ruler: calm windows, rounds that fit a time box, and a kill that costs no visit."""

import os
import statistics
import time
from collections import Counter
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from search.latency import time_networks
from search.latency.bench import reference
from search.latency.runtimes import runtime
from search.latency.timing import interference as gates
from search.latency.timing import measurement, rounds
from search.latency.timing.interference import InterferenceFilter
from search.latency.timing.measurement import take_measurement
from search.latency.timing.rounds import NETWORK_MEASUREMENTS, Rounds, interval
from search.latency.timing.scores import pseudo_median, quiet_minima, score
from tests.search.fake_runtime import FakeSession


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    monkeypatch.setattr(gates, "INITIAL_PROBES_S", 0.0)


class Scripted(InterferenceFilter):
    """A gate that has seen its best, 1 ms, and reads its looks from a script."""

    def __init__(self, probes=()):
        self.quiet_ms, self._free, self.looks = 1.0, [], iter(probes)

    def probe(self):
        return next(self.looks)


def test_disturbed_visits_dont_count_where_calm_ones_exist():
    rows = [(5.0, 2.0), (3.0, 1.05)]
    assert quiet_minima(rows, Scripted().quiet_ms) == [3.0]
    assert quiet_minima(rows[:1], 1.0) == [2.5]


def test_the_score_is_the_median_of_the_means_of_all_pairs():
    rng = np.random.default_rng(0)
    values = rng.normal(10, 1, (200, 9))
    for row in values[:5]:
        pairs = [(a + b) / 2 for k, a in enumerate(row) for b in row[k:]]
        assert score(row) == pytest.approx(statistics.median(pairs))
    assert pseudo_median(values).shape == (200,) and score([3.0]) == 3.0
    spread = np.std(pseudo_median(values))  # 1/3 is the mean's; expected .34, the lower quartile's .44
    assert spread < 0.40
    assert score([1.0, 1.0, 1.0, 1.0, 1.0, 9.0]) == 1.0


def test_a_visit_waits_for_calm_and_counts_calm_windows_only(monkeypatch):
    # busy, busy, calm [9] busy: dropped; calm [7] calm [5] calm [6] calm
    probes = [2.0, 2.0, 1.0, 2.0, 1.0, 1.01, 1.02, 1.03]
    windows = iter([[9_000_000], [7_000_000], [5_000_000], [6_000_000]])
    monkeypatch.setattr(measurement, "window", lambda once: next(windows))
    row = take_measurement(Scripted(probes), FakeSession(1, 0.0), (1, 1, 1, 1))
    assert row == {"min_ms": 5.0, "median_ms": 6.0, "p90_ms": 6.8, "runs": 3, "reference_ms": 1.03}


def test_one_fast_moment_does_not_make_all_others_look_disturbed():
    class Clock(FakeSession):
        def timer(self, images):
            times = iter([1_000_000] * 30 + [700_000] * 3 + [1_000_000] * 3000)
            return lambda: next(times)

    interference = InterferenceFilter(Clock(1, 0.0), (1, 1, 1, 1), 1)
    probes = [interference.probe() for _ in range(400)]
    assert min(probes) == 0.7 and interference.is_quiet(1.0) and not interference.is_quiet(1.2)


def test_a_day_without_quiet_moments_is_told_by_another(monkeypatch, capsys):
    """All that is timed on a machine that has become slower is brought to what it was, and a warning says so."""

    def clock(slowdown):
        run = SimpleNamespace(threads=1, load=lambda ns: FakeSession(int(slowdown * ns), 0.0))
        monkeypatch.setattr(time_networks, "reference", lambda run: (run.load(100_000), (1, 1, 1, 1)))
        sessions = {name: (run.load(ns), (1, 1, 1)) for name, ns in (("a", 2_000_000), ("b", 3_000_000))}
        return partial(time_networks.measure_sessions, run, sessions)

    for slowdown, told in ((1.0, False), (1.05, False), (1.3, True)):
        times = clock(slowdown)(usual_ms=0.1)
        seen = slowdown if not told else 1.0
        assert times == pytest.approx({"a": 2 * seen, "b": 3 * seen}, rel=1e-4)
        assert ("The machine is 30% slower now" in capsys.readouterr().err) is told
    assert clock(1.3)() == pytest.approx({"a": 2.6, "b": 3.9}, rel=1e-4)  # with nothing to tell it by
    assert "slower now" not in capsys.readouterr().err


def test_equal_networks_stay_equal_on_a_slower_machine_that_drifts(monkeypatch, capsys):
    """No moment that is by chance as fast as on the table's day may count for some of them alone."""

    class Slower(FakeSession):
        def timer(self, images):
            rng = np.random.default_rng(self.ns)
            return lambda: int(self.ns * 1.2 * (1 + 0.04 * rng.standard_normal()))

    run = SimpleNamespace(threads=1, load=lambda ns: Slower(ns, 0.0))
    monkeypatch.setattr(time_networks, "reference", lambda run: (run.load(100_000), (1, 1, 1, 1)))
    sessions = {f"{k}": (run.load(2_000_000 + k), (1, 1, 1)) for k in range(8)}
    times = np.array([*time_networks.measure_sessions(run, sessions, usual_ms=0.1).values()])
    assert times == pytest.approx(2.0, rel=0.06) and times.max() < 1.07 * times.min()
    assert "slower now" in capsys.readouterr().err


def test_quiet_moments_are_found_where_most_are_disturbed():
    rng = np.random.default_rng(0)
    probes = rng.permutation(np.concatenate([rng.normal(1, 0.01, 40), rng.normal(2, 0.2, 60)]))
    assert gates.quiet_time(probes) == pytest.approx(1, abs=0.02)


def test_the_interval_covers_the_score_it_is_of():
    rng, inside = np.random.default_rng(0), 0
    for _ in range(200):
        low, high = interval(1 + 0.05 * rng.standard_exponential(12))
        truth = 1 + 0.05 * 1.67835 / 2  # the median of the mean of two
        inside += low <= truth <= high
    assert inside >= 150  # nominal 190; small samples' percentile intervals are narrower, below 150 under 1 in 1,000
    assert np.isnan(interval([1.0])).all()


PLAN = {
    "seed": 3,
    "rounds": 3,
    "threads": 1,
    "fit_networks": 4,
    "items": [
        *({"name": f"network {k}", "kind": "network", "shape": [1, 1, 8, 8]} for k in range(6)),
        *({"name": f"unit {k}", "kind": "unit", "shape": [1, 1, 8, 8]} for k in range(100)),
    ],
}
REFERENCE = (FakeSession(100_000, 0.0), [1, 1, 8, 8])
UNIT_S = 0.002


def slow(name):
    """A session that takes real time, so that a time box has something to count."""
    time.sleep(UNIT_S)
    return FakeSession(50_000 + len(name), 0.0)


def calibration(log, deadline=None, open_session=slow, tell=lambda done, total: None):
    return Rounds(PLAN, open_session, REFERENCE, list(log), log.extend, deadline, tell)


def made(log):
    return [(row["item"], row["visit"]) for row in log if "item" in row]


def test_without_a_deadline_every_item_is_visited_as_planned():
    log = []
    calibration(log, open_session=lambda name: FakeSession(50_000, 0.0)).run()
    measurements = made(log)
    assert len(measurements) == len(set(measurements)) == 3 * (6 * NETWORK_MEASUREMENTS + 100)
    first = [name for name, _ in measurements][: 6 * NETWORK_MEASUREMENTS]
    assert all(name.startswith("network") for name in first)  # whole networks first
    second = [name for name, visit in measurements if visit == 1 and name.startswith("unit")]
    third = [name for name, visit in measurements if visit == 2 and name.startswith("unit")]
    assert sorted(second) == sorted(third) and second != third  # a new order in every round


@pytest.mark.parametrize(("fit", "held"), [(8, 8), (24, 16), (48, 32), (9, 3)])
def test_the_fewest_networks_are_spread_over_both_parts(fit, held):
    networks = [f"network {k}" for k in range(fit + held)]
    few = rounds.fewest_networks(networks, fit)
    assert len(few) == len(set(few)) == min(fit, rounds.FEWEST_NETWORKS) + min(held, rounds.FEWEST_NETWORKS)
    assert sum(name in networks[:fit] for name in few) == min(fit, rounds.FEWEST_NETWORKS)
    places = [networks.index(name) for name in few if name in networks[:fit]]
    gaps = np.diff(places)
    assert places[0] == 0 and gaps.max() - gaps.min() <= 1


# Of the recipes that ship: the box, networks to fit on and held out, units, and seconds of a network's compilation.
@pytest.mark.parametrize(
    ("box", "fit", "held", "units", "compile_s"),
    [(30, 24, 16, 800, 0.1), (600, 64, 48, 1000, 0.6), (600, 48, 32, 2000, 0.8), (1200, 48, 32, 2000, 1.5)],
)
def test_a_calibration_beside_other_work_ends_within_its_time_box(box, fit, held, units, compile_s, monkeypatch):
    """50 machines of chance by a stand-in clock, 10 of the slower recipes: a neighbour makes everything two to four
    times slower for spells of many seconds, and most of the visits noisy."""
    names = [f"network {k}" for k in range(fit + held)], [f"unit {k}" for k in range(units)]
    items = [{"name": n, "kind": n.split()[0], "shape": [1, 1, 8, 8]} for part in names for n in part]
    plan = {"seed": 0, "rounds": 3, "threads": 1, "fit_networks": fit, "items": items}
    for seed in range(50 if units < 1000 else 10):
        rng, now, compiled, longest = np.random.default_rng(seed), [0.0], set(), [0.0]
        slow = [1.0, 0.0]  # how much, until when

        def take(seconds, rng=rng, now=now, slow=slow, longest=longest):
            if now[0] >= slow[1]:
                slow[:] = [float(rng.choice([1.0, 2.0, 4.0])), now[0] + float(rng.exponential(20))]
            now[0] += seconds * slow[0]
            longest[0] = max(longest[0], seconds * slow[0])

        def open_session(name, take=take, compiled=compiled):
            take((compile_s if name.startswith("network") else compile_s / 20) if name not in compiled else 0.005)
            compiled.add(name)

        def measured(interference, session, shape, take=take, slow=slow, rng=rng):
            take(box / 1000)
            return {"min_ms": 1.0, "reference_ms": 1.0 if slow[0] == 1.0 or rng.random() < 0.2 else 2.0}

        monkeypatch.setattr(rounds, "time", SimpleNamespace(monotonic=lambda now=now: now[0]))
        monkeypatch.setattr(rounds, "take_measurement", measured)
        log = []
        work = Rounds(plan, open_session, REFERENCE, [], log.extend, deadline=box)
        work.filter.quiet_ms = 1.0
        work.run()
        assert now[0] <= box + 2 * longest[0], f"seed {seed}"
        visited = {name for name, _ in made(log)}
        assert set(rounds.pilot_units(names[1])) <= visited
        assert all(len(visited & set(part)) >= rounds.FEWEST_NETWORKS for part in (names[0][:fit], names[0][fit:]))


def test_a_tight_box_keeps_the_probable_units():
    log = []
    calibration(log, time.monotonic() + 0.3).run()
    settled = next(row["settled"] for row in log if "settled" in row)
    names = {name for name, _ in made(log)}
    assert settled["rounds"] == 1 and rounds.PILOT <= settled["units"] < 100
    assert {f"network {k}" for k in range(6)} <= names  # so few that all are needed
    chosen = {f"unit {k}" for k in range(settled["units"])} | set(rounds.pilot_units([f"unit {k}" for k in range(100)]))
    assert names - {f"network {k}" for k in range(6)} <= chosen


def test_a_longer_box_than_the_first_goes_on_to_the_units_that_did_not_fit():
    log = []
    calibration(log, time.monotonic() + 0.3).run()
    fewer = len({name for name, _ in made(log)})
    assert fewer < 106
    calibration(log, time.monotonic() + 0.01).run()  # a shorter one takes none of them back
    assert fewer <= len({name for name, _ in made(log)})
    calibration(log, time.monotonic() + 60).run()
    assert len({name for name, _ in made(log)}) == 106 and len(made(log)) == len(set(made(log)))


def test_a_longer_box_than_the_first_makes_the_rounds_that_did_not_fit():
    """All units were timed once there; it timed what is unsure, and left most of the box."""
    log = []
    first = calibration(log, time.monotonic() + 60)
    first.plan = first.plan | {"rounds": 1}
    first.run()
    calibration(log, time.monotonic() + 60).run()
    assert [row["settled"]["rounds"] for row in log if "settled" in row] == [1, 3]
    visits = Counter(name for name, _ in made(log))
    assert all(visits[f"unit {k}"] >= 3 for k in range(100)) and len(made(log)) == len(set(made(log)))
    assert all(visits[f"network {k}"] >= 3 * NETWORK_MEASUREMENTS for k in range(6))


@pytest.mark.parametrize(
    ("seconds", "units", "turns"), [(100, 100, 3), (30, 100, 2), (20, 100, 1), (8, 72, 1), (1, rounds.PILOT, 1)]
)
def test_all_units_are_timed_once_before_any_is_twice(seconds, units, turns):
    """What is never timed is only guessed. 100 units of 0.1 s, and 6 networks of 0.3 s in every round but the first,
    in nine tenths of the box."""
    names = [f"network {k}" for k in range(6) for _ in range(3)]
    names += rounds.pilot_units([f"unit {k}" for k in range(100)])
    rows = [
        {"item": name, "visit": k, "at_s": 0.0, "seconds": 0.1, "reference_ms": 0.1} for k, name in enumerate(names)
    ]
    box = calibration(rows, time.monotonic() + seconds)
    assert box._plan_rounds(rounds.PILOT) == {"units": pytest.approx(units, abs=1), "rounds": turns}


@pytest.mark.parametrize("count", (1, 16, 17, 48, 49, 100, 5000))
def test_a_pilot_has_the_first_units_and_others_evenly_from_the_rest(count):
    pilot = rounds.pilot_units(list(range(count)))
    assert len(pilot) == len(set(pilot)) == min(count, rounds.PILOT)
    assert pilot[: rounds.FIRST] == list(range(min(count, rounds.FIRST)))
    gaps = np.diff(pilot[rounds.FIRST :])
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_no_more_is_told_done_than_there_is_to_do():
    """Where the box ends the planned rounds, where there is none, and where it has time left for more of the unsure."""
    planned = 3 * (6 * NETWORK_MEASUREMENTS + 100)
    for box, open_session in ((0.45, slow), (None, slow), (60, lambda name: FakeSession(50_000, 3.0))):
        reported, log = [], []
        deadline = None if box is None else time.monotonic() + box
        calibration(
            log, deadline, open_session, lambda done, total, reported=reported: reported.append((done, total))
        ).run()
        assert all(done <= total for done, total in reported)
        assert box != 60 or len(made(log)) > planned
        assert box is not None or reported[-1] == (planned, planned)


def test_a_kill_anywhere_measures_nothing_twice():
    class Killed(Exception):
        pass

    log = []
    for _ in range(12):
        budget = iter(range(40))

        def session(name, budget=budget):
            if next(budget, None) is None:
                raise Killed
            return FakeSession(50_000, 0.0)

        try:
            calibration(log, open_session=session).run()
            break
        except Killed:
            log = log[: -5 or None]  # the last rows never reached the disk
    measurements = made(log)
    assert len(measurements) == len(set(measurements))


def test_time_that_is_left_goes_to_what_is_least_sure():
    opened = Counter()

    def session(name):  # opened for each measurement anew
        opened[name] += 1
        return FakeSession(50_000 * (1 + (name == "unit 7") * (opened[name] % 3)), 0.0)

    log = []
    calibration(log, time.monotonic() + 30, session).run()
    counts = {name: sum(item == name for item, _ in made(log)) for name in ("unit 7", "unit 8")}
    assert counts["unit 8"] == 3 and counts["unit 7"] > 3


def test_several_threads_leave_the_process_on_all_its_cores():
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores that the system tells of")
    before = os.sched_getaffinity(0)
    run = runtime("onnxruntime", 2)
    session, shape = reference(run)
    once = session.timer(np.zeros(shape, dtype=np.float32))
    assert all(once() > 0 for _ in range(3))
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("threads", [1, 2])
def test_a_timing_that_fails_leaves_the_process_on_all_its_cores(threads, monkeypatch):
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores that the system tells of")
    before, real = os.sched_getaffinity(0), time_networks.take_measurement

    class Broken:
        def timer(self, images):
            raise RuntimeError("boom")

    def disturbed(interference, session, shape):
        interference.switch_core()
        assert threads > 1 or len(os.sched_getaffinity(0)) == 1
        return real(interference, session, shape)

    monkeypatch.setattr(time_networks, "take_measurement", disturbed)
    with pytest.raises(RuntimeError, match="boom"):
        time_networks.measure_sessions(runtime("onnxruntime", threads), {"a": (Broken(), (3, 8, 8))})
    assert os.sched_getaffinity(0) == before


def test_a_run_that_fails_leaves_the_process_on_all_its_cores():
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores that the system tells of")
    before = os.sched_getaffinity(0)
    session, shape = reference(runtime("onnxruntime", 2))
    with pytest.raises(Exception, match=r"(?i)dimension"):
        session.timer(np.zeros((*shape[:-1], shape[-1] + 1), dtype=np.float32))()
    assert os.sched_getaffinity(0) == before


def test_a_network_is_compiled_and_timed_at_the_batch_that_is_asked_for(monkeypatch):
    asked = []

    def taken(interference, session, shape):
        asked.append((session, shape))
        return {"min_ms": float(shape[0]), "reference_ms": 1.0}

    compiled = lambda module, shape, batch=1: f"{module} of {batch}"  # noqa: E731
    run = SimpleNamespace(threads=1, compile=compiled, load=lambda built: built)
    monkeypatch.setattr(time_networks, "InterferenceFilter", lambda *_, **__: Scripted())
    monkeypatch.setattr(time_networks, "take_measurement", taken)
    monkeypatch.setattr(time_networks, "reference", lambda run: ())
    assert time_networks.measure(run, {"a": ("net", (3, 8, 8))}, batch=4) == {"a": 4.0}
    assert set(asked) == {("net of 4", (4, 3, 8, 8))}
    assert time_networks.measure(run, {"a": ("net", (3, 8, 8))}) == {"a": 1.0}
