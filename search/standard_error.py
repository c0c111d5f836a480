"""How far a measured accuracy may be off the expected one."""

from collections.abc import Sequence
from statistics import mean, variance


def standard_error(accuracies: Sequence[float], test_images: int) -> float:
    """One standard error of the mean accuracy of a network's seeds: by the number of test images, which all seeds
    share, and by how seeds scatter where there are several. That of images is half of Wilson's interval at one standard
    deviation (1927): all of 359 right is not without error."""
    accuracy, several = mean(accuracies), len(accuracies) > 1
    of_images = (accuracy * (1 - accuracy) + 1 / (4 * test_images)) / test_images / (1 + 1 / test_images) ** 2
    of_seeds = variance(accuracies) / len(accuracies) if several else 0.0
    return (of_images + of_seeds) ** 0.5
