"""The search's parts: its problem, budgets and objectives, the log and its lock, fronts and choosing from them."""

import itertools
import json
import multiprocessing
import os
import signal
import time
from contextlib import nullcontext
from types import SimpleNamespace

import moocore
import numpy as np
import pytest

from search.engine.budgets import NONE, LatencyBudget, Within, combine_budgets
from search.engine.choose import choose, choose_by_budget, choose_by_hypervolume, hypervolume_subset, knee, pick
from search.engine.front import BEYOND_CHOSEN, Front, front, growth, hypervolume
from search.engine.limit import TimeLimit, time_limit
from search.engine.log import TrialLog, read_trials
from search.engine.objectives import ACCURACY, LATENCY, MACS, PARAMS, USUAL, LatencyObjective, Objective
from search.engine.problem import Problem
from search.engine.samplers.hypervolume_improvement import HypervolumeImprovement
from search.engine.search_plan import GROWTH, SearchPlan
from search.engine.trial import Trial
from search.errors import UserError
from search.pipeline.search_stage import SearchOutcome
from spaces import SpaceError, Window, named_space
from spaces.quantities import parse_windows
from tests.search.searches import (
    HEADER,
    SPACE,
    FakePredictor,
    accuracy_of,
    bare,
    complete_trial,
    constant,
    problem,
    run,
)


def test_a_new_objective_and_a_new_evaluator_are_one_small_class_each(tmp_path):
    class Blocks(Objective):
        """Networks with squeeze-and-excitation in few blocks."""

        def known_metrics(self, codes):
            return {"blocks": sum(codes[:, k] for k, gene in enumerate(SPACE.genes) if gene.kind == "se")}

    class Twice:
        def __call__(self, arch):
            return {"accuracy": accuracy_of(arch), "robustness": 1 - accuracy_of(arch) ** 2}

    task = problem(Twice(), objectives=(ACCURACY, Objective("robustness", maximise=True), Blocks("blocks"), MACS))
    rows = run(task, tmp_path, trials=40, sampler="guided")
    best = front([t for t in rows if t.state == "complete"], task.objectives)
    assert best and all({"accuracy", "robustness", "blocks", "macs", "params"} <= t.metrics.keys() for t in rows)
    for t in best:
        assert t["blocks"] == sum(block.se_ratio > 0 for block in SPACE.decode(np.array(t.code)).blocks)
    dear = run(problem(lambda arch: {"other": 1.0}), tmp_path / "other", trials=3)
    assert {t.error for t in dear if t.state == "failed"} == {"the evaluator gave no accuracy"}


def test_several_budgets_have_a_front_each_from_shared_evaluations(tmp_path):
    for sampler in ("nsga2", "guided"):
        task = problem(flops="200k,300k..400k,600k")
        rows = run(task, tmp_path / sampler, trials=60, sampler=sampler)
        done = [t for t in rows if t.state == "complete"]
        fronts = SearchOutcome(task, done, []).fronts
        windows = {"200k": (0, 200_000), "300k..400k": (300_000, 400_000), "600k": (0, 600_000)}
        assert list(fronts) == list(windows)
        for name, (low, high) in windows.items():
            inside = [t for t in done if low <= t["macs"] <= high]
            assert len(inside) >= 5 and fronts[name] == front(inside)
        assert {t["macs"] > 600_000 for t in rows} >= {False}
        assert all((t["macs"] > 600_000) == (t.excess > 0) for t in rows)


def test_impossible_budgets_are_answered_with_the_range_and_the_nearest():
    with pytest.raises(SpaceError, match=r"at or below 0\.01 ms: the nearest feasible one, \w{10}, takes up to"):
        problem(latency_budget_ms=0.01).check()
    problem(latency_budget_ms=1.0).check()
    with pytest.raises(SpaceError, match=r"at most 1k MACs: the nearest .* \(the space has [\d.]+k to [\d.]+M\)"):
        problem(flops="500k,1k").check()


def test_budgets_that_are_impossible_only_together_are_answered_by_the_check():
    params = Within(Window.parse("60k..200k", "params"))
    for flops, possible in (("700k", True), ("300k", False), ("700k,300k", False)):
        windows = {name: Within(window) for name, window in parse_windows(flops).items()}
        task = problem(budgets=combine_budgets(windows, {"p": params}))
        with nullcontext() if possible else pytest.raises(SpaceError, match="300k MACs and 60k to 200k"):
            task.check()
    least = FakePredictor()(FakePredictor().fastest()).high_ms[0]
    with pytest.raises(SpaceError, match="meets every constraint"):
        problem(flops="900k..1M", latency_budget_ms=1.02 * least).check()


def test_initial_networks_meet_every_constraint_even_where_few_do():
    task = problem(flops="500k", latency_budget_ms=0.27)
    sampled = task.columns(SPACE.sample_codes(np.random.default_rng(1), 4000))
    assert (task.excess(sampled) == 0).mean() < 0.01
    codes = task.initial(np.random.default_rng(0), 30)
    assert len(codes) == 30 and (task.excess(task.columns(codes)) == 0).all()
    least = FakePredictor()(FakePredictor().fastest()).high_ms[0]
    with pytest.raises(SpaceError, match="meets every constraint"):
        problem(flops="900k..1M", latency_budget_ms=1.02 * least).initial(np.random.default_rng(0), 5)


def test_a_draw_that_finds_nothing_takes_what_the_check_found():
    """Of such budgets one draw in four or so found no network, and ended a search in its middle."""
    windows = Window.parse("1155841..9M"), Window.parse("1..31k", "params")
    task = problem(budgets={"both": tuple(map(Within, windows))})
    task.check()
    for seed in range(20):
        codes = task.initial(np.random.default_rng(seed), 1)
        assert codes.shape == (1, len(SPACE.genes)) and not task.excess(task.columns(codes)).any()


@pytest.mark.parametrize("times", [1.02, 1.1])
def test_networks_that_are_drawn_alone_inside_a_tight_latency_budget_differ(times):
    """It was always the one that the budget is nearest to."""
    predict = FakePredictor()
    task = problem(latency_budget_ms=times * predict(predict.fastest()).high_ms[0])
    codes = np.stack([task.initial(np.random.default_rng(seed), 1)[0] for seed in range(20)])
    assert not task.excess(task.columns(codes)).any() and len(np.unique(codes, axis=0)) > 10


def test_a_refusal_of_several_budgets_names_the_one_that_nothing_meets():
    predict = FakePredictor()
    fast = 1.02 * predict(predict.fastest()).high_ms[0]
    with pytest.raises(SpaceError, match=r"meets every constraint of 900k\.\.1M ms; the nearest, \w{10}, "):
        problem(flops="1M,900k..1M", latency_budget_ms=fast).check()


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_that_finds_nothing_more_inside_its_budgets_ends_with_what_it_has(tmp_path, monkeypatch, sampler):
    """It once died in its middle, and so did what resumed it."""

    def nothing(*_):
        raise SpaceError("no network was found")

    task, known = problem(), tuple(SPACE.family.values())
    monkeypatch.setattr(Problem, "initial", nothing)
    with pytest.raises(SpaceError, match="no network was found"):
        run(task, tmp_path / "none", trials=3, sampler=sampler)
    rows = run(task, tmp_path / "some", trials=3, sampler=sampler, known=known, population=8)
    assert [row.arch for row in rows][:2] == [SPACE.uniform(width).id for width in (0.5, 0.25)]  # inside 500k


@pytest.mark.parametrize(("times", "least_number"), [(1.0, 1), (1.01, 5), (1.2, 20)])
def test_a_latency_budget_near_the_least_of_a_large_space_has_networks(times, least_number):
    """That one network meets it is known; no walk from random ones leads there."""
    space = named_space("cifar")
    predict = FakePredictor(space)
    bound = times * predict(predict.least_high()[None]).high_ms[0]
    latency = LatencyObjective(predict=predict)
    budget = {"b": (LatencyBudget(latency, bound, predict.least_high),)}
    task = Problem(space=space, evaluate=accuracy_of, objectives=(ACCURACY, latency), budgets=budget)
    task.check()
    codes = task.initial(np.random.default_rng(0), 20)
    assert len(codes) == 20 and (task.excess(task.columns(codes)) == 0).all()
    assert len(np.unique(codes, axis=0)) >= least_number
    assert (codes == task.initial(np.random.default_rng(0), 20)).all()


def test_a_time_limit_ends_what_hangs_and_leaves_others_alarms_alone():
    rung = []
    signal_before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    before = signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(TimeLimit), time_limit(0.05):
            time.sleep(60)
        with time_limit(5):
            pass
        end = time.monotonic() + 5
        while not rung and time.monotonic() < end:
            time.sleep(0.01)
        assert rung
    finally:
        signal.signal(signal.SIGALRM, signal_before)
        signal.setitimer(signal.ITIMER_REAL, *before)


def test_a_network_that_failed_is_not_tried_again():
    tried = []

    def evaluate(arch):
        tried.append(arch.id)
        raise RuntimeError("boom")

    task: Problem = problem(evaluate)
    code = task.initial(np.random.default_rng(0), 1)[0]
    first = task.run(code, {})
    again = task.run(code, {first.arch: first})
    assert (first.state, again.state, len(tried)) == ("failed", "repeated", 1)
    assert again.accuracy is None


@pytest.mark.parametrize("columns", [False, True])
def test_an_accuracy_that_is_no_share_is_a_failed_network(columns, tmp_path):
    def evaluate(arch):  # some in percent, some as a loss
        number = int(arch.id, 16)
        accuracy = accuracy_of(arch) * (1, 1, 70, -1)[number % 4] + (number % 4 == 2)
        return {"accuracy": accuracy, "extra": -70.0} if columns else accuracy

    rows = run(problem(evaluate), tmp_path, trials=12, sampler="random")
    rows = [row for row in rows if row.state in ("complete", "failed")]
    assert {row.state for row in rows} == {"complete", "failed"}
    for row in rows:
        value = evaluate(SPACE.decode(np.array(row.code)))
        value = value["accuracy"] if columns else value
        assert (row.state == "complete") == (0 <= value <= 1)
        assert row.error == (None if 0 <= value <= 1 else f"accuracy must be in [0, 1], but got {value:g}")


@pytest.mark.parametrize("sampler", ["guided", "random"])
def test_a_network_with_other_columns_than_the_first_has_failed(tmp_path, sampler):
    def evaluate(arch):
        return {"accuracy": accuracy_of(arch)} | ({"extra": 1.0} if int(arch.id, 16) % 2 else {})

    every = run(problem(evaluate), tmp_path, trials=30, sampler=sampler)
    rows = [row for row in every if row.state in ("complete", "failed")]
    first = next(row for row in rows if row.state == "complete")
    alike = [row for row in rows if ("extra" in first.metrics) == int(row.arch, 16) % 2]
    assert 0 < len(alike) < len(rows) == 30
    assert [row for row in rows if row.state == "complete"] == alike
    reason = "the evaluator gave no extra" if "extra" in first.metrics else "only some networks have a column extra"
    assert {row.error for row in rows if row.state == "failed"} == {reason}
    assert bare(read_trials(tmp_path / "trials.jsonl")) == every  # which refuses such a log


def test_a_torn_last_line_is_dropped_and_another_search_is_refused(tmp_path):
    run(problem(), tmp_path, trials=10)
    path = tmp_path / "trials.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    torn = read_trials(path)
    assert len(torn) == len(content.splitlines()) - 2
    again = run(problem(), tmp_path, trials=10)
    assert again == bare([Trial.model_validate_json(line) for line in content.splitlines()[1:]])
    with pytest.raises(UserError, match=r"another search: search is of the tests, not another$"):
        TrialLog(path, {"search": "another"})
    TrialLog(path, HEADER).close()  # which the refusal did not keep


@pytest.mark.parametrize("backend", [{}, {"backend": None}])
def test_a_trial_without_what_its_backend_needs_to_go_on_is_refused(tmp_path, backend):
    run(problem(), tmp_path, trials=3)
    path = tmp_path / "trials.jsonl"
    header, first, *others = path.read_text().splitlines(keepends=True)
    row = {key: value for key, value in json.loads(first).items() if key != "backend"}
    path.write_text("".join([header, json.dumps(row | backend) + "\n", *others]))
    with pytest.raises(UserError, match=r"trials\.jsonl, line 2: backend: "):
        run(problem(), tmp_path, trials=4)


def _hold(path, ready):
    with TrialLog(path, HEADER):
        ready.set()
        time.sleep(600)


def test_a_second_search_in_a_folder_is_refused_until_the_first_dies(tmp_path):
    path, context = tmp_path / "trials.jsonl", multiprocessing.get_context("fork")
    ready = context.Event()
    first = context.Process(target=_hold, args=(path, ready))
    first.start()
    assert ready.wait(60)
    with pytest.raises(UserError, match=rf"is in use by process {first.pid} on "):
        run(problem(), tmp_path, trials=5)
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    assert len(run(problem(), tmp_path, trials=5)) >= 5


@pytest.mark.parametrize(
    ("accuracies", "ended"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5], None),  # not enough
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], None),  # the front grows
        ([0.1, 0.2, 0.6, 0.6, 0.5, 0.6], "no growth"),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], "trials"),
        ([0.5] * 9, "trials"),
    ],
)
def test_a_search_that_has_enough_goes_on_as_long_as_its_front_grows(accuracies, ended):
    evaluated = trials_at(np.array([(a, 1.0 if k else 2.0) for k, a in enumerate(accuracies)]))
    log = SimpleNamespace(evaluated=evaluated, trials=evaluated, num_evaluated=len(evaluated))
    assert SearchPlan(trials=9, enough=6).end_reason(log, USUAL) == ended
    assert SearchPlan(trials=9).end_reason(log, USUAL) == (ended if ended == "trials" else None)


def test_a_search_without_latency_has_enough_by_its_own_objectives(tmp_path):
    """Of its objectives' front alone, of which the last third adds little."""
    task = problem(constant, objectives=(ACCURACY, PARAMS), budgets=NONE)
    rows = [t for t in run(task, tmp_path, trials=60, enough=15) if t.state == "complete"]
    assert 15 <= len(rows) < 60
    params = np.array([t.params for t in rows])
    for k in range(15, len(rows) + 1):  # of one accuracy, the area is that of the smallest network
        first, all_of_them = (params[:k].max() - params[:n].min() for n in (round(2 / 3 * k), k))
        assert (1 - first / all_of_them < GROWTH) == (k == len(rows))


def trials_at(values: np.ndarray) -> list[Trial]:
    return [
        complete_trial(k, accuracy=float(a), latency_ms=float(ms), latency_high_ms=1.1 * float(ms))
        for k, (a, ms) in enumerate(values)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_front_and_hypervolume_against_brute_force(seed):
    values = np.random.default_rng(seed).integers(1, 12, (40, 2)) / 12
    best = front(trials_at(values))
    beaten = [any((b[0] >= a[0] and b[1] <= a[1] and tuple(b) != tuple(a)) for b in values) for a in values]
    expected = {tuple(v) for v, b in zip(values, beaten, strict=True) if not b}
    assert {(t["accuracy"], t["latency_ms"]) for t in best} == expected
    assert [t["latency_ms"] for t in best] == sorted(t["latency_ms"] for t in best)
    cells = itertools.product(range(12), range(12))
    area = sum(any(v[0] >= (i + 1) / 12 - 1e-9 and v[1] <= j / 12 + 1e-9 for v in values) for i, j in cells) / 144
    assert hypervolume(trials_at(values), 1.0) == pytest.approx(area)
    worst = values[:, 1].max()
    before = hypervolume(trials_at(values[:30]), worst)
    assert growth(trials_at(values), share=1 / 4) == pytest.approx(1 - before / hypervolume(trials_at(values), worst))
    growing = Front(USUAL)
    for trial in trials_at(values):
        growing.add([trial])
    assert {(a, -b) for a, b in growing.points.tolist()} == expected and len(growing) == len(expected)


@pytest.mark.parametrize("objectives", (USUAL, (ACCURACY, LATENCY, Objective("third", maximise=True))))
def test_gain_is_hypervolume_but_for_a_factor(objectives):
    """Against moocore's exact hypervolume. 20,000 random directions leave an error of about 1 %."""
    import moocore

    import search.engine.samplers.hypervolume_improvement as module

    rng, count = np.random.default_rng(0), len(objectives)
    rows = [t.metrics | {"third": float(rng.random())} for t in trials_at(rng.random((12, 2)))]
    was, module.DIRECTIONS = module.DIRECTIONS, 20_000
    try:
        gain = HypervolumeImprovement(objectives, rows, 1, rng)
        new = rng.random((6, count))
        columns = {o.name: new[:, k] for k, o in enumerate(objectives)}
        promised = gain.expected(gain.contribution(columns, {}))
    finally:
        module.DIRECTIONS = was
    signs = np.array([o.sign for o in objectives])
    points = np.array([[t[o.name] for o in objectives] for t in rows]) * signs

    def volume(extra):
        scaled = (np.concatenate([points, extra]) - gain.worst) / gain.extent
        return moocore.hypervolume(np.maximum(scaled, 0), ref=np.zeros(count), maximise=True)

    exact = np.array([volume(point[None] * signs) for point in new]) - volume(points[:0])
    base = gain.reached.mean() / volume(points[:0])
    np.testing.assert_allclose(promised / base, exact, rtol=0.1, atol=0.02 * exact.max())
    assert exact.max() > 0


def test_choosing_takes_the_ends_and_fills_up_from_behind():
    line = trials_at(np.array([[k / 10, k / 10] for k in range(1, 10)]))
    assert [t["accuracy"] for t in choose(line, 3)] == [0.1, 0.5, 0.9]
    stairs = trials_at(np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]))
    assert len(choose(stairs, 3)) == 3 and len(choose(stairs, 5)) == 3


def test_choosing_without_the_fastest_takes_the_last_of_equal_parts():
    line = trials_at(np.array([[k / 10, k / 10] for k in range(1, 10)]))
    for count, places in ((1, [9]), (3, [3, 6, 9]), (9, range(1, 10))):
        assert [t["accuracy"] for t in choose(line, count, fastest=False)] == [k / 10 for k in places]
    tight = line[:3]
    picked = choose_by_budget([line, tight], 4, fastest=False)
    assert [t["accuracy"] for t in picked] == [pytest.approx(0.15, abs=0.06), 0.3, 0.6, 0.9]  # the best of each budget


def test_every_budget_gets_its_share_of_the_chosen_and_of_its_own():
    line = trials_at(np.array([[k / 10, k / 10] for k in range(1, 10)]))
    tight, loose = line[:4], line
    assert [t["accuracy"] for t in choose_by_budget([loose, tight], 4)] == [0.1, 0.4, 0.5, 0.9]
    assert choose_by_budget([line], 3) == choose(line, 3)
    for one in (choose_by_budget([line], 1), choose(line, 1), pick(line, "even:1"), choose(line, 1, fastest=False)):
        assert [t["accuracy"] for t in one] == [0.9]  # what a budget is for
    beaten = trials_at(np.array([[0.9, 0.1], *([k / 10, 1.0 + k] for k in range(1, 5))]))  # one is the front of both
    picked = choose_by_budget([beaten[:2], beaten], 4)
    assert len({t.arch for t in picked}) == 4 and beaten[0] in picked


@pytest.mark.parametrize("count", range(1, 9))
def test_nothing_beaten_is_chosen_while_the_front_has_more(count):
    """Of the loose budget's own there is one on the front, and one that only the tight budget's best beats."""
    tight = trials_at(np.array([[k / 10, k / 10] for k in range(1, 7)]))
    loose = [*tight, *trials_at(np.array([[0.0, 9.0]] * 6 + [[0.9, 0.9], [0.59, 0.65]]))[6:]]
    chosen = choose_by_budget([tight, loose], count, fastest=False)
    assert len(chosen) == count and all(t in chosen for t in front(loose)) == (count > 6)
    assert (loose[-1] in chosen) == (count == 8)


@pytest.mark.parametrize("seed", range(5))
def test_choosing_by_hypervolume_is_the_best_of_all_choices(seed):
    rng = np.random.default_rng(seed)
    trials = trials_at(np.column_stack([rng.random(60), rng.random(60)]))
    best = front(trials)
    points = np.array([[t["accuracy"], -t["latency_ms"]] for t in best])
    reference = points.min(0) - BEYOND_CHOSEN * np.ptp(points, axis=0)

    def volume(chosen):
        return moocore.hypervolume(np.array(chosen), ref=reference, maximise=True)

    for count in (1, 2, 3):
        chosen = choose_by_hypervolume(trials, count)
        assert {t.arch for t in chosen} <= {t.arch for t in best} and len(chosen) == min(count, len(best))
        assert [t["latency_ms"] for t in chosen] == sorted(t["latency_ms"] for t in chosen)
        most = max(volume(each) for each in itertools.combinations(points.tolist(), len(chosen)))
        reached = volume([[t["accuracy"], -t["latency_ms"]] for t in chosen])
        assert reached == pytest.approx(most, rel=1e-12)


def test_of_three_objectives_hypervolume_comes_near_the_best_of_all_choices():
    points, reference = np.random.default_rng(0).random((9, 3)), np.full(3, -0.1)
    for count in (1, 3):
        taken = hypervolume_subset(points, count, reference)
        reached, *others = (
            moocore.hypervolume(points[list(each)], ref=reference, maximise=True)
            for each in (taken, *itertools.combinations(range(9), count))
        )
        assert reached >= (1 - 1 / np.e) * max(others)  # what Guerreiro et al. prove
        assert count > 1 or reached == max(others)


def test_choosing_by_hypervolume_takes_the_whole_front_before_those_behind():
    trials = trials_at(np.array([[0.9, 3.0], [0.5, 1.0], [0.8, 4.0], [0.4, 2.0], [0.3, 5.0]]))
    assert [t["accuracy"] for t in choose_by_hypervolume(trials, 2)] == [0.5, 0.9]
    assert [t["accuracy"] for t in choose_by_hypervolume(trials, 4)] == [0.5, 0.4, 0.9, 0.8]
    assert len(choose_by_hypervolume(trials, 9)) == 5 and choose_by_hypervolume([], 3) == []


def test_choosing_by_knee_budget_and_id():
    bend = trials_at(np.array([[0.1, 1.0], [0.8, 1.5], [0.85, 3.0], [0.9, 6.0], [0.2, 5.0]]))
    assert knee(bend)["accuracy"] == 0.8
    assert [t["accuracy"] for t in pick(bend, "knee, 3.5ms,0000000004, even:2")] == [0.8, 0.85, 0.2, 0.1, 0.9]
    assert pick(bend, "hypervolume:2") == choose_by_hypervolume(bend, 2)
    assert pick(bend, "1k")[0]["accuracy"] == 0.9
    for ways, message in (
        ("best", "are chosen by"),
        ("even:" + 5000 * "9", "are chosen by"),
        ("ffffffffff", "no network ffffffffff"),
        ("0.5ms", "within 0.5ms: the fastest takes up to 1.1 ms"),
        ("2k..3k", "within 2k..3k: they have .* multiply-adds"),
    ):
        with pytest.raises(UserError, match=message):
            pick(bend, ways)
