"""Regularised evolution (Real et al., AAAI 2019) under a latency limit, as Once-for-All searches (Cai et al., ICLR
2020): of a sample of the youngest networks, the most accurate within the limit has a child by mutation, or two of them
by crossover.
Once-for-All searches each limit anew; here each child has one, drawn from the sample, so that a front comes out.
"""

import numpy as np

from search.engine.log import TrialLog
from search.engine.objectives import values
from search.engine.problem import Problem
from search.engine.samplers.proposer import Proposer
from search.engine.trial import COMPLETE
from search.seeds import EVOLUTION
from spaces.population import crossover, mutate
from spaces.space import Codes

SAMPLE = 0.25  # of the population
RATE = 0.1  # genes that mutate
TRIES = 50  # at a child inside the budgets that is new


class Evolution(Proposer):
    """Proposes from trial `population` on; those before are random."""

    def __init__(self, problem: Problem, log: TrialLog, population: int, seed: int) -> None:
        self.problem, self.log, self.population, self.seed = problem, log, population, seed

    def propose(self, number: int) -> Codes:
        """The code for a trial, [genes]."""
        space, rng = self.problem.space, np.random.default_rng([self.seed, EVOLUTION, number])
        young = [t for t in self.log.trials[-2 * self.population :] if t.state == COMPLETE][-self.population :]
        if len(young) < 2:
            return self.problem.initial(rng, 1)[0]
        points, codes = values(young, self.problem.objectives), space.canonical(np.array([t.code for t in young]))
        for _ in range(TRIES):
            parents = np.stack([codes[self._best(rng, points)] for _ in range(2)])
            child = crossover(space, rng, parents[:1], parents[1:]) if rng.random() < 0.5 else parents[:1]
            if (child == parents[:1]).all():
                child = mutate(space, rng, child, RATE)
            new = space.decode(child[0]).id not in self.log.seen
            if new and not self.problem.excess(self.problem.columns(child))[0]:
                return child[0]
        return self.problem.initial(rng, 1)[0]

    def _best(self, rng: np.random.Generator, points: np.ndarray) -> int:
        """Of a sample, the best in the first objective of those no worse in the others than one of them."""
        sample = rng.choice(len(points), size=max(2, round(SAMPLE * len(points))), replace=False)
        limit = points[sample[0], 1:]
        within = sample[(points[sample, 1:] >= limit).all(1)]
        return int(within[points[within, 0].argmax()])
