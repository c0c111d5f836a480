"""What `ways.json` holds, and what its page says of it: hypervolumes, and who is beaten at equal latency."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from search.engine.front import hypervolume
from search.records import ArchId, Count, Milliseconds, Record, Seconds, Share

LEAST_ACCURACY, WORST_MS = 0.40, 0.124  # the corner of hypervolumes, in the milliseconds
# What ends the name of a way that has so many times the epochs and trials.
EFFORTS = {"": 1, "-double": 2, "-long": 4, "-tenfold": 10}
# GhostNet .25, .5, .75 and 1.0x in the issue's table, which bring other machines' milliseconds to its scale.
FAMILY_MS = {0.25: 0.057, 0.5: 0.072, 0.75: 0.083, 1.0: 0.064}


class Network(Record):
    """A network at the end of a way.

    Args:
        arch: None where it is no `Arch` of the space.
        start: accuracy on the search split with the weights that its training began with; None: fresh ones.
        accuracy: on the test split, at the end.
        predicted_ms: by the latency table; None where that doesn't know it.
        measured_ms: all final networks of a seed side by side; None until that is done.
    """

    name: str
    arch: ArchId | None = None
    code: list[int] | None = None
    macs: Count
    params: Count
    start: Share | None = None
    accuracy: Share
    predicted_ms: Milliseconds | None = None
    measured_ms: Milliseconds | None = None


class Way(Record):
    """What one way came to by one seed: its networks, and the CPU time of all that it did."""

    cpu_seconds: Seconds
    notes: str = ""
    networks: list[Network]


class Pair(Record):
    """One architecture from different starts, by equal steps: accuracy on the test split."""

    arch: ArchId
    code: list[int]
    macs: Count
    accuracy: dict[str, Share]


class Supernet(Record):
    """A supernet's networks as they come out, on the test split: the 26 that were trained fully elsewhere."""

    mean: Share
    kendall_tau: float
    residual_tau: float
    cpu_seconds: Seconds


class Table(Record):
    """The latency table that searches went by, how far it is off, and what brings its milliseconds to the issue's."""

    setting: str
    error: float
    kendall_tau: float
    scale: Annotated[float, Field(gt=0)]


class Parent(Record):
    """The trained network that all others are fitted to or taught by.

    Args:
        epochs: for which it was trained.
    """

    arch: ArchId
    epochs: Count = 60
    accuracy: Share
    macs: Count


Seed = str  # JSON has no other keys
Point = tuple[float, float]  # milliseconds, accuracy


class Ways(Record):
    """The whole study.

    Args:
        notes: sentences about how it was made.
    """

    schema_: Literal["ghostnas.ways/1"] = Field(default="ghostnas.ways/1", alias="schema")
    parent: Parent
    notes: list[str] = Field(default_factory=list)
    table: Table
    tables: dict[Seed, Table] = Field(default_factory=dict)  # that the searches of a seed went by
    # What brings measured milliseconds to the issue's; of `SEED-tenfold` where these ways were timed apart.
    scales: dict[Seed, float] = Field(default_factory=dict)
    ways: dict[str, dict[Seed, Way]] = Field(default_factory=dict)
    pairs: dict[Seed, list[Pair]] = Field(default_factory=dict)
    supernets: dict[Seed, dict[str, Supernet]] = Field(default_factory=dict)


def ending(way: str) -> str:
    """Of `EFFORTS`, the one that a way's name has."""
    return next((end for end in EFFORTS if end and way.endswith(end)), "")


def family_scale(ms: Mapping[float, float]) -> float:
    """The factor that brings a machine's milliseconds of the family, by width, nearest to the issue's."""
    ratios = [FAMILY_MS[width] / ms[width] for width in FAMILY_MS]
    return float(np.exp(np.mean(np.log(ratios))))


def points(content: Ways, way: str, seed: Seed) -> list[Point] | None:
    """(milliseconds on the issue's scale, test accuracy) of a way's networks; None where their latency isn't known.

    As measured, scaled by the family that was measured beside them; where that is not done yet, as predicted.
    """
    networks = content.ways[way][seed].networks
    scale = content.scales.get(f"{seed}{ending(way)}", content.scales.get(seed))
    if scale and all(n.measured_ms for n in networks):
        return [(scale * n.measured_ms, n.accuracy) for n in networks if n.measured_ms]
    if all(n.predicted_ms for n in networks):
        return [(content.table.scale * n.predicted_ms, n.accuracy) for n in networks if n.predicted_ms]
    return None


def scaled_hypervolume(
    points: Sequence[Point], least_accuracy: float = LEAST_ACCURACY, worst_ms: float = WORST_MS
) -> float:
    """Accuracy over the least times latency under the worst, as a share of the latter, that some point dominates."""
    inside = [(ms, accuracy) for ms, accuracy in points if ms < worst_ms and accuracy > least_accuracy]
    trials = [{"latency_ms": ms, "accuracy": accuracy - least_accuracy} for ms, accuracy in inside]
    return hypervolume(trials, worst_ms) / worst_ms


def margin(pruned: Point, others: Sequence[Point]) -> float | None:
    """By how much accuracy the best network that is no slower beats a pruned one; None where all are slower."""
    faster = [accuracy for ms, accuracy in others if ms <= pruned[0]]
    return max(faster) - pruned[1] if faster else None
