"""Optuna's genetic samplers, resumable and at a cost that hardly grows with the trials.

Optuna's own count generations over all trials for every child, and infer the search space from them. Here generations
are indexed as trials come, the space is known, and the parents of each generation are selected with randomness of
their own: a resumed search selects the same.
"""

from collections import defaultdict
from collections.abc import Callable

import optuna
from optuna.samplers import NSGAIIISampler, NSGAIISampler
from optuna.trial import FrozenTrial, TrialState

from search.engine.optuna_study import Distributions, FixedSpaceSampler

KEY = "generation"


class Generations:
    """The generations of one search, which its samplers share.

    Args:
        make: seed -> a sampler that selects parents.
    """

    def __init__(self, population: int, make: "Callable[[tuple[int, ...]], Indexed]") -> None:
        self.population, self.make = population, make
        self.trials: dict[int, list[FrozenTrial]] = defaultdict(list)
        self.parents: dict[int, list[FrozenTrial]] = {0: []}
        self._waiting: list[int] = []
        self._read = 0

    def update(self, study: optuna.Study) -> None:
        """Adds the trials that have finished since the last call.

        One that no sampler of this kind proposed, such as a network that stands in for its proposals, is of the
        generation that is current when it comes: an earlier one may have parents already, which it wouldn't change
        until the search is resumed.
        """
        every = study._get_trials(deepcopy=False, use_cache=True)
        self._waiting += range(self._read, len(every))
        self._read = len(every)
        waiting, self._waiting = self._waiting, []
        for number in waiting:
            trial = every[number]
            if trial.state == TrialState.COMPLETE:
                generation = trial.system_attrs.get(KEY)
                self.trials[self.current if generation is None else generation].append(trial)
            elif not trial.state.is_finished():
                self._waiting.append(number)

    @property
    def current(self) -> int:
        """The generation that the next trial belongs to."""
        newest = max(self.trials, default=0)
        return newest + (len(self.trials[newest]) >= self.population)


class Indexed(FixedSpaceSampler, optuna.samplers.BaseGASampler):
    """To be mixed in before one of Optuna's genetic samplers."""

    generations: Generations

    def get_trial_generation(self, study: optuna.Study, trial: FrozenTrial) -> int:
        self.generations.update(study)
        generation = self.generations.current
        study._storage.set_trial_system_attr(trial._trial_id, KEY, generation)
        return generation

    def get_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        self.generations.update(study)
        return self.generations.trials[generation]

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        known = self.generations.parents
        for each in range(1, generation + 1):
            if each not in known:
                known[each] = self.generations.make((each,)).select_parent(study, each)
        return known[generation]


class NSGA2(Indexed, NSGAIISampler):
    """Deb et al., 2002."""


class NSGA3(Indexed, NSGAIIISampler):
    """Deb and Jain, 2014."""


def genetic(
    kind: type[Indexed], search_space: Distributions, population: int, seed_from: Callable[[tuple[int, ...]], int]
) -> Callable[[int], Indexed]:
    """Trial number -> the sampler for that trial.

    Args:
        seed_from: numbers -> a seed.
    """

    def make(numbers: tuple[int, ...]) -> Indexed:
        sampler = kind(population_size=population, seed=seed_from(numbers))  # type: ignore[call-arg]
        sampler.generations, sampler.distributions = generations, search_space
        return sampler

    generations = Generations(population, lambda numbers: make((1, *numbers)))
    return lambda number: make((0, number))
