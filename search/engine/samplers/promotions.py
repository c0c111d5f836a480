"""Which networks of a ladder are worth their next, dearer evaluation: by what the front gains from it, for its price.

What networks are expected to reach on the last rung makes a front. When one of them is evaluated again, that
expectation moves, up or down. If it rises, the front rises with it; if it falls, others of the front are still there.
So the front gains on average, and most by a network that would be on it and of which little is known. This is the
knowledge gradient (Frazier et al., 2008), of a hypervolume, and of several evaluations of different prices, as
multi-fidelity optimisation has it. A network that is new competes with these by its expected improvement for the price
of the first evaluation.
"""

import numpy as np
from numpy.typing import NDArray

from search.engine import budgets
from search.engine.ladder import Expected, Ladder
from search.engine.objectives import ACCURACY
from search.engine.problem import Problem
from search.engine.samplers.hypervolume_improvement import HypervolumeImprovement
from search.engine.samplers.surrogate import NUM_SAMPLES, QUANTILES
from search.engine.trial import Trial

Floats = NDArray[np.float64]


class Promotions:
    """Evaluated networks, and what another evaluation of each is worth: the front's gain for the price of a first one.

    Args:
        trials: evaluated networks.
        rows: the same, with the accuracy that each is expected to reach.

    Attributes:
        codes: theirs, canonical, [n, genes].
        worth: of the next evaluation of each, [n]; 0 where there is none.
    """

    def __init__(self, problem: Problem, trials: list[Trial], rows: list[Trial], rng: np.random.Generator) -> None:
        assert isinstance(problem.evaluate, Ladder) and problem.evaluate.prices
        first, *_ = prices = np.array([*problem.evaluate.prices, np.inf])  # nothing follows the last rung
        heights = [len(trial.rungs or ()) for trial in trials]
        expected = Expected.of(trials, len(prices) - 1)
        self.codes = problem.space.canonical(np.array([trial.code for trial in trials]))
        self.worth = _gains(problem, rows, expected, rng) * first / prices[heights]

    def better_than(self, improvement: float) -> tuple[int, ...] | None:
        """The code of the network whose next evaluation is worth most, once, if it is worth more than the first
        evaluation of a network with this expected improvement."""
        best = int(self.worth.argmax())
        if self.worth[best] <= improvement:
            return None
        self.worth[best] = 0.0
        return tuple(self.codes[best].tolist())


def _gains(problem: Problem, rows: list[Trial], expected: Expected, rng: np.random.Generator) -> Floats:
    """What the fronts inside the budgets gain from another evaluation of each network, [n]."""
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0].metrics}
    columns[ACCURACY.name] = expected.accuracy
    samples = expected.accuracy + QUANTILES[:, None] * expected.deviation
    gains = np.zeros(len(rows))
    for budget in problem.budgets.values():
        inside = np.flatnonzero(budgets.excess(budget, columns) == 0)
        if len(inside):
            mine = {name: values[inside] for name, values in columns.items()}
            improvement = HypervolumeImprovement(problem.objectives, [rows[k] for k in inside], NUM_SAMPLES, rng)
            gains[inside] += improvement.by_measuring_again(mine, {ACCURACY.name: samples[:, inside]})
    return gains
