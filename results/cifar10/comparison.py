"""Found against the family against luck: figures with intervals over seeds."""

from collections.abc import Callable, Iterable
from itertools import zip_longest
from typing import Any

import numpy as np

from search.engine.baselines import BaselineCurve
from search.engine.front import hypervolume
from search.report.summary import Summary, TrainedNetwork
from spaces.quantities import parse_windows

RESAMPLES = 2000
Draw = dict[str, float]  # accuracy of each network, of one resampling of its seeds


def seed_spread(networks: list[TrainedNetwork]) -> tuple[float, int]:
    """Standard deviation of accuracy over seeds, all networks' pooled (three seeds alone say little of one network's),
    and its degrees of freedom."""
    squares = sum(float(np.square(np.array(n.accuracies) - n.accuracy).sum()) for n in networks)
    degrees = sum(len(n.accuracies) - 1 for n in networks)
    return float(np.sqrt(squares / max(degrees, 1))), degrees


def resampled(networks: list[TrainedNetwork], rng: np.random.Generator) -> list[Draw]:
    """Mean accuracies of every network as they came, then as other seeds would give them: Student's t about the mean,
    by the pooled spread."""
    spread, degrees = seed_spread(networks)
    draws = [{n.name: n.accuracy for n in networks}]
    for _ in range(RESAMPLES):
        errors = spread * rng.standard_t(max(degrees, 1), len(networks))
        draws.append(
            {n.name: n.accuracy + e / np.sqrt(len(n.accuracies)) for n, e in zip(networks, errors, strict=True)}
        )
    return draws


def interval(draws: list[Draw], statistic: Callable[[Draw], float]) -> dict[str, float] | None:
    """A figure with its 95 % interval over seeds; None where there is none."""
    value, *others = (statistic(draw) for draw in draws)
    if not np.isfinite(value):
        return None
    low, high = np.nanpercentile(others, [2.5, 97.5])
    return {"value": value, "low": float(low), "high": float(high)}


def curve(family: list[TrainedNetwork], key: str, draw: Draw) -> BaselineCurve:
    """The family's, by its `key` (measured_ms or macs)."""
    return BaselineCurve((getattr(n, key), draw[n.name]) for n in family)


def volume(networks: list[TrainedNetwork], draw: Draw, worst_ms: float) -> float:
    points = [{"accuracy": draw[n.name], "latency_ms": n.measured_ms or float("nan")} for n in networks]
    return hypervolume(points, worst_ms)


def compare_network(
    n: TrainedNetwork,
    family: list[TrainedNetwork],
    random_network: TrainedNetwork | None,
    draws: list[Draw],
    budget: str,
) -> dict[str, Any]:
    """One found network beside the family, beside those of it that the same budget admits, and beside a random one of
    its multiply-adds."""
    at, window = n.measured_ms or float("nan"), parse_windows(budget)[budget]
    within = [other for other in family if other.macs <= window.high]
    return {
        "network": n.name,
        "budget": budget,
        "points_at_equal_latency": interval(draws, lambda d: gain(n, family, "measured_ms", d)),
        "latency_saved_at_equal_accuracy": interval(draws, lambda d: saved(n, family, d)),
        "within_budget": {
            "family": [other.name for other in within],
            "points_at_equal_latency": interval(draws, lambda d: gain(n, within, "measured_ms", d)),
            "latency_saved_at_equal_accuracy": interval(draws, lambda d: saved(n, within, d)),
        },
        "points_at_equal_macs": interval(draws, lambda d: gain(n, family, "macs", d)),
        "points_over_a_random_network": random_network
        and interval(draws, lambda d: 100 * (d[n.name] - d[random_network.name])),
        "its_latency_of_the_random_one": random_network and at / (random_network.measured_ms or float("nan")),
    }


def saved(n: TrainedNetwork, family: list[TrainedNetwork], draw: Draw) -> float:
    """The share of the family's latency that a network needs less, at an equal accuracy."""
    return curve(family, "measured_ms", draw).saving(n.measured_ms or float("nan"), draw[n.name])


def gain(n: TrainedNetwork, family: list[TrainedNetwork], key: str, draw: Draw) -> float:
    """Points of accuracy over the family at an equal `key`."""
    return 100 * curve(family, key, draw).gain(getattr(n, key), draw[n.name])


def compare(summary: Summary) -> dict[str, Any]:
    """Found against the family against luck."""
    kinds = {kind: [n for n in summary.networks if n.kind == kind] for kind in ("chosen", "family", "random")}
    chosen, family, random_networks = kinds.values()
    assert summary.recipe
    budgets = summary.recipe.search.flops_budget
    draws = resampled(summary.networks, np.random.default_rng(0))
    worst = 1.05 * max(n.measured_ms or 0.0 for n in summary.networks)
    pairs = list(zip(chosen, random_networks, strict=False))
    return {
        "found": [
            compare_network(n, family, random_network, draws, tightest(n, budgets))
            for n, random_network in zip_longest(chosen, random_networks[: len(chosen)], fillvalue=None)
            if n
        ],
        "mean_points_at_equal_macs": interval(draws, lambda d: mean(gain(n, family, "macs", d) for n in chosen)),
        "mean_points_over_random": interval(draws, lambda d: mean(100 * (d[n.name] - d[r.name]) for n, r in pairs)),
        "seed_spread": seed_spread(summary.networks)[0],
        "hypervolume": {kind: volume_interval(group, draws, worst) for kind, group in kinds.items() if group}
        | {"corner": {"accuracy": 0.0, "latency_ms": worst}},
    }


def tightest(n: TrainedNetwork, budgets: str) -> str:
    """The first of the budgets, from the tightest on, that admits a network."""
    return next(text for text, w in sorted(parse_windows(budgets).items(), key=lambda b: b[1].high) if n.macs <= w.high)


def mean(values: Iterable[float]) -> float:
    """Of those that exist; not-a-number of none."""
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def volume_interval(networks: list[TrainedNetwork], draws: list[Draw], worst_ms: float) -> dict[str, float] | None:
    return interval(draws, lambda d: volume(networks, d, worst_ms))
