"""Budgets: limits on what a network costs. A budget is several constraints at once; a search may have several, and
gives a front for each. What can be counted: `spaces.quantities`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from search.engine.objectives import Columns, LatencyObjective
from spaces.errors import SpaceError
from spaces.quantities import Window
from spaces.space import Codes, Space


class Constraint(Protocol):
    """A rule on the columns that are known before a network is evaluated."""

    def excess(self, columns: Columns) -> NDArray[np.float64]:
        """[n] how far each network breaks it, as a share of the bound; 0 where it is met."""

    def check(self, space: Space) -> None:
        """Raises:
        SpaceError: no network meets it; names the space's range and the nearest network.
        """


@dataclass(frozen=True, slots=True)
class Within:
    """A window of multiply-adds, of parameters or of memory."""

    window: Window

    def excess(self, columns: Columns) -> NDArray[np.float64]:
        return self.window.excess(columns[self.window.quantity])

    def check(self, space: Space) -> None:
        self.window.check(space)


@dataclass(frozen=True, slots=True)
class LatencyBudget:
    """A bound on the upper end of a predicted latency.

    Args:
        nearest: the code of the least upper end, such as `Predictor.least_high`.
    """

    latency: LatencyObjective
    high_ms: float
    nearest: Callable[[], Codes]

    def excess(self, columns: Columns) -> NDArray[np.float64]:
        return np.maximum(columns[self.latency.high] / self.high_ms - 1, 0.0)

    def check(self, space: Space) -> None:
        fastest = self.nearest()
        least = float(self.latency.predict(fastest[None]).high_ms[0])
        if least > self.high_ms:
            raise SpaceError(
                f"no network of space {space.name} was found that is predicted at or below {self.high_ms:g} ms: the "
                f"nearest feasible one, {space.decode(fastest).id}, takes up to {_rounded_up(least):.3g} ms"
            )


def _rounded_up(ms: float) -> float:
    """Three digits of it, which are a budget that it is inside of."""
    unit = 10.0 ** (math.floor(math.log10(ms)) - 2)
    return math.ceil(ms / unit) * unit


Budget = tuple[Constraint, ...]  # all of them hold
Budgets = dict[str, Budget]  # by what the user called them; a network needs to meet one
NONE: Budgets = {"all": ()}


def excess(budget: Budget, columns: Columns) -> NDArray[np.float64]:
    """[n] how far each network is outside a budget, summed over its constraints; 0 inside."""
    count = len(next(iter(columns.values())))
    return sum((constraint.excess(columns) for constraint in budget), np.zeros(count))


def combine_budgets(*groups: dict[str, Constraint]) -> Budgets:
    """A budget for each combination of one constraint a group: {60M, 80M} and {8ms} -> {"60M 8ms", "80M 8ms"}."""
    some = [group for group in groups if group]
    combined = product(*(group.items() for group in some))
    return {" ".join(name for name, _ in parts): tuple(c for _, c in parts) for parts in combined} if some else NONE


def check_budgets(budgets: Budgets, space: Space) -> None:
    """Raises:
    SpaceError: one of them is out of the space's reach.
    """
    for budget in budgets.values():
        for constraint in budget:
            constraint.check(space)


def windows(budget: Budget) -> Sequence[Window]:
    """The windows among a budget's constraints, from which it is sampled."""
    return [constraint.window for constraint in budget if isinstance(constraint, Within)]
