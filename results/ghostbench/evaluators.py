"""What an evaluation buys: ways to judge networks, simulated on the benchmark at equal compute.

A way draws the benchmark's networks in a random order, evaluates them until its time is over, takes four along the
front of what it saw (accuracy on the search split, latency) and trains these finally; what it did of that already it
needn't do again. It is judged by the hypervolume of the four's test accuracies, beside the best four that any choice
could have had. The order is the same for all ways, so no sampler counts, only what is known of a network for how much.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from search.accuracy.ghostbench import BenchmarkNetwork, BenchmarkRun, GhostBench, format_evaluator
from search.engine.choose import choose
from search.engine.front import hypervolume
from search.engine.ladder import climbs
from search.engine.objectives import USUAL
from search.engine.trial import COMPLETE, Trial

CHOSEN, SEEDS = 4, 30
ASHA_EPOCHS = (1, 2, 5)  # of a training from fresh weights: its rungs


@dataclass
class Simulation:
    """One search on the benchmark: what it has paid for, and what it knows.

    Args:
        seconds: that it may spend, final trainings included.
    """

    networks: Sequence[BenchmarkNetwork]
    seconds: float
    spent: float = 0.0
    known: list[Trial] = field(default_factory=list)

    def observe(self, network: BenchmarkNetwork, rungs: Sequence[tuple[str, float]]) -> Trial:
        """A network as the search knows it after evaluations (name, accuracy), the last of which counts."""
        return Trial.model_validate(
            {
                **{"number": len(self.known), "state": COMPLETE, "arch": network.arch, "code": network.code},
                **{"macs": network.macs, "params": network.params, "latency_ms": network.latency_ms},
                **{"excess": 0.0, "seconds": 0.0, "backend": {}, "accuracy": rungs[-1][1]},
                "rungs": [{"evaluate": name, "accuracy": value, "seconds": 0.0} for name, value in rungs],
            }
        )


def run_of(network: BenchmarkNetwork, evaluator: str) -> BenchmarkRun:
    """The training of that name, by the first seed."""
    return next(run for run in network.runs if run.seed == 0 and format_evaluator(run) == evaluator)


def look_seconds(network: BenchmarkNetwork, evaluator: str, epochs: int | None = None) -> float:
    """What an evaluation takes: the training, or so many epochs of it, and a look at the search split."""
    run = run_of(network, evaluator)
    share = 1.0 if epochs is None else epochs / run.epochs
    return share * run.seconds + run.look_seconds


@dataclass(frozen=True)
class Rung:
    """An evaluation: a training of the benchmark, or the first epochs of one."""

    evaluator: str
    epochs: int | None = None

    def accuracy(self, network: BenchmarkNetwork) -> float:
        return run_of(network, self.evaluator).search[-1 if self.epochs is None else self.epochs - 1]

    def seconds(self, network: BenchmarkNetwork, before: "Rung | None") -> float:
        """What it takes after the rung before, whose training it goes on with where it is the same."""
        whole = look_seconds(network, self.evaluator, self.epochs)
        if before and before.evaluator == self.evaluator:
            whole -= look_seconds(network, self.evaluator, before.epochs) - run_of(network, self.evaluator).look_seconds
        return whole


@dataclass(frozen=True)
class Judging:
    """A way to judge networks: its rungs, and the training that the chosen ones get in the end."""

    rungs: tuple[Rung, ...]
    final: str

    def __call__(self, networks: Sequence[BenchmarkNetwork], seconds: float) -> float:
        """The hypervolume of the networks that a search takes which sees them in that order."""
        search = Simulation(networks, seconds)
        reserve = CHOSEN * float(np.median([run_of(n, self.final).seconds for n in networks]))
        for network in networks:
            seen: list[tuple[str, float]] = []
            for k, rung in enumerate(self.rungs):
                price = rung.seconds(network, self.rungs[k - 1] if k else None)
                if search.spent + price + self._reserve(search, reserve) > seconds:
                    break
                search.spent += price
                seen.append((str(k), rung.accuracy(network)))
                metrics = {"accuracy": seen[-1][1], "latency_ms": network.latency_ms or 0.0}
                if not climbs(metrics, search.known, k, USUAL):
                    break
            if not seen:
                break
            search.known.append(search.observe(network, seen))
        return self._final(search)

    def _reserve(self, search: Simulation, whole: float) -> float:
        """For final trainings; none where the last rung is one."""
        return 0.0 if self.rungs[-1] == Rung(self.final) else whole

    def _final(self, search: Simulation) -> float:
        chosen = choose(search.known, CHOSEN) if search.known else []
        by_arch = {network.arch: network for network in search.networks}
        return volume([by_arch[trial.arch] for trial in chosen], self.final)
