"""What an evaluation buys: ways to judge networks, simulated on the benchmark at equal compute.

A way draws the benchmark's networks in a random order and evaluates them until its time is over. It takes four along
the front of what it saw (accuracy on the search split, latency) and trains these finally; what it did of that already
it needn't do again. It is judged by the hypervolume of the four's test accuracies and latencies, beside the four that
would be best. The orders are the same for all ways: no sampler counts, only what is known of a network for how much.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import moocore
import numpy as np

from search.accuracy.ghostbench import BenchmarkNetwork, BenchmarkRun, format_evaluator
from search.engine.choose import choose
from search.engine.ladder import climbs, on_rung
from search.engine.objectives import USUAL
from search.engine.trial import COMPLETE, Trial

CHOSEN, ORDERS = 4, 30
FLOOR = 0.4  # accuracy from which hypervolume counts, as in `results/weights/`


@dataclass(frozen=True)
class Rung:
    """An evaluation: a training of the benchmark, or the first epochs of one; `macs` is for nothing."""

    evaluator: str
    epochs: int | None = None

    def accuracy(self, network: BenchmarkNetwork) -> float:
        """What it says of a network."""
        if self.evaluator == "macs":
            return network.macs / 1e9
        return run_of(network, self.evaluator).search[-1 if self.epochs is None else self.epochs - 1]

    def seconds(self, network: BenchmarkNetwork, before: "Rung | None" = None) -> float:
        """What it takes, a look at the search split included. It goes on from the rung before if that is of the same
        training."""
        if self.evaluator == "macs":
            return 0.0
        run = run_of(network, self.evaluator)
        if not run.epochs:
            return run.seconds + run.look_seconds
        done = (before.epochs or 0) if before and before.evaluator == self.evaluator else 0
        return run.seconds * ((self.epochs or run.epochs) - done) / run.epochs + run.look_seconds


def run_of(network: BenchmarkNetwork, evaluator: str) -> BenchmarkRun:
    """A network's training of that name, by the first seed."""
    return next(run for run in network.runs if run.seed == 0 and format_evaluator(run) == evaluator)


@dataclass(frozen=True)
class Judging:
    """A way to judge networks: its rungs, and the training that those get which it takes."""

    name: str
    rungs: tuple[Rung, ...]
    final: str

    def __call__(self, networks: Sequence[BenchmarkNetwork], seconds: float) -> list[BenchmarkNetwork]:
        """The networks that are taken by who sees them in that order, and has so many seconds with the final trainings;
        none where these are too few for a single one."""
        judged_finally = self.rungs[-1] == Rung(self.final)
        final = {n.arch: run_of(n, self.final).seconds for n in networks}
        reserve = 0.0 if judged_finally else CHOSEN * float(np.mean([*final.values()]))
        known: list[Trial] = []
        spent = 0.0
        for network in networks:
            accuracies: list[float] = []
            for k, rung in enumerate(self.rungs):
                price = rung.seconds(network, self.rungs[k - 1] if k else None)
                if spent + price + reserve > seconds:
                    break
                spent += price
                accuracies.append(rung.accuracy(network))
                metrics = {"accuracy": accuracies[-1], "latency_ms": latency(network)}
                rivals = [row for trial in known if (row := on_rung(trial, k))]
                if k + 1 < len(self.rungs) and not climbs(metrics, rivals, USUAL):
                    break
            if not accuracies:
                break
            known.append(_trial(network, accuracies))
        by_arch = {network.arch: network for network in networks}
        return [by_arch[trial.arch] for trial in choose(known, CHOSEN)]


def latency(network: BenchmarkNetwork) -> float:
    """Predicted milliseconds; where the benchmark has none, multiply-adds stand in."""
    return network.macs / 1e6 if network.latency_ms is None else network.latency_ms


def _trial(network: BenchmarkNetwork, accuracies: Sequence[float]) -> Trial:
    rungs = [{"evaluate": str(k), "accuracy": value, "seconds": 0.0} for k, value in enumerate(accuracies)]
    known = {"macs": network.macs, "params": network.params, "latency_ms": latency(network), "rungs": rungs}
    about = {"number": 0, "state": COMPLETE, "excess": 0.0, "seconds": 0.0, "backend": {}}
    return Trial.model_validate(
        {**about, **known, "arch": network.arch, "code": network.code, "accuracy": accuracies[-1]}
    )


WAYS = (
    Judging("multiply-adds", (Rung("macs"),), "tuned:3"),
    Judging("transplanted, as it is", (Rung("tuned:0"),), "tuned:3"),
    Judging("transplanted, tuned 1 epoch", (Rung("tuned:1"),), "tuned:3"),
    Judging("transplanted, tuned 3 epochs", (Rung("tuned:3"),), "tuned:3"),
    Judging("**ladder**: as it is, 1 epoch, 3 epochs", (Rung("tuned:0"), Rung("tuned:1"), Rung("tuned:3")), "tuned:3"),
    Judging("from fresh weights, 5 epochs", (Rung("trained:5"),), "trained:5"),
    Judging(
        "ladder of fresh weights: after 1, 2 and 5 of 5 epochs",
        (Rung("trained:5", 1), Rung("trained:5", 2), Rung("trained:5")),
        "trained:5",
    ),
)
NEEDED = ("tuned:0", "tuned:1", "tuned:3", "trained:5")


def complete(networks: Sequence[BenchmarkNetwork], needed: Sequence[str] = NEEDED) -> list[BenchmarkNetwork]:
    """The networks that have all these trainings, by the first seed: by default those that ways are simulated with."""
    return [n for n in networks if {*needed} <= {format_evaluator(run) for run in n.runs if run.seed == 0}]


def volume(networks: Sequence[BenchmarkNetwork], evaluator: str, worst: float) -> float:
    """Hypervolume of test accuracy over `FLOOR` times latency below `worst`."""
    if not networks:
        return 0.0
    points = [[run_of(n, evaluator).test[-1], -latency(n)] for n in networks]
    return float(moocore.hypervolume(np.array(points), ref=[FLOOR, -worst], maximise=True))


def best_four(networks: Sequence[BenchmarkNetwork], evaluator: str, worst: float) -> float:
    """The hypervolume of the best four networks, taken one by one."""
    taken: list[BenchmarkNetwork] = []
    for _ in range(min(CHOSEN, len(networks))):
        left = [n for n in networks if n not in taken]
        taken.append(max(left, key=lambda n: volume([*taken, n], evaluator, worst)))
    return volume(taken, evaluator, worst)


@cache
def _orders(count: int) -> list[list[int]]:
    return [np.random.default_rng(seed).permutation(count).tolist() for seed in range(ORDERS)]


def simulate(networks: Sequence[BenchmarkNetwork], minutes: Sequence[float]) -> dict[str, list[list[float]]]:
    """For each way, budget by budget, what its choices reach of the best four's hypervolume, an order each."""
    worst = max(map(latency, networks))
    best = max(best_four(networks, way.final, worst) for way in WAYS)
    return {
        way.name: [
            [
                volume(way([networks[k] for k in order], 60 * budget), way.final, worst) / best
                for order in _orders(len(networks))
            ]
            for budget in minutes
        ]
        for way in WAYS
    }
