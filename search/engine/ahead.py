"""Networks that are evaluated before it is their turn, side by side: those that a sampler has settled on, whatever the
results of the ones before them.

What a search finds doesn't depend on it, nor does the order of its log; a killed search lost what it had done ahead.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from search.engine.ladder import Ladder
from search.engine.log import TrialLog
from search.engine.objectives import prepare
from search.engine.problem import Problem
from search.engine.search_plan import SearchPlan
from search.engine.trial import Evaluation
from search.parallel.processes import Processes
from spaces.space import Codes


class Ahead:
    """Evaluations by architecture: a context, at whose end the processes that evaluated are stopped."""

    def __init__(self, problem: Problem, log: TrialLog, plan: SearchPlan) -> None:
        self.problem, self.log, self.plan = problem, log, plan
        # Which network goes on to the next rung depends on the results before; a time box may end between two.
        alone = isinstance(problem.evaluate, Ladder) or plan.deadline is not None
        # No evaluation goes by these, and latency tables don't go to other processes.
        sent = replace(problem, objectives=(), also=(), budgets={}, unit_losses=None)
        self._processes = Processes(_Measure(sent), 1 if alone else plan.processes)
        self._known: dict[str, Evaluation] = {}

    def __enter__(self) -> "Ahead":
        self._processes.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._processes.__exit__(*error)

    def evaluation(self, code: Codes, settled: Codes) -> Evaluation | None:
        """That of a network whose turn it is, after which the settled ones come; None where one process evaluates."""
        if self._processes.count == 1:
            return None
        arch = self.problem.space.decode(code).id
        if arch not in self._known:
            self._evaluate([code, *settled])
        return self._known.pop(arch, None)

    def _evaluate(self, codes: list[Codes]) -> None:
        """Evaluates those of some networks that need it, and that the search has trials for."""
        candidates = {each.arch: each for each in map(self.problem.candidate, codes)}
        waiting = [each for arch, each in candidates.items() if arch not in self._known]
        needed = [each for each in waiting if self.problem.lookup(each, self.log.seen) is None]
        needed = needed[: max(1, self.plan.trials - self.log.num_evaluated - len(self._known))]
        results = self._processes.map([each.code for each in needed])
        self._known |= {each.arch: result for each, result in zip(needed, results, strict=True)}


@dataclass
class _Measure:
    """Evaluates networks by their codes, in whichever process."""

    problem: Problem

    def __call__(self, code: list[int]) -> Evaluation:
        return self._prepared.measure(self.problem.space.decode(np.array(code)))

    @cached_property
    def _prepared(self) -> Problem:
        prepare(self.problem.evaluate)
        return self.problem
