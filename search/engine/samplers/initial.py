"""Networks that a search takes by itself. The first ones are known to be good, of the exact front of unit losses or
sampled uniformly inside its budgets; others stand in wherever a sampler that keeps no list of networks (TPE in a small
space) proposes nothing new. And when no more new ones are to come, those go up a ladder that are most worth it."""

from collections.abc import Collection
from contextlib import nullcontext, suppress

import numpy as np

from search.engine.ladder import at_the_top, rung_that_lacks
from search.engine.log import TrialLog
from search.engine.problem import Problem
from search.engine.samplers.promotions import Promotions
from search.engine.search_plan import SearchPlan
from search.engine.trial import INFEASIBLE, REPEATED
from search.seeds import FIRST_NETWORKS, LAST_PROMOTIONS
from spaces.errors import SpaceError
from spaces.space import Codes

STUCK = 5  # trials in a row that needed no evaluation
STAND_INS = 10  # networks that are drawn of each budget, of which a new one is taken


def expected_good(problem: Problem, plan: SearchPlan) -> Codes:
    """The networks that a search takes before any is drawn: the plan's known ones that are inside a budget, and the
    exact front of unit losses where the sampler begins by it. [n, genes]"""
    codes = [problem.space.encode(arch) for arch in plan.known]
    inside = [code for code in codes if problem.candidate(code).excess == 0]
    known = np.array(inside, dtype=np.int64).reshape(-1, len(problem.space.genes))
    return np.concatenate([known, problem.predicted_front]) if plan.sampler == "exact" else known


class InitialSampler:
    """Trial number -> the network that is drawn for it, or None where the sampler is to propose one. It goes by the
    log, so a resumed search draws the same.

    Raises:
        SpaceError: no network was found inside a budget, and none is known.
    """

    def __init__(self, problem: Problem, log: TrialLog, plan: SearchPlan) -> None:
        self.problem, self.log, self.plan, self.seed = problem, log, plan, plan.seed
        rng, first = np.random.default_rng([plan.seed, FIRST_NETWORKS]), expected_good(problem, plan)
        short = plan.population - len(first)  # how many are drawn doesn't depend on the trials, of which more may come
        if short > 0:
            with suppress(SpaceError) if len(first) else nullcontext():
                first = np.concatenate([first, problem.initial(rng, short)])
        self.first = first[: plan.trials]

    def settled(self, number: int) -> Codes:
        """The codes for the trials from `number` on, as far as they are known from the beginning, [n, genes]."""
        return self.first[number:]

    def __call__(self, number: int, running: Collection[str] = ()) -> Codes | None:
        """Args:
        running: networks that are being evaluated, by architecture.
        """
        if self.plan.num_rungs > 1 and self.log.num_evaluated >= self.plan.trials:
            return self._next_up(number, running)
        if number < len(self.first):
            return self.first[number]
        last = self.log.trials[-STUCK:]
        if len(last) < STUCK or any(trial.state not in (REPEATED, INFEASIBLE) for trial in last):
            return None
        rng, budgets = np.random.default_rng([self.seed, FIRST_NETWORKS, number]), len(self.problem.budgets)
        with suppress(SpaceError):  # those that were found before were known
            drawn = np.roll(self.problem.initial(rng, STAND_INS * budgets), -(number % budgets), axis=0)
            archs = (self.problem.space.decode(code).id for code in drawn)
            known = (arch in self.log.seen or arch in running for arch in archs)
            return next((code for code, old in zip(drawn, known, strict=True) if not old), drawn[0])
        return None

    def _next_up(self, number: int, running: Collection[str]) -> Codes | None:
        """Of the networks on the lowest rung that lacks some above it, the one that is most worth its next evaluation;
        None where those that are running are enough."""
        trials = self.log.evaluated
        heights = np.array([len(trial.rungs or ()) + (trial.arch in running) for trial in trials])
        rung = rung_that_lacks(heights.tolist(), self.plan.num_rungs)
        if rung is None:
            return None
        waiting = [k for k, trial in enumerate(trials) if heights[k] == rung and trial.arch not in running]
        rng = np.random.default_rng([self.seed, LAST_PROMOTIONS, number])
        promotions = Promotions(self.problem, trials, at_the_top(trials), rng)
        return promotions.codes[max(waiting, key=lambda k: promotions.worth[k])] if waiting else None
