"""Warnings about a training's result: a schedule that a time box cut short, or an accuracy at chance level."""

from collections.abc import Sequence

from torch import Tensor

from search.data.labels import most_frequent_share
from search.progress import warn
from search.training.known_images import KnownImages
from search.training.records import Outcome

LEAST_SHARE = 0.1  # of a schedule's steps
LEAST_STEPS = 100  # where a tenth of its schedule has more
STANDARD_ERRORS = 2.0  # above guessing
LEAST_DIFFERENCE = 0.1  # of means, in deviations, and of deviations, relatively, that a network may feel


def schedule_warnings(training: Outcome) -> list[str]:
    """A warning where a training ended before it had a tenth of its steps, or `LEAST_STEPS`; none otherwise."""
    if training.ended == "schedule" or training.steps >= min(LEAST_SHARE * training.planned_steps, LEAST_STEPS):
        return []
    return [
        f"a {training.ended} left {training.steps} of the schedule's {training.planned_steps} steps, which trains next "
        "to nothing"
    ]


def chance_warnings(accuracy: float, labels: Tensor, what: str) -> list[str]:
    """A warning where an accuracy is within two standard errors of what the most frequent class alone would give.

    Args:
        accuracy: in [0, 1], on the images that have these labels.
        labels: [N], int64.
        what: the accuracy that this is, for the message.
    """
    guess = most_frequent_share(labels)
    error = (guess * (1 - guess) / len(labels)) ** 0.5
    if accuracy > guess + STANDARD_ERRORS * error:
        return []
    return [
        f"{what}, {accuracy:.2%} on {len(labels)} images, is no better than chance ({guess:.2%}, "
        f"standard error {100 * error:.2f} points)"
    ]


def tuning_warnings(before: float, after: float, images: int) -> list[str]:
    """A warning where a network that was given got worse, by more than a standard error, as it was trained further.

    Args:
        before, after: accuracies in [0, 1], on so many images.
    """
    error = (before * (1 - before) / images) ** 0.5
    if after >= before - error:
        return []
    return [
        f"training it further took the given network from {before:.2%} to {after:.2%} of {images} held-out images: "
        "`tune = false` keeps it as it is, a longer training or a lower `lr` may improve it"
    ]


def normalisation_warnings(known: KnownImages, mean: Sequence[float], std: Sequence[float]) -> list[str]:
    """A warning where a network that is taken as it is was trained on images that were normalised otherwise.

    Args:
        mean, std: of the data's channels, by which it is shown these.
    """
    if not known.mean or not known.std or len(known.mean) != len(mean):
        return []
    shifts = [abs(theirs - ours) / by for theirs, ours, by in zip(known.mean, mean, known.std, strict=True)]
    scales = [abs(ours / theirs - 1) for theirs, ours in zip(known.std, std, strict=True)]
    if max(*shifts, *scales) <= LEAST_DIFFERENCE:
        return []
    theirs, ours = (", ".join(f"{value:.2f}" for value in (*m, *s)) for m, s in ((known.mean, known.std), (mean, std)))
    return [
        f"the given network was trained on images of mean and deviation {theirs}, and is shown such of {ours}, as the "
        "data has them: `tune = true` adapts it"
    ]


def print_warnings(name: str, doubts: Sequence[str]) -> None:
    """Prints a result's warnings on the terminal."""
    for doubt in doubts:
        warn(f"{name}: {doubt}")
