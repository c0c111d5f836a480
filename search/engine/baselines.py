"""What baselines, such as a family scaled in width, reach at any latency: what a found network is compared with."""

from collections.abc import Iterable

import numpy as np


class BaselineCurve:
    """Accuracy over cost of the baselines that no cheaper one beats, on straight lines over the cost's logarithm.

    Below the cheapest baseline there is nothing to compare with, in cost as in accuracy; above the dearest the curve is
    level.

    Args:
        points: of each baseline its cost (a latency, multiply-adds; above 0, as all costs here) and its accuracy.
    """

    def __init__(self, points: Iterable[tuple[float, float]]) -> None:
        best: list[tuple[float, float]] = []
        for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
            if not best or accuracy > best[-1][1]:
                best.append((cost, accuracy))
        self.costs = np.array([cost for cost, _ in best])  # rising, as are
        self.accuracies = np.array([accuracy for _, accuracy in best])

    def accuracy_at(self, cost: float) -> float:
        """The accuracy that the baselines have at a cost; not-a-number below the cheapest."""
        if not len(self.costs):
            return float("nan")
        return float(np.interp(np.log(cost), np.log(self.costs), self.accuracies, left=np.nan))

    def cost_at(self, accuracy: float) -> float:
        """The cost at which the baselines have an accuracy; not-a-number where none has so much, and where the cheapest
        has more."""
        if not len(self.costs):
            return float("nan")
        return float(np.exp(np.interp(accuracy, self.accuracies, np.log(self.costs), left=np.nan, right=np.nan)))

    def gain(self, cost: float, accuracy: float) -> float:
        """How much more accurate than the baselines of equal cost a network is."""
        return accuracy - self.accuracy_at(cost)

    def saving(self, cost: float, accuracy: float) -> float:
        """The share of the cost of equally accurate baselines that a network does without; negative where it needs
        more."""
        return 1 - cost / self.cost_at(accuracy)
