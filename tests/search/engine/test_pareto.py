"""The exact front of sums over units, against enumeration; and the search that begins with it."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.engine.backends import backend
from search.engine.budgets import NONE, Within, combine_budgets
from search.engine.log import TrialLog
from search.engine.objectives import ACCURACY, MACS, Objective, Tabulated
from search.engine.pareto import Limit, pareto_front
from search.engine.predicted_front import coarse_to_fine, predicted_front
from search.engine.problem import Problem
from search.engine.search_plan import SearchPlan
from search.errors import UserError
from spaces import named_space
from spaces.quantities import Window, parse_windows
from spaces.tables import UnitTable, macs_table, memory_table, params_table, weights_table
from tests.helpers import plus_space, spaces


def random_table(space, seed):
    rng = np.random.default_rng(seed)
    return UnitTable(space, lambda unit: float(rng.integers(0, 20)))


def enumerated(space, tables):
    """Every network's code and sums."""
    codes = np.unique(space.canonical(np.array(list(product(*map(range, space.choices))))), axis=0)
    return codes, np.stack([table.total(codes) for table in tables], 1)


def nondominated(points):
    """By definition, point by point; equal ones once."""
    points = np.unique(points, axis=0)
    return np.array([p for p in points if not ((points <= p).all(1) & (points < p).any(1)).any()]).reshape(
        -1, points.shape[1]
    )


@settings(max_examples=25, deadline=None)
@given(spaces(), st.integers(0, 2**16), st.integers(1, 3))
def test_the_front_of_a_space_that_can_be_enumerated(space, seed, count):
    tables = [random_table(space, seed + k) for k in range(count)]
    codes, sums = pareto_front(tables)
    every, all_sums = enumerated(space, tables)
    np.testing.assert_array_equal(sums, nondominated(all_sums))
    np.testing.assert_array_equal(np.stack([table.total(codes) for table in tables], 1), sums)
    assert set(map(tuple, codes.tolist())) <= set(map(tuple, every.tolist()))


@settings(max_examples=25, deadline=None)
@given(spaces(), st.integers(0, 2**16), st.floats(0, 1), st.floats(0, 1))
def test_limits_hold_and_nothing_inside_them_is_missed(space, seed, by_macs, by_params):
    tables = [random_table(space, seed), random_table(space, seed + 1)]
    _, all_sums = enumerated(space, [*tables, macs_table(space), params_table(space)])
    most = [np.quantile(all_sums[:, k], share, method="lower") for k, share in ((2, by_macs), (3, by_params))]
    _, sums = pareto_front(tables, [Limit(macs_table(space), most[0]), Limit(params_table(space), most[1])])
    inside = all_sums[(all_sums[:, 2:] <= most).all(1), :2]
    np.testing.assert_array_equal(sums, nondominated(inside) if len(inside) else inside)


def test_a_window_holds_both_of_its_ends():
    space = plus_space()
    macs = macs_table(space)
    largest = macs.total(space.encode(space.largest))[0]
    negative = UnitTable.of(space, [-values for values in macs.values])
    _, sums = pareto_front([macs], [Limit(macs, largest), Limit(negative, -largest)])
    assert sums.tolist() == [[largest]]


def test_limits_that_nothing_meets_leave_nothing():
    space = plus_space()
    codes, sums = pareto_front([random_table(space, 0)], [Limit(macs_table(space), 1.0)])
    assert codes.shape == (0, len(space.genes)) and sums.shape == (0, 1)


@pytest.mark.parametrize("name", ["digits", "cifar"])
def test_no_sampled_network_of_a_large_space_betters_the_front(name):
    space = named_space(name)
    macs, rng = macs_table(space), np.random.default_rng(0)
    loss = UnitTable(space, lambda unit: float(rng.exponential()))
    limit = float(macs.total(space.encode(space.uniform(0.5)))[0])
    for limits in ([], [Limit(params_table(space), limit)]):
        codes, sums = pareto_front([macs, loss], limits)
        sampled = space.sample_codes(rng, 20_000)
        sampled = np.concatenate([sampled, *(codes[k : k + 1] for k in range(len(codes)))])
        mutants = sampled.copy()
        at = rng.integers(len(space.genes), size=len(mutants))
        mutants[np.arange(len(mutants)), at] = rng.integers(space.choices[at])
        for tried in (sampled, space.canonical(mutants)):
            if limits:
                tried = tried[params_table(space).total(tried) <= limit]
            points = np.stack([macs.total(tried), loss.total(tried)], 1)
            best = sums[np.searchsorted(sums[:, 0], points[:, 0], side="right") - 1]
            assert (points[:, 0] >= sums[0, 0]).all()
            assert (best[:, 1] <= points[:, 1] + 1e-9).all()


@given(st.integers(0, 300))
def test_coarse_to_fine_is_every_number_once_and_evenly_spread_from_the_start(count):
    order = coarse_to_fine(count)
    assert sorted(order) == list(range(count))
    for k in (2, 3, 5, 9, 17):
        if count >= k:
            gaps = np.diff(sorted(order[:k]))
            assert sorted(order[:k])[0] == 0 and sorted(order[:k])[-1] == count - 1 and gaps.max() - gaps.min() <= 1


def additive(space, budgets=NONE):
    """A problem whose accuracy is a falling function of the sum that unit losses say."""
    losses = random_table(space, 5)

    def evaluate(arch):
        return float(np.exp(-losses.total(space.encode(arch))[0] / 100))

    return Problem(space=space, evaluate=evaluate, objectives=(ACCURACY, MACS), budgets=budgets, unit_losses=losses)


def searched(problem, path, trials):
    with TrialLog(path / "trials.jsonl", {"schema": "test"}) as log:
        backend("optuna")(problem, log, SearchPlan(trials=trials, sampler="exact", population=4, seed=0))
        return list(log.evaluated)


@pytest.mark.parametrize("budget", ["200k", "two"])
def test_a_search_with_true_losses_has_the_true_front_from_its_first_networks(budget, tmp_path):
    space = plus_space()
    low, high = (macs_table(space).total(space.encode(arch))[0] for arch in (space.smallest, space.largest))
    if budget == "two":
        budget = f"{low + (high - low) // 3:.0f}..{low + (high - low) // 2:.0f},{low + (high - low) // 4:.0f}"
    problem = additive(
        space, combine_budgets({message: Within(window) for message, window in parse_windows(budget).items()})
    )
    codes, sums = enumerated(space, [problem.unit_losses, macs_table(space)])
    wanted = set()
    for window in parse_windows(budget).values():
        wanted |= set(map(tuple, nondominated(sums[window.holds(sums[:, 1])]).tolist()))
    assert len(wanted) > 2
    trials = searched(problem, tmp_path, len(problem.predicted_front))
    result = np.array([trial.code for trial in trials])
    points = {tuple(row) for row in sums[(codes[:, None] == result).all(2).any(1)].tolist()}
    assert points == wanted
    assert len(searched(problem, tmp_path, len(result) + 12)) == len(result) + 12, "and goes on, guided"


def test_the_exact_sampler_wants_sums(tmp_path):
    memory = Tabulated("memory", table=memory_table(plus_space()))  # the largest unit's, which is no sum
    for objective in (Objective("energy"), memory):
        problem = replace(additive(plus_space()), objectives=(ACCURACY, objective))
        with pytest.raises(UserError, match=f"sums over units, such as latency_ms or macs, not {objective.name}"):
            searched(problem, tmp_path, 5)


def test_the_exact_sampler_takes_any_table_that_sums():
    """Such as that of the bytes of weights."""
    space = plus_space()
    weights = weights_table(space)
    problem = replace(additive(space), objectives=(ACCURACY, Tabulated("weights", table=weights)))
    _, sums = enumerated(space, [weights, problem.unit_losses])
    front = np.stack([table.total(problem.predicted_front) for table in (weights, problem.unit_losses)], 1)
    np.testing.assert_array_equal(np.unique(front, axis=0), nondominated(sums))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_window_of_memory_which_is_no_sum_holds_both_of_its_ends(seed):
    space = plus_space()
    tables = [macs_table(space), random_table(space, seed)]
    codes, sums = enumerated(space, tables)
    memory = memory_table(space, 4).total(codes)
    window = Window(*(int(np.quantile(memory, share)) for share in (0.5, 0.8)), "memory")
    (front,) = predicted_front(space, tables[1], [ACCURACY, MACS], [(Within(window),)])
    points = np.stack([table.total(front) for table in tables], 1)
    np.testing.assert_array_equal(points, nondominated(sums[window.holds(memory)]))
