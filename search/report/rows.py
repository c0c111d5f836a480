"""The closing table of a run: fully trained networks, the chosen ones beside GhostNets."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from search.engine.baselines import BaselineCurve
from search.report.summary import NetworkKind, Summary, TrainedNetwork

BASELINES: dict[NetworkKind, str] = {"parent": "the parent", "family": "GhostNets in width"}
ALIKE = 0.05  # by how much less than the longest a training may be for all to count as equally long
UNKNOWN = (None, None)  # of a network that is compared with none


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRow:
    """A row of the closing table, for people and `--json`: a fully trained network.

    Args:
        test_accuracy: the mean over seeds.
        spread: the sample's standard deviation, where there are two seeds or more.
        resolution: side of the images that it works at, in pixels.
        peak_memory: bytes on the latency table's device, predicted.
        joules: of a run, with their standard error, where the system has a counter.
        points_at_equal_latency: how much more accurate a chosen network is than the baselines (GhostNets scaled in
            width, the parent), in points; None where it is faster than all of them.
        latency_saved_at_equal_accuracy: the share of their latency that it does without; None where none of them is as
            accurate, and where the fastest of them is more accurate.
    """

    network: str
    arch: str
    chosen: bool
    kind: NetworkKind
    test_accuracy: float
    seeds: int
    spread: float | None
    resolution: int
    macs: int
    params: int
    predicted_ms: float | None
    measured_ms: float | None
    peak_memory: int | None
    joules: float | None
    joules_error: float | None
    points_at_equal_latency: float | None
    latency_saved_at_equal_accuracy: float | None


def rows(summary: Summary) -> list[NetworkRow]:
    """The closing table."""
    compared = compare_chosen(summary.networks)
    return [
        NetworkRow(
            network=n.name,
            arch=n.arch.id,
            chosen=n.chosen,
            kind=n.kind,
            test_accuracy=n.accuracy,
            seeds=len(n.accuracies),
            spread=statistics.stdev(n.accuracies) if len(n.accuracies) > 1 else None,
            resolution=n.arch.resolution,
            macs=n.macs,
            params=n.params,
            predicted_ms=n.predicted_ms,
            measured_ms=n.measured_ms,
            peak_memory=n.peak_memory,
            joules=n.energy.joules if n.energy else None,
            joules_error=n.energy.error if n.energy else None,
            points_at_equal_latency=compared.get(n.name, UNKNOWN)[0],
            latency_saved_at_equal_accuracy=compared.get(n.name, UNKNOWN)[1],
        )
        for n in summary.networks
    ]


def compare_chosen(networks: Sequence[TrainedNetwork]) -> dict[str, tuple[float | None, float | None]]:
    """Each chosen network beside the baselines, by measured latency: points of accuracy at equal latency, and the share
    of latency that it does without at equal accuracy. Empty where no baseline was measured."""
    timed = [(n, n.measured_ms) for n in networks if n.measured_ms]  # a file may say 0, which compares with nothing
    baselines = [(ms, n.accuracy) for n, ms in timed if n.kind in BASELINES]
    if not baselines:
        return {}
    curve = BaselineCurve(baselines)
    return {
        n.name: (_known(100 * curve.gain(ms, n.accuracy)), _known(curve.saving(ms, n.accuracy)))
        for n, ms in timed
        if n.chosen
    }


def comparison_text(summary: Summary) -> str:
    """What `compare_chosen` says, as a sentence; empty where nothing can be compared."""
    compared = compare_chosen(summary.networks)
    if not compared:
        return ""
    error = max(100 * n.error for n in summary.networks)
    by = "" if all(len(n.accuracies) > 1 for n in summary.networks) else ", by the test images alone"
    kinds = {n.kind for n in summary.networks if n.measured_ms}
    baselines = [text for kind, text in BASELINES.items() if kind in kinds]
    most = max(n.accuracy for n in summary.networks if n.measured_ms and n.kind in BASELINES)
    best = {n.name for n in summary.networks if n.accuracy > most}
    slowest = max(n.measured_ms for n in summary.networks if n.measured_ms and n.kind in BASELINES)
    beyond = {n.name for n in summary.networks if n.measured_ms and n.measured_ms > slowest}
    verdicts = "; ".join(f"{name} {_verdict(*each, name in best, name in beyond)}" for name, each in compared.items())
    epochs = [n.epochs for n in summary.networks if n.measured_ms and (n.chosen or n.kind == "family")]
    alike, unlike = "", f" They were trained for {min(epochs):.3g} to {max(epochs):.3g} epochs: a part of what "
    "lies between them is that."
    if min(epochs) >= (1 - ALIKE) * max(epochs):
        alike, unlike = " that are trained alike" if "family" in kinds else "", ""
    return (
        f"Beside {' and '.join(baselines)}{alike}, by measured latency: {verdicts}.{unlike} Standard error of an "
        f"accuracy{by}: {error:.1f} points."
    )


def _verdict(points: float | None, saved: float | None, is_most_accurate: bool, is_slowest: bool) -> str:
    if is_slowest and points is not None:  # there is none of equal latency, nor of equal accuracy that isn't faster
        return f"{points:+.1f} points beside the best of them, and slower than all"
    latency = "faster than all of them" if points is None else f"{points:+.1f} points at equal latency"
    if saved is None:
        return (
            f"{latency}, {'more accurate than all' if is_most_accurate else 'less accurate than the fastest'} of them"
        )
    if abs(saved) < 0.005:
        return f"{latency}, no less time at equal accuracy"
    return f"{latency}, {abs(saved):.0%} {'less' if saved > 0 else 'more'} time at equal accuracy"


def _known(value: float) -> float | None:
    return value if isfinite(value) else None
