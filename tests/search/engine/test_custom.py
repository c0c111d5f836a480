"""Objectives of the user's own."""

import os
import sys
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest

from search.engine.custom import CustomEvaluation, CustomObjective, load_objective, objective_of, with_objectives
from search.engine.ladder import REDUCTION
from search.engine.objectives import ACCURACY, Objective
from search.errors import UserError
from tests.search.own_code import NeverAnObjective, depth, efficiency, one_argument
from tests.search.searches import LADDER, SPACE, accuracy_of, problem, run


@dataclass(frozen=True)
class Blocks(Objective):
    """Known for whole populations, before anything is evaluated."""

    name: str = "blocks"

    def known_metrics(self, codes):
        return {"blocks": np.array([len(SPACE.decode(code).blocks) for code in np.atleast_2d(codes)])}


def task(*own):
    """A problem with the user's objectives next to accuracy and latency."""
    plain = problem()
    objectives = (*plain.objectives, *own)
    whole = problem(objectives=objectives)
    mine = [each for each in own if isinstance(each, CustomObjective)]
    return problem(CustomEvaluation(whole, accuracy_of, mine), objectives=objectives)


def test_it_is_a_column_computed_from_the_metrics_known_by_then(tmp_path):
    own = [objective_of(depth), objective_of(efficiency), Blocks()]
    assert [(each.name, each.maximise) for each in own] == [("depth", False), ("efficiency", True), ("blocks", False)]
    rows = [row for row in run(task(*own), tmp_path, trials=6, population=4) if row.state == "complete"]
    assert len(rows) == 6
    for row in rows:
        arch = SPACE.decode(np.array(row.code))
        assert row["depth"] == row["blocks"] == len(arch.blocks)
        assert row["efficiency"] == accuracy_of(arch) / row["macs"]


@pytest.mark.parametrize("sampler", ["guided", "nsga2"])
def test_a_resumed_search_for_it_equals_an_unbroken_one(tmp_path, sampler):
    whole = run(task(objective_of(depth)), tmp_path / "whole", trials=14, sampler=sampler, population=6)
    run(task(objective_of(depth)), tmp_path / "parts", trials=9, sampler=sampler, population=6)
    assert run(task(objective_of(depth)), tmp_path / "parts", trials=14, sampler=sampler, population=6) == whole


def test_a_ladder_with_it_keeps_its_prices_by_which_networks_go_on(tmp_path):
    own, ladder = objective_of(depth), replace(LADDER, prices=(1.0, 4.0, 16.0))
    plain = problem(ladder)
    task = problem(objectives=(*plain.objectives, own))
    task = replace(task, evaluate=with_objectives(task, ladder, [own]))
    assert task.promoted_rungs == plain.promoted_rungs == 3
    rows = [row for row in run(task, tmp_path, num_rungs=3, trials=20) if row.state == "complete"]
    heights = Counter(row.arch for row in rows)
    assert len(heights) == 20 and max(heights.values()) == 3 and len(rows) - 20 >= 20 // REDUCTION
    for row in rows:
        assert row["depth"] == len(SPACE.decode(np.array(row.code)).blocks)


def test_later_ones_know_earlier_ones():
    seen = []
    first = CustomObjective("first", function=lambda arch, metrics: 2.0)
    second = CustomObjective("second", function=lambda arch, metrics: seen.append(dict(metrics)) or 3.0)
    result = CustomEvaluation(problem(), accuracy_of, [first, second])(SPACE.smallest)
    assert result == {"accuracy": accuracy_of(SPACE.smallest), "first": 2.0, "second": 3.0}
    assert seen[0].keys() >= {"accuracy", "macs", "params", "latency_ms", "first"}


def test_one_that_raises_or_is_no_number_is_a_failed_network(tmp_path):
    def broken(arch, metrics):
        return 1 / (int(arch.id, 16) % 2) if int(arch.id, 16) % 3 else float("nan")

    rows = run(task(objective_of(broken)), tmp_path, trials=8, population=8)
    states = {row.state: row for row in rows}
    assert states.keys() >= {"failed", "complete"}
    for row in rows:
        number = int(row.arch, 16)
        if row.state in ("failed", "complete"):
            assert (row.state == "complete") == (number % 2 == 1 and number % 3 != 0), row


def test_a_module_of_the_users_is_found_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "mine_here.py").write_text(
        "class Score:\n    maximise = True\n    name = 'score'\n"
        "    def __call__(self, arch, metrics):\n        return metrics['macs']\n\n\nscore = Score()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", os.getcwd())])
    result = load_objective("mine_here:score")
    assert isinstance(result, CustomObjective) and (result.name, result.maximise) == ("score", True)


HERE = "tests.search.own_code"
BAD = {
    "no colon": ("depth", "is MODULE:NAME"),
    "a path": ("./own.py:depth", "is MODULE:NAME"),
    "no module": ("nowhere_at_all:depth", "no module 'nowhere_at_all'"),
    "no name": (f"{HERE}:width", "has no attribute 'width'"),
    "a class": (f"{HERE}:NeverAnObjective", "must be a function"),
    "a number": ("math:pi", "must be a function"),
    "one argument": (f"{HERE}:one_argument", "must take two arguments"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_none_is_told_in_a_line(what):
    path, message = BAD[what]
    with pytest.raises(UserError, match=message) as caught:
        load_objective(path)
    assert "\n" not in str(caught.value)


def test_a_module_that_fails_is_told_in_a_line(tmp_path, monkeypatch):
    (tmp_path / "failing_module.py").write_text("raise RuntimeError('first line\\nsecond')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"failing_module:x': RuntimeError: first line$"):
        load_objective("failing_module:x")


def test_names_that_a_log_has_anyway_or_cannot_have_are_refused():
    for name in (
        "accuracy",
        "macs",
        "state",
        "error",
        "rungs",
        "latency_ms",
        "",
        "two words",
        "<lambda>",
        "1st",
        5,
        None,
    ):
        with pytest.raises(UserError, match="its name must be"):
            objective_of(CustomObjective(name, function=depth))
    with pytest.raises(UserError, match="its name must be"):
        objective_of(lambda arch, metrics: 0.0)
    with pytest.raises(UserError, match="must be a function"):
        objective_of(NeverAnObjective)
    with pytest.raises(UserError, match="must take two arguments"):
        objective_of(one_argument)
    with pytest.raises(UserError, match="its name must be"):
        objective_of(ACCURACY)
