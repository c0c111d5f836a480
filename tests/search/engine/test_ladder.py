"""A ladder of evaluations: who climbs, and what those who stayed are expected to have."""

import json
import pickle
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.engine.ladder import (
    REDUCTION,
    Ladder,
    at_the_top,
    climbs,
    contributions,
    on_rung,
    rung_that_lacks,
    rung_totals,
)
from search.engine.log import TrialLog, read_trials
from search.engine.objectives import USUAL, values
from search.engine.samplers.hypervolume_improvement import HypervolumeImprovement
from search.engine.samplers.promotions import QUANTILES
from search.engine.trial import Evaluation, Rung, Trial, evaluated
from search.errors import UserError
from search.records import record_json
from tests.search.searches import HEADER, LADDER, SPACE, accuracy_of, bare, complete_trial, half, problem, run


def rows(points, reached):
    """Trials of two rungs at most, by (accuracy on the first, latency)."""
    result = []
    for number, ((accuracy, ms), height) in enumerate(zip(points, reached, strict=True)):
        values = [accuracy, accuracy / 2 + 0.4][:height]
        rungs = [{"evaluate": str(k), "accuracy": value, "seconds": 1.0} for k, value in enumerate(values)]
        result.append(complete_trial(number, accuracy=values[-1], latency_ms=ms, macs=number + 1, rungs=rungs))
    return result


def depth(point, points):
    """How many fronts stand before a point: the longest chain of points, each better than the next."""
    better = [p for p in points if p != point and p[0] >= point[0] and p[1] <= point[1]]
    return 1 + max((depth(p, better) for p in better), default=-1)


POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), min_size=1, max_size=9, unique=True)


def area(points):
    """What each point (accuracy up, ms down) adds to the area that the others dominate, on axes from 0 to 1 that begin
    a tenth below the worst."""

    def of(some, scale):
        scaled = sorted((((m - scale[2]) / -scale[3], (a - scale[0]) / scale[1]) for a, m in some), reverse=True)
        total = height = 0.0
        for width, high in scaled:  # from the fastest on: each adds the part above the height that is there
            if high + 0.1 > height:
                total += (high + 0.1 - height) * (width + 0.1)
                height = high + 0.1
        return total

    accuracies, times = zip(*points, strict=True)
    lengths = [max(max(each) - min(each), 1e-12) for each in (accuracies, times)]
    scale = (min(accuracies), lengths[0], max(times), lengths[1])
    whole = of(points, scale)
    return [whole - of([p for p in points if p != point], scale) for point in points]


@settings(max_examples=100, deadline=None)
@given(POINTS)
def test_a_network_climbs_if_fewer_than_a_third_are_ahead_of_it(points):
    points = [(accuracy / 8, float(ms)) for accuracy, ms in points]
    *before, mine = points
    depths = [depth(p, points) for p in points]
    layer = [p for p, d in zip(points, depths, strict=True) if d == depths[-1]]
    added = area(layer)
    ahead = sum(d < depths[-1] for d in depths) + sum(each > added[-1] + 1e-9 for each in added)
    known = [{"accuracy": accuracy, "latency_ms": ms} for accuracy, ms in before]
    assert contributions(values([{"accuracy": a, "latency_ms": m} for a, m in layer], USUAL)) == pytest.approx(added)
    if not any(abs(each - added[-1]) < 1e-9 for each in added[:-1]):  # equal but for rounding
        expected = ahead < max(1, len(points) / REDUCTION)
        assert climbs({"accuracy": mine[0], "latency_ms": mine[1]}, known, USUAL) == expected


def test_a_network_is_compared_on_its_rung_alone():
    known = rows([(0.5, 1.0), (0.6, 1.0), (0.7, 1.0)], [1, 1, 2])  # the last one has 0.75 on the second rung
    first, second = ([row for trial in known if (row := on_rung(trial, k))] for k in (0, 1))
    assert [row["accuracy"] for row in first] == [0.5, 0.6, 0.7] and [row["accuracy"] for row in second] == [0.75]
    assert climbs({"accuracy": 0.72, "latency_ms": 1.0}, first, USUAL)
    assert climbs({"accuracy": 0.8, "latency_ms": 1.0}, second, USUAL)
    assert not climbs({"accuracy": 0.74, "latency_ms": 1.0}, second, USUAL)


def test_about_a_third_climbs_however_many_stand_on_the_front():
    rng = np.random.default_rng(3)
    known, went = [], 0
    for ms in rng.uniform(1, 2, 90):  # all of them on one front
        mine = {"accuracy": ms / 4, "latency_ms": ms}
        went += climbs(mine, known, USUAL)
        known.append(mine)
    assert 20 <= went <= 40


def test_a_network_that_is_best_inside_one_budget_climbs():
    """Inside the tight budget the small network is the best of all, inside the wide one many are ahead of it."""
    task = problem(LADDER, flops="300k,500k")
    drawn = [task.candidate(code) for code in task.initial(np.random.default_rng(0), 40)]
    candidate, *large = sorted(drawn, key=lambda each: each.metrics["macs"])
    assert candidate.metrics["macs"] <= 300_000
    seen = {}
    for known in large:
        if known.metrics["macs"] > 300_000:
            faster = replace(known, metrics={**known.metrics, "latency_ms": candidate.metrics["latency_ms"] / 2})
            rung = Rung(evaluate="cheap", accuracy=0.9, seconds=0.0)
            seen[known.arch] = faster.trial("complete", {"accuracy": 0.9}, Evaluation(rungs=(rung,)))
    evaluation = Evaluation(columns={"accuracy": 0.1}, rungs=(Rung(evaluate="cheap", accuracy=0.1, seconds=0.0),))
    assert len(seen) > 3 and task.climbs(candidate, evaluation, seen)
    assert not problem(LADDER, flops="500k").climbs(candidate, evaluation, seen)


def test_what_a_network_would_have_at_the_top_is_learned_from_those_that_went():
    rng = np.random.default_rng(0)
    points = [(float(a), 1.0) for a in rng.uniform(0, 1, 40)]
    known = rows(points, [2 if k % 3 == 0 else 1 for k in range(40)])
    for before, after in zip(known, at_the_top(known), strict=True):
        assert after["accuracy"] == pytest.approx(before.rungs[0].accuracy / 2 + 0.4, abs=0.01)
        assert after.code == before.code and after["latency_ms"] == before["latency_ms"]
        if len(before.rungs) == 2:
            assert after == before


def test_few_networks_at_the_top_give_their_mean_gain_and_none_change_nothing():
    two = rows([(0.2, 1.0), (0.4, 1.0), (0.3, 1.0)], [2, 2, 1])  # from .2 to .5 and from .4 to .6
    assert [t["accuracy"] for t in at_the_top(two)] == pytest.approx([0.5, 0.6, 0.3 + 0.25])
    one = rows([(0.2, 1.0), (0.4, 1.0)], [1, 1])
    assert at_the_top(one) == one and at_the_top([]) == []
    without = [complete_trial(0, accuracy=0.5, latency_ms=1.0)]
    assert at_the_top(without) == without


def test_the_better_ones_stay_the_better_ones_even_where_those_that_went_ended_worse():
    went = []
    for number in range(6):
        accuracies = 0.1 * number, 0.9 - 0.1 * number
        rungs = [{"evaluate": str(k), "accuracy": value, "seconds": 1.0} for k, value in enumerate(accuracies)]
        went.append(complete_trial(number, accuracy=accuracies[-1], latency_ms=1.0, rungs=rungs))
    better, worse = (at_the_top([*went, *rows([(low, 1.0)], [1])])[-1]["accuracy"] for low in (0.5, 0.3))
    assert better > worse


def test_totals_of_rungs_are_of_the_same_networks():
    known = rows([(0.2, 1.0), (0.4, 1.0), (0.1, 1.0), (0.3, 1.0)], [2, 2, 1, 2])
    first, second = rung_totals(known)
    assert (first.evaluate, first.networks, first.seconds, first.gain, first.tau) == ("0", 4, 4.0, None, None)
    assert (second.evaluate, second.networks, second.seconds) == ("1", 3, 3.0)
    assert second.gain == pytest.approx(np.mean([0.3, 0.2, 0.25])) and second.tau == pytest.approx(1)
    assert rung_totals(known[:2])[1].tau is None
    assert rung_totals([complete_trial(0, accuracy=0.5, latency_ms=1.0)]) == rung_totals([]) == []


def test_a_search_on_a_ladder_that_is_resumed_equals_an_unbroken_one(tmp_path):
    whole = run(problem(LADDER), tmp_path / "whole", trials=60)
    for trials in (5, 17, 33, 60):
        parts = run(problem(LADDER), tmp_path / "parts", trials=trials)
    assert parts == whole
    assert {len(t.rungs) for t in whole if t.state == "complete"} == {1, 2, 3}


def test_a_rung_that_fails_is_told_with_those_before_it(tmp_path):
    def fails(arch):
        raise RuntimeError("boom")

    (row,) = run(problem(Ladder({"cheap": half, "dearer": fails})), tmp_path, trials=1)
    assert (row.state, row.error, row.accuracy) == ("failed", "RuntimeError: boom", None)
    assert [rung.evaluate for rung in row.rungs] == ["cheap"]


def test_each_rung_has_its_seconds_and_a_trial_their_sum():
    def slow(arch):
        time.sleep(0.05)
        return accuracy_of(arch)

    task = problem(Ladder({"cheap": half, "slow": slow}))
    row = task.run(task.initial(np.random.default_rng(0), 1)[0], {})
    first, second = row.rungs
    assert second.seconds >= 0.05 > first.seconds
    assert row.seconds == pytest.approx(first.seconds + second.seconds)


def test_a_row_whose_accuracy_is_not_its_last_rungs_is_refused():
    row = record_json(rows([(0.5, 1.0)], [2])[0])
    with pytest.raises(ValueError, match=r"accuracy must be its last rung's, 0.65, but got 0.9"):
        Trial.model_validate(row | {"accuracy": 0.9})


def test_a_ladder_goes_to_other_processes_and_is_its_last_rung():
    ladder = pickle.loads(pickle.dumps(LADDER))
    arch = SPACE.sample(np.random.default_rng(1))
    assert [*ladder.rungs] == [*LADDER.rungs] and ladder(arch) == accuracy_of(arch)


PRICED = Ladder(LADDER.rungs, prices=(1.0, 4.0, 16.0))


def test_a_search_whose_sampler_promotes_is_the_same_when_resumed(tmp_path):
    plan = {"num_rungs": 3, "trials": 40}
    whole = run(problem(PRICED), tmp_path / "whole", **plan)
    parts = tmp_path / "parts" / "trials.jsonl"
    for end in (3, 25, 50):  # as if it had been killed after so many rows
        parts.parent.mkdir(exist_ok=True)
        lines = (tmp_path / "whole" / "trials.jsonl").read_bytes().splitlines(keepends=True)
        parts.write_bytes(b"".join(lines[: 1 + end]))
        assert run(problem(PRICED), parts.parent, **plan) == whole


def test_a_network_that_is_promoted_later_is_logged_again_with_what_it_had(tmp_path):
    rows = [t for t in run(problem(PRICED), tmp_path, num_rungs=3, trials=40) if t.state == "complete"]
    heights: dict[str, int] = {}
    for row in rows:  # a rung at a time
        assert len(row.rungs) == heights.get(row.arch, 0) + 1
        heights[row.arch] = len(row.rungs)
        steps = [*LADDER.rungs.items()][: len(row.rungs)]
        assert [(r.evaluate, r.accuracy) for r in row.rungs] == [
            (n, f(SPACE.decode(np.array(row.code)))) for n, f in steps
        ]
    assert len(heights) == 40 < len(rows)
    assert [len(t.rungs) for t in evaluated(rows)] == [*heights.values()]
    with TrialLog(tmp_path / "trials.jsonl", HEADER) as log:
        assert bare(log.evaluated) == evaluated(rows) and log.num_evaluated == 40
    went = [sum(height > k for height in heights.values()) for k in range(3)]
    assert went[1] >= 40 // REDUCTION and went[2] >= went[1] // REDUCTION


def test_a_search_that_has_enough_does_not_end_before_every_rung_has_its_share(tmp_path):
    """It ended with the first rung alone, where its front didn't grow any more."""
    task = problem(replace(PRICED, prices=(1.0, 1e9, 1e9)))  # of itself nothing goes on
    rows = evaluated(run(task, tmp_path, num_rungs=3, trials=24, enough=12))
    heights = [len(trial.rungs) for trial in rows]
    assert len(rows) == 24 and rung_that_lacks(heights, 3) is None and max(heights) == 3


def test_a_row_that_repeats_an_evaluated_network_without_a_further_rung_is_refused(tmp_path):
    run(problem(PRICED), tmp_path, num_rungs=3, trials=12)
    log = tmp_path / "trials.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    again = next(row for row in rows[1:] if row["state"] == "complete")
    log.write_text("".join(json.dumps(row) + "\n" for row in [*rows, again | {"number": len(rows) - 1}]))
    with pytest.raises(UserError, match=f"network {again['arch']} was evaluated before, and this is no further rung"):
        read_trials(log)


def test_what_rungs_cost_decides_how_many_networks_go_there(tmp_path):
    climbs = []
    for k, price in enumerate((np.inf, 1e-9)):
        task = problem(Ladder(LADDER.rungs, prices=(1.0, price, price)))
        rows = evaluated(run(task, tmp_path / str(k), trials=40))
        climbs.append(sum(len(t.rungs) - 1 for t in rows))
    assert climbs[0] == 0 and climbs[1] > 5


def test_with_nothing_new_to_come_every_rung_gets_its_share():
    assert rung_that_lacks([1] * 9, 2) == 1
    assert rung_that_lacks([1] * 6 + [2] * 3, 2) is None
    assert rung_that_lacks([1] * 6 + [2] * 3, 3) == 2
    assert rung_that_lacks([1] * 6 + [2] * 2 + [3], 3) is None
    assert rung_that_lacks([1], 2) == 1 and rung_that_lacks([2], 2) is None and rung_that_lacks([], 2) is None


NETWORK = st.tuples(st.floats(0.2, 0.9), st.floats(1, 6), st.floats(0, 0.1))


@settings(max_examples=60, deadline=None)
@given(st.lists(NETWORK, max_size=6, unique=True))
def test_knowing_more_of_a_network_gains_what_its_area_does_on_average(networks):
    """Against the area of every draw, in which the network alone has moved."""
    networks = [(0.2, 1.0, 0.05), (0.9, 6.0, 0.05), *networks]
    rows = [complete_trial(k, accuracy=a, latency_ms=ms) for k, (a, ms, _) in enumerate(networks)]
    accuracy, ms, deviation = (np.array(column) for column in zip(*networks, strict=True))
    improvement = HypervolumeImprovement(USUAL, rows, 16, np.random.default_rng(0))
    samples = accuracy + QUANTILES[:, None] * deviation
    gains = improvement.by_measuring_again({"accuracy": accuracy, "latency_ms": ms}, {"accuracy": samples})

    def below(some):
        """The area under the stairs, from the fastest network to the slowest."""
        stairs = sorted(
            (x, max(0.0, (a - improvement.worst[0]) / improvement.extent[0])) for x, a in zip(ms, some, strict=True)
        )
        area = height = 0.0
        for x, high in stairs:
            right = max(0.0, (-x - improvement.worst[1]) / improvement.extent[1])
            area += max(0.0, high - height) * right
            height = max(height, high)
        return area / (np.pi / 4)

    for k in range(len(rows)):
        moved = [below(np.where(np.arange(len(rows)) == k, draw, accuracy)) for draw in samples]
        assert gains[k] == pytest.approx(np.mean(moved) - below(accuracy), abs=1e-9)
        assert gains[k] >= -1e-9


def test_a_new_network_and_a_further_evaluation_are_weighed_in_the_same_unit():
    """A network that would surely have what another measurement would surely tell gains as much, over many draws."""
    rows = [complete_trial(0, accuracy=0.3, latency_ms=1.0), complete_trial(1, accuracy=0.8, latency_ms=3.0)]
    known = {"accuracy": np.array([0.3, 0.8, 0.4]), "latency_ms": np.array([1.0, 3.0, 2.0])}
    found = []
    for seed in range(40):
        improvement = HypervolumeImprovement(USUAL, rows, 16, np.random.default_rng(seed))
        raised = np.tile([0.3, 0.8, 0.6], (16, 1))
        again = improvement.by_measuring_again(known, {"accuracy": raised})[2]
        of = [
            improvement.contribution({"latency_ms": np.array([2.0])}, {"accuracy": np.full((16, 1), a)})
            for a in (0.4, 0.6)
        ]
        low, high = (float(improvement.expected(each)[0]) for each in of)
        found.append((again, high - low))
    exact, sampled = np.mean(found, 0)
    assert exact > 0.05 and sampled == pytest.approx(exact, rel=0.1)
