"""The samplers by name: Optuna's, and two of our own behind the same interface."""

from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from search.engine.log import TrialLog
from search.engine.optuna_study import FixedSpaceSampler, distributions
from search.engine.problem import Problem
from search.engine.samplers.evolution import Evolution
from search.engine.samplers.genetic import NSGA2, NSGA3, genetic
from search.engine.samplers.guided import Guided
from search.engine.samplers.initial import expected_good
from search.engine.search_plan import SearchPlan


class _GP(FixedSpaceSampler, optuna.samplers.GPSampler):
    """Optuna's."""


class _TPE(FixedSpaceSampler, optuna.samplers.TPESampler):
    """Optuna's; genes together, which costs one split of the trials a network, and proposes fewer that were seen."""


def samplers(problem: Problem, log: TrialLog, plan: SearchPlan) -> Callable[[int], BaseSampler]:
    """Trial number -> the sampler to ask; what it draws depends on the plan's seed, the number and the log."""
    search_space, name, population, seed = distributions(problem.space), plan.sampler, plan.population, plan.seed

    def seed_from(numbers: tuple[int, ...]) -> int:
        return int(np.random.SeedSequence([seed, *numbers]).generate_state(1)[0])

    def seeded_sampler(kind: type[FixedSpaceSampler], number: int, **settings: Any) -> BaseSampler:
        sampler = kind(n_startup_trials=population, seed=seed_from((number,)), **settings)  # type: ignore[call-arg]
        sampler.distributions = search_space
        return sampler

    match name:
        case "guided" | "exact":  # which differ in the networks that come first
            guided = Guided(problem, log, max(population, len(expected_good(problem, plan))), seed)
            return lambda number: guided
        case "evolution":
            evolution = Evolution(problem, log, population, seed)
            return lambda number: evolution
        case "nsga2":
            return genetic(NSGA2, search_space, population, seed_from)
        case "nsga3":
            return genetic(NSGA3, search_space, population, seed_from)
        case "tpe":
            return lambda number: seeded_sampler(_TPE, number, multivariate=True)
        case "gp":
            return lambda number: seeded_sampler(_GP, number)
        case "random":
            return lambda number: optuna.samplers.RandomSampler(seed=seed_from((number,)))
