"""The search: budgets before evaluations, a log that resumes to the same trials, the front against brute force."""

import itertools
import json

import numpy as np
import pytest

from search.engine.front import choose, front, hypervolume
from search.engine.log import TrialLog, read_trials
from search.engine.optuna_backend import search
from search.engine.problem import Problem
from search.errors import UserError
from search.latency.predictor import Prediction
from spaces import SpaceError, Window, named_space
from spaces.tables import UnitTable

SPACE = named_space("digits")
SAMPLERS = ("nsga2", "nsga3", "tpe", "random", "gp")


class FakePredictor:
    """Latency as a plain sum: a unit's key, hashed."""

    def __init__(self) -> None:
        self.table = UnitTable(SPACE, lambda unit: 0.01 + (sum(map(ord, unit.key)) % 97) / 1000)

    def __call__(self, codes):
        ms = self.table.total(codes)
        return Prediction(ms, 0.9 * ms, 1.1 * ms)

    def fastest(self):
        return self.table.extreme()


def accuracy_of(arch) -> float:
    return int(arch.id, 16) % 1000 / 1000


def problem(evaluate=accuracy_of, **changes) -> Problem:
    return Problem(space=SPACE, window=Window.parse("500k"), predict=FakePredictor(), evaluate=evaluate, **changes)


def bare(log: TrialLog) -> list[dict]:
    return [{k: v for k, v in trial.items() if k != "seconds"} for trial in log.trials]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_that_is_stopped_and_resumed_anywhere_equals_an_unbroken_one(tmp_path, sampler):
    count, stops = (45, (5, 20, 21, 37)) if sampler != "gp" else (24, (5, 21, 22))
    arguments = {"sampler": sampler, "population": 20, "seed": 4}
    whole = TrialLog(tmp_path / "whole", {})
    search(problem(), whole, trials=count, **arguments)
    for stop in (*stops, count):
        resumed = TrialLog(tmp_path / "resumed", {})
        search(problem(), resumed, trials=stop, **arguments)
    assert bare(whole) == bare(resumed)
    assert len(whole.evaluated) == count


@pytest.mark.parametrize("sampler", SAMPLERS[:4])
def test_only_new_networks_inside_the_budget_are_evaluated(tmp_path, sampler):
    asked = []

    def evaluate(arch):
        asked.append(arch.id)
        return accuracy_of(arch)

    task = problem(evaluate, latency_budget_ms=0.45)
    log = TrialLog(tmp_path / "log", {})
    search(task, log, trials=60, sampler=sampler, population=20)
    assert len(asked) == len(set(asked)) == 60
    for trial in log.evaluated:
        assert trial["macs"] <= 500_000 and trial["latency_high_ms"] <= 0.45
    for trial in log.trials:
        if trial["state"] == "infeasible":
            assert trial["accuracy"] is None and trial["excess"] > 0


def test_impossible_budgets_are_answered_with_the_nearest(tmp_path):
    with pytest.raises(SpaceError, match=r"at or below 0\.01 ms: the nearest feasible one"):
        problem(latency_budget_ms=0.01).check()
    problem(latency_budget_ms=1.0).check()


def test_a_network_that_fails_is_logged_and_the_search_goes_on(tmp_path):
    def evaluate(arch):
        if int(arch.id, 16) % 5 == 0:
            raise RuntimeError("boom")
        return float("nan") if int(arch.id, 16) % 5 == 1 else 0.5

    log = TrialLog(tmp_path / "log", {})
    search(problem(evaluate), log, trials=40, population=10)
    failed = [t for t in log.trials if t["state"] == "failed"]
    assert len(failed) + len(log.evaluated) == 40 and failed
    assert {t["error"] for t in failed} == {"RuntimeError: boom", "accuracy is nan"}


def test_a_torn_last_line_is_dropped_and_another_search_is_refused(tmp_path):
    path = tmp_path / "log"
    search(problem(), TrialLog(path, {"seed": 0}), trials=10, population=5)
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    log = TrialLog(path, {"seed": 0})
    search(problem(), log, trials=10, population=5)
    assert [t["number"] for t in read_trials(path)] == list(range(len(log.trials)))
    without_time = lambda text: [json.loads(line) | {"seconds": 0} for line in text.splitlines()]  # noqa: E731
    assert without_time(path.read_text()) == without_time(content.decode())
    with pytest.raises(UserError, match="differs in seed"):
        TrialLog(path, {"seed": 1})


def trials_at(values: np.ndarray) -> list[dict]:
    return [{"accuracy": float(a), "latency_ms": float(ms), "arch": str(k)} for k, (a, ms) in enumerate(values)]


@pytest.mark.parametrize("seed", range(4))
def test_front_and_hypervolume_against_brute_force(seed):
    values = np.random.default_rng(seed).integers(1, 12, (40, 2)) / 12
    best = front(trials_at(values))
    beaten = [any((b[0] >= a[0] and b[1] <= a[1] and tuple(b) != tuple(a)) for b in values) for a in values]
    assert {(t["accuracy"], t["latency_ms"]) for t in best} == {
        tuple(v) for v, b in zip(values, beaten, strict=True) if not b
    }
    assert [t["latency_ms"] for t in best] == sorted(t["latency_ms"] for t in best)
    cells = itertools.product(range(12), range(12))
    area = sum(any(v[0] >= (i + 1) / 12 - 1e-9 and v[1] <= j / 12 + 1e-9 for v in values) for i, j in cells) / 144
    assert hypervolume(trials_at(values), 1.0) == pytest.approx(area)


def test_choosing_takes_the_ends_and_fills_up_from_behind():
    line = trials_at(np.array([[k / 10, k / 10] for k in range(1, 10)]))
    assert [t["accuracy"] for t in choose(line, 3)] == [0.1, 0.5, 0.9]
    stairs = trials_at(np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]))
    assert len(choose(stairs, 3)) == 3 and len(choose(stairs, 5)) == 3
