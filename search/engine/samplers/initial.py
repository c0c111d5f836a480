"""Networks that a search takes by itself: the first ones, sampled uniformly inside its budgets or taken from the exact
front of unit losses, and one wherever a sampler that keeps no list of networks (TPE in a small space) proposes nothing
new."""

import numpy as np

from search.engine.log import TrialLog
from search.engine.problem import Problem
from search.engine.search_plan import SearchPlan
from search.engine.trial import INFEASIBLE, REPEATED
from spaces.space import Codes

STUCK = 5  # trials in a row that needed no evaluation


class InitialSampler:
    """Trial number -> the network that is drawn for it, or None where the sampler is to propose one. It goes by the
    log, so a resumed search draws the same.

    Raises:
        SpaceError: no network was found inside a budget.
    """

    def __init__(self, problem: Problem, log: TrialLog, plan: SearchPlan) -> None:
        self.problem, self.log, self.seed = problem, log, plan.seed
        rng, count = np.random.default_rng([plan.seed, 2]), min(plan.population, plan.trials)
        if plan.sampler == "exact":
            front = problem.predicted_front[: plan.trials]
            short = count - len(front)
            self.first = np.concatenate([front, problem.initial(rng, short)]) if short > 0 else front
        else:
            self.first = problem.initial(rng, count)

    def __call__(self, number: int) -> Codes | None:
        if number < len(self.first):
            return self.first[number]
        last = self.log.trials[-STUCK:]
        if len(last) < STUCK or any(trial.state not in (REPEATED, INFEASIBLE) for trial in last):
            return None
        budgets = len(self.problem.budgets)
        return self.problem.initial(np.random.default_rng([self.seed, 2, number]), budgets)[number % budgets]
