"""Predictor-guided search: a model is fitted to the expensive objectives of the networks evaluated so far, thousands of
candidates are evolved on its predictions, and those with the largest expected hypervolume improvement are evaluated.
Then the model is fitted again. On a ladder, networks that were evaluated compete with these for their next evaluation.

A batch depends on the trials before it and the seed alone, so a resumed search proposes what an unbroken one does.
"""

import numpy as np
from numpy.typing import NDArray

from search.engine import budgets
from search.engine.front import layers
from search.engine.ladder import at_the_top
from search.engine.log import TrialLog
from search.engine.problem import Problem
from search.engine.samplers.hypervolume_improvement import HypervolumeImprovement
from search.engine.samplers.promotions import Promotions
from search.engine.samplers.proposer import Proposer
from search.engine.samplers.surrogate import NUM_SAMPLES, Surrogate
from search.engine.trial import Trial, evaluated
from search.seeds import GUIDED
from spaces.population import crossover, mutate
from spaces.space import Codes, Space

Floats = NDArray[np.float64]
POOL, GENERATIONS = 500, 6  # candidates that are kept, and how often each has a child
SHARE, LEAST = 8, 8  # a batch is this part of the trials before it, and at least so many
ELITE = 20  # networks of the fronts, and of those behind them, that have children
EXPLORE_EVERY = 3  # one in so many is a child of the front that no prediction chose


class Guided(Proposer):
    """Proposes from trial `population` on; those before are random."""

    def __init__(self, problem: Problem, log: TrialLog, population: int, seed: int) -> None:
        self.problem, self.log, self.seed = problem, log, seed
        known = problem.columns(np.zeros((1, len(problem.space.genes)), dtype=np.int64))
        self.expensive = [o.name for o in problem.objectives if o.name not in known]
        self.start, self.end = 0, population  # of the batch in hand
        self.batch = np.empty((0, len(problem.space.genes)), dtype=np.int64)
        self.proposed: set[tuple[int, ...]] = set()

    def propose(self, number: int) -> Codes:
        """The code for trial `number`, [genes]; numbers never fall."""
        while self.end <= number:
            self.start, self.end = self.end, self.end + max(LEAST, self.end // SHARE)
            self.batch = self.batch[:0]
        if not len(self.batch):
            self.batch = self._propose(self.end - self.start)
        return self.batch[number - self.start]

    def settled(self, number: int) -> Codes:
        return self.batch[number - self.start :] if number >= self.start else self.batch[:0]

    def _propose(self, count: int) -> Codes:
        """A batch of new networks, from what is known of the trials before it: [count, genes]"""
        space, rng = self.problem.space, np.random.default_rng([self.seed, GUIDED, self.start])
        before = self.log.trials[: self.start]
        trials = evaluated(before)
        rows = at_the_top(trials)
        seen = self.proposed | set(map(tuple, _codes(space, before).tolist()))
        batch: list[tuple[int, ...]] = []
        if rows:
            codes = _codes(space, rows)
            processes = {
                name: Surrogate(space, codes, np.array([t[name] for t in rows]), rng) for name in self.expensive
            }
            optimizer = _AcquisitionOptimizer(self.problem, rows, processes, rng)
            climbing = self.problem.sampler_promotes
            promotions = Promotions(self.problem, trials, rows, rng) if climbing else None
            batch = optimizer.best(count - count // EXPLORE_EVERY, seen, promotions)
            batch += optimizer.explore(count - len(batch), seen.union(batch))
        if len(batch) < count:  # the budget may hold little that is new
            batch += map(tuple, self.problem.initial(rng, count - len(batch)).tolist())
        self.proposed |= set(batch)
        return np.array([batch[k] for k in rng.permutation(count)])


def _first(groups: list[list[Trial]], count: int) -> list[Trial]:
    """Whole groups, until there are so many."""
    taken: list[Trial] = []
    for group in groups:
        if len(taken) >= count:
            break
        taken += group
    return taken


def _codes(space: Space, trials: list[Trial]) -> Codes:
    """[n, genes]: canonical."""
    return space.canonical(np.array([t.code for t in trials], dtype=np.int64).reshape(-1, len(space.genes)))


class _AcquisitionOptimizer:
    """Evolution on predictions, for one batch."""

    def __init__(
        self,
        problem: Problem,
        rows: list[Trial],
        processes: dict[str, Surrogate],
        rng: np.random.Generator,
    ) -> None:
        self.problem, self.processes, self.rng = problem, processes, rng
        columns = {name: np.array([t[name] for t in rows]) for name in rows[0].metrics}
        self.improvements: list[tuple[budgets.Budget, HypervolumeImprovement]] = []
        elite: list[Codes] = []
        for budget in problem.budgets.values():
            inside = np.flatnonzero(budgets.excess(budget, columns) == 0)
            if len(inside):
                mine = [rows[k] for k in inside]
                self.improvements.append((budget, HypervolumeImprovement(problem.objectives, mine, NUM_SAMPLES, rng)))
                elite.append(_codes(problem.space, _first(layers(mine, problem.objectives), ELITE)))
        self.elite = np.concatenate(elite)

    def best(self, count: int, seen: set[tuple[int, ...]], promotions: Promotions | None) -> list[tuple[int, ...]]:
        """At most `count` networks with an expected improvement, none of them seen; or among them some that were, which
        are worth their next evaluation."""
        pool = np.concatenate(
            [self.elite, self._children(self.elite, POOL // 2), self.problem.initial(self.rng, POOL // 2)]
        )
        tried: set[tuple[int, ...]] = set()
        kept, contributions = (
            pool[:0],
            [np.empty((len(improvement.reached), 0)) for _, improvement in self.improvements],
        )
        for _ in range(GENERATIONS):
            new = [code for code in dict.fromkeys(map(tuple, pool.tolist())) if code not in tried]
            tried.update(new)
            if new:
                codes = np.array(new)
                fresh = np.array([code not in seen for code in new])
                kept = np.concatenate([kept, codes])
                contributions = [
                    np.concatenate(pair, 1)
                    for pair in zip(contributions, self._contributions(codes, fresh), strict=True)
                ]
            order = np.argsort(-self._improvement(contributions), kind="stable")[:POOL]
            kept, contributions = kept[order], [contribution[:, order] for contribution in contributions]
            pool = self._children(np.concatenate([kept, self.elite]), POOL)
        chosen = []
        for _ in range(min(count, len(kept))):
            improvement = self._improvement(contributions)
            first = int(improvement.argmax())
            if promotions and (promoted := promotions.better_than(improvement[first])):
                chosen.append(promoted)
                continue
            if improvement[first] <= 0:
                break
            chosen.append(tuple(kept[first].tolist()))
            for (_, each), contribution in zip(self.improvements, contributions, strict=True):
                each.add(contribution[:, first])
        return chosen

    def explore(self, count: int, seen: set[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """At most `count` children of the fronts' networks inside the budgets, none of them seen, chosen without the
        models, which may underrate good networks."""
        codes = self._children(self.elite, POOL)
        inside = codes[self.problem.excess(self.problem.columns(codes)) == 0]
        return [code for code in dict.fromkeys(map(tuple, inside.tolist())) if code not in seen][:count]

    def _children(self, parents: Codes, count: int) -> Codes:
        space, rng = self.problem.space, self.rng
        a, b = parents[rng.integers(len(parents), size=(2, count))]
        return mutate(space, rng, crossover(space, rng, a, b), 1 / len(space.genes))

    def _contributions(self, codes: Codes, fresh: NDArray[np.bool_]) -> list[Floats]:
        """For each budget, [directions, n]; 0 where a network is outside or was seen."""
        columns = self.problem.columns(codes)
        samples = {name: process.predict(codes) for name, process in self.processes.items()}
        return [
            np.where(fresh & (budgets.excess(budget, columns) == 0), improvement.contribution(columns, samples), 0.0)
            for budget, improvement in self.improvements
        ]

    def _improvement(self, contributions: list[Floats]) -> Floats:
        return sum(
            (g.expected(w) for (_, g), w in zip(self.improvements, contributions, strict=True)),
            np.zeros(contributions[0].shape[1]),
        )
