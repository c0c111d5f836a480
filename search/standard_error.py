"""How far a measured accuracy may be off the expected one."""

from collections.abc import Sequence
from statistics import mean, stdev


def standard_error(accuracies: Sequence[float], test_images: int) -> float:
    """One standard error of the mean accuracy of a network's seeds: by how they scatter where there are several, and
    by the number of test images where there is one."""
    if len(accuracies) > 1:
        return stdev(accuracies) / len(accuracies) ** 0.5
    accuracy = mean(accuracies)
    return (accuracy * (1 - accuracy) / test_images) ** 0.5
