"""Search methods at equal compute, simulated on the whole space by the surrogate benchmark.

A method proposes networks by one of the samplers of GhostNAS and judges them by one or several evaluations of the
benchmark, until its time is over. Then it takes four along its front, and trains these finally. What counts is the
hypervolume of the four's test accuracies and latencies; the regret is what it lacks to the best four of all networks
that any method came upon in this world. Each seed is another world (`search.accuracy.surrogate_benchmark`) and
another seed of the sampler, the same for all methods.

    python results/ghostbench/methods.py --data parquet:../shared/data/cifar10    # it goes on where it was stopped
    python results/ghostbench/page.py

The images are for the unit losses of `parent/`, by which the sampler `exact` begins.
"""

import argparse
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import moocore
import numpy as np
from numpy.typing import NDArray
from trainings import FITTING_IMAGES, HERE, PARENT, TRAINING_IMAGES, make_transplants

from ghostnet import Arch
from ghostnet.transplant.unit_losses import UnitLosses
from search.accuracy.ghostbench import load_ghostbench
from search.accuracy.surrogate_benchmark import Outcome, SurrogateBenchmark
from search.accuracy.unit_losses import IMAGES, measured_units, unit_losses
from search.data.datasets import Data, load_data
from search.engine.backends import backend
from search.engine.budgets import Within
from search.engine.choose import choose, choose_by_hypervolume, hypervolume_subset
from search.engine.ladder import Ladder, images_price
from search.engine.log import TrialLog
from search.engine.objectives import ACCURACY, Evaluate, LatencyObjective, Objective
from search.engine.problem import Problem
from search.engine.search_plan import SearchEnd, SearchPlan
from search.engine.trial import COMPLETE, Evaluation, Rung, Trial, evaluated
from search.files import read_json, write_json
from search.latency.predictor import Predictor
from search.latency.table import LatencyTable
from search.recipes.choices import PROMOTING, Sampler, usual_population
from search.recipes.schema import load_recipe
from search.records import record_json
from search.training.inherited import fit_inputs
from search.training.metadata import PARENT_ARCH, read_metadata
from spaces.quantities import Window
from spaces.space import Codes, Space
from spaces.tables import UnitTable, macs_table

Floats = NDArray[np.float64]
MOST = Window(0, 1_200_000)
MINUTES = (2.0, 4.0, 8.0, 15.0, 30.0, 60.0)  # core-minutes, the final trainings included
DEFAULT = "guided, as transplanted, evenly chosen"  # of runs
RECORD = HERE / "methods.json"
CHOSEN, SEEDS = 4, 30
TIMED_UNITS = 100
LOOK = 2_500 + FITTING_IMAGES  # that are shown for an evaluation without training
MOST_NETWORKS = 600  # that a method evaluates
FLOOR, SLOWEST = 0.4, 1.5  # the reference point, as in `results/weights/`: accuracy, and times GhostNet's slowest width
REFERENCE = np.array([FLOOR, -1.0])  # of what `World.point` gives
FINALS = "tuned:1"  # by which finalists are judged
TUNED, FRESH = ("tuned:0", "tuned:1", "tuned:3"), ("trained:5@1", "trained:5@2", "trained:5")


@dataclass(frozen=True)
class Method:
    """A sampler, the evaluations by which it judges (several: a ladder), and the training that the four get.

    Args:
        finalists: networks of the front that are judged again after an epoch, before the four are taken.
        evenly: the four are taken evenly along the front, not by hypervolume.
        at_once: networks climb a ladder by ASHA's rule, not by what that is worth to the sampler.
    """

    name: str
    sampler: Sampler
    rungs: tuple[str, ...]
    final: str
    finalists: int = 0
    evenly: bool = False
    at_once: bool = False


METHODS = (
    Method(DEFAULT, "guided", TUNED[:1], "tuned:3", evenly=True),
    Method("guided, as transplanted", "guided", TUNED[:1], "tuned:3"),
    Method("guided, as transplanted, 12 finalists", "guided", TUNED[:1], "tuned:3", finalists=12),
    Method("guided, tuned 1 epoch", "guided", TUNED[1:2], "tuned:3"),
    Method("guided, tuned 3 epochs", "guided", TUNED[2:], "tuned:3"),
    Method("guided, ladder of 0 and 1 epochs", "guided", TUNED[:2], "tuned:3"),
    Method("guided, ladder of 0 and 1 epochs, at once", "guided", TUNED[:2], "tuned:3", at_once=True),
    Method("guided, ladder of 0, 1 and 3 epochs", "guided", TUNED, "tuned:3"),
    Method("guided, ladder of 0, 1 and 3 epochs, at once", "guided", TUNED, "tuned:3", at_once=True),
    Method("exact, as transplanted", "exact", TUNED[:1], "tuned:3"),
    Method("exact, as transplanted, 12 finalists", "exact", TUNED[:1], "tuned:3", finalists=12),
    Method("exact, ladder of 0 and 1 epochs", "exact", TUNED[:2], "tuned:3"),
    Method("exact, ladder of 0, 1 and 3 epochs", "exact", TUNED, "tuned:3"),
    Method("TPE, as transplanted", "tpe", TUNED[:1], "tuned:3"),
    Method("NSGA-II, as transplanted", "nsga2", TUNED[:1], "tuned:3"),
    Method("random, as transplanted", "random", TUNED[:1], "tuned:3"),
    Method("guided, fresh weights, 5 epochs", "guided", FRESH[2:], "trained:5"),
    Method("TPE, fresh weights, 5 epochs", "tpe", FRESH[2:], "trained:5"),
    Method("NSGA-II, fresh weights, 5 epochs", "nsga2", FRESH[2:], "trained:5"),
    Method("random, fresh weights, 5 epochs", "random", FRESH[2:], "trained:5"),
    Method("random, successive halving: after 1, 2, 5 of 5 epochs", "random", FRESH, "trained:5"),
)


@dataclass(frozen=True, slots=True)
class Losses:
    """What the parent loses by each unit, and one core's seconds to find it out."""

    table: UnitTable
    seconds: float


def family_inside(space: Space) -> Codes:
    """GhostNet's widths inside the budget, [n, genes]."""
    family = np.stack([space.encode(arch) for arch in space.family.values() if arch in space])
    return family[macs_table(space).total(family) <= MOST.high]


def reference_ms(space: Space, predict: Predictor) -> float:
    """The latency from which on a network counts for nothing."""
    return SLOWEST * float(predict(family_inside(space)).latency_ms.max())


class World:
    """The surrogates by one seed, with a clock."""

    def __init__(self, seed: int, losses: Losses) -> None:
        self.surrogates, self.predict = _surrogates()
        self.seed, self.losses = seed, losses
        self._searches: dict[Method, list[Trial]] = {}
        self.space = self.surrogates[TUNED[0]].space
        self.family = family_inside(self.space)
        self.slowest_ms = reference_ms(self.space, self.predict)

    def outcome(self, code: Codes, column: str) -> Outcome:
        """A network's training."""
        return self.surrogates[column].query(code, column, self.seed)

    def searched(self, method: Method) -> list[Trial]:
        """The evaluations of a method's search, in their order; methods that differ in what is chosen share them."""
        search = replace(method, name="", final="", finalists=0, evenly=False)
        if search not in self._searches:
            self._searches[search] = self._search(search)
        return self._searches[search]

    def _search(self, method: Method) -> list[Trial]:
        plan = ClockedPlan(
            trials=MOST_NETWORKS,
            sampler=method.sampler,
            population=usual_population(method.sampler),
            known=tuple(arch for arch in self.space.family.values() if arch in self.space),
            seed=self.seed,
        )
        with tempfile.TemporaryDirectory() as folder, TrialLog(Path(folder) / "trials.jsonl", {}) as log:
            backend("optuna")(self.problem(method), log, plan)
            return [row for row in log.trials if row.state == COMPLETE]

    def problem(self, method: Method) -> Problem:
        """What is searched, by that method's evaluations."""
        evaluators: dict[str, Evaluate] = {rung: partial(self._accuracy, rung) for rung in method.rungs}
        return SimulatedProblem(
            world=self,
            method=method,
            space=self.space,
            evaluate=_ladder(method, evaluators) if len(evaluators) > 1 else evaluators[method.rungs[0]],
            objectives=(ACCURACY, LatencyObjective(predict=self.predict)),
            budgets={"1.2M": (Within(MOST),)},
            unit_losses=self.losses.table if method.sampler == "exact" else None,
        )

    def _accuracy(self, column: str, arch: Arch) -> float:
        return self.outcome(self.space.encode(arch), column).search

    def seconds(self, code: Codes, method: Method, rung: int) -> float:
        """Of a network's evaluation on a rung. What was trained for two epochs goes on to the fifth."""
        took = [self.outcome(code, each).seconds for each in method.rungs[: rung + 1]]
        return took[-1] - (took[-2] if method.rungs[0] == FRESH[0] and rung else 0.0)

    def typical_seconds(self, column: str) -> float:
        """Of a training, in the mean of GhostNet's widths inside the budget."""
        return float(np.mean([self.outcome(code, column).seconds for code in self.family]))

    def chosen(self, trials: Sequence[Trial], method: Method) -> list[Trial]:
        """The networks that a method trains finally."""
        if method.evenly:
            return choose(trials, CHOSEN)
        if method.finalists:
            judged = [
                Trial.model_validate(
                    record_json(trial) | {"accuracy": self.outcome(np.array(trial.code), FINALS).search}
                )
                for trial in choose_by_hypervolume(trials, method.finalists)
            ]
            return choose_by_hypervolume(judged, CHOSEN)
        return choose_by_hypervolume(trials, CHOSEN)

    def point(self, code: Sequence[int], column: str) -> tuple[float, float]:
        """Test accuracy after a training, and latency as a share of the reference's with its sign turned."""
        slowness = float(self.predict(np.array([code])).latency_ms[0]) / self.slowest_ms
        return self.outcome(np.array(code), column).test, -slowness


@dataclass(frozen=True, kw_only=True)
class SimulatedProblem(Problem):
    """A problem whose evaluations take the seconds that they would take in that world."""

    world: World
    method: Method

    def measure(self, arch: Arch, rungs: Sequence[Rung] = ()) -> Evaluation:
        evaluation = super().measure(arch, rungs)
        seconds = self.world.seconds(self.space.encode(arch), self.method, len(rungs))
        if not evaluation.rungs:
            return replace(evaluation, seconds=seconds)
        last = evaluation.rungs[-1].model_copy(update={"seconds": seconds})
        return replace(evaluation, seconds=sum(rung.seconds for rung in rungs) + seconds, rungs=(*rungs, last))


def _ladder(method: Method, evaluators: dict[str, Evaluate]) -> Ladder:
    """By prices as `search.pipeline.search_stage.evaluation_price` has them, of GhostBench's images."""
    epochs = {rung: int(rung.partition(":")[2]) for rung in TUNED}
    promoting = method.sampler in PROMOTING and not method.at_once
    prices = tuple(images_price(LOOK, TRAINING_IMAGES * epochs[rung]) for rung in method.rungs) if promoting else None
    return Ladder(evaluators, prices)


@cache
def _surrogates() -> tuple[dict[str, SurrogateBenchmark], Predictor]:
    bench = load_ghostbench(HERE / "ghostbench.json")
    made = {columns: SurrogateBenchmark(bench, columns) for columns in (TUNED, FRESH)}
    predict = Predictor(LatencyTable.load(HERE / "cifar16.lat.json"), bench.space)
    return {column: surrogate for columns, surrogate in made.items() for column in columns}, predict


@dataclass(frozen=True, kw_only=True)
class ClockedPlan(SearchPlan):
    """A search that ends when its time in that world is over."""

    def end_reason(
        self, log: TrialLog, objectives: Sequence[Objective], num_proposed: int | None = None
    ) -> SearchEnd | None:
        late = sum(trial.seconds for trial in log.evaluated) > 60 * MINUTES[-1]
        return "time box" if late else super().end_reason(log, objectives, num_proposed)


def simulate(method: Method, world: World) -> dict[str, object]:
    """What a method comes to in each time, in one world.

    Returns:
        for each of `MINUTES` the networks evaluated and the final points, and of all that it saw the front by the
        final training of transplants.
    """
    rows = world.searched(method)
    spent = np.cumsum(_each_seconds(rows))
    results = []
    for minutes in MINUTES:
        trained = method.rungs == (method.final,)  # on a ladder only some have had their final training
        reserve = 0.0 if trained else CHOSEN * world.typical_seconds(method.final)
        reserve += method.finalists * world.typical_seconds(FINALS)
        reserve += world.losses.seconds if method.sampler == "exact" else 0.0
        trials = evaluated(rows[: int(np.searchsorted(spent, 60 * minutes - reserve, side="right"))])
        taken = [trial.code for trial in world.chosen(trials, method)]
        results.append({"networks": len(trials), "points": [world.point(code, method.final) for code in taken]})
    points = np.array([world.point(trial.code, "tuned:3") for trial in evaluated(rows)])
    front = points[moocore.is_nondominated(points, maximise=True)]
    return {"budgets": results, "front": front.tolist()}


def _each_seconds(rows: Sequence[Trial]) -> list[float]:
    """Of what each row of a log adds to an earlier one of its network."""
    seconds, before = [], dict[str, float]()
    for row in rows:
        seconds.append(row.seconds - before.get(row.arch, 0.0))
        before[row.arch] = row.seconds
    return seconds


def timed_losses(supernet: Path, data: Data, file: Path) -> Losses:
    """Those of a transplanted supernet. Their seconds are those of some units, times their number; they are kept in a
    file, for all simulations are charged the same."""
    table, space = unit_losses(supernet, data), read_metadata(supernet)[1]
    if file.exists():
        return Losses(table, read_json(file))
    measure = UnitLosses(*fit_inputs(supernet, data, IMAGES))
    units = [*measured_units(space, Arch.load(supernet / PARENT_ARCH)).values()]
    begun = time.process_time()
    for k in np.random.default_rng(0).permutation(len(units))[:TIMED_UNITS]:
        measure(*units[k])
    write_json(file, (time.process_time() - begun) * len(units) / TIMED_UNITS)
    return Losses(table, read_json(file))


def regrets(results: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Floats]:
    """[seeds, minutes] for each method: what its final networks lack to the best four that any method saw."""
    found: dict[str, Floats] = {name: np.empty((len(each), len(MINUTES))) for name, each in results.items()}
    for seed in range(min(map(len, results.values()))):
        seen = np.concatenate([each[seed]["front"] for each in results.values()])
        best = hypervolume(best_four(seen))
        for name, each in results.items():
            reached = [hypervolume(np.array(budget["points"])) for budget in each[seed]["budgets"]]
            found[name][seed] = 1 - np.array(reached) / best
    return found


def hypervolume(points: Floats) -> float:
    """Of what `World.point` gives, [n, 2]."""
    return float(moocore.hypervolume(points, ref=REFERENCE, maximise=True)) if len(points) else 0.0


def best_four(points: Floats) -> Floats:
    """The four points with the largest hypervolume, taken one by one: [n, 2] -> [4, 2]"""
    return points[hypervolume_subset(points, CHOSEN, REFERENCE)]


def read_results(folder: Path) -> dict[str, list[Any]]:
    """What was simulated so far, by the methods' names: a result a seed, of as many seeds as all methods have."""
    every = {method.name: _by_seed(folder, method) for method in METHODS}
    seeds = set.intersection(*map(set, every.values()))
    return {name: [files[seed] for seed in sorted(seeds)] for name, files in every.items()}


def _by_seed(folder: Path, method: Method) -> dict[int, Any]:
    files = folder.glob(f"{method.name} [0-9]*.json")
    return {int(file.stem.removeprefix(f"{method.name} ")): read_json(file) for file in files}


def publish(folder: Path, out: Path, unit_loss_seconds: float) -> None:
    """Writes what was simulated so far: `methods.json`."""
    surrogates, _ = _surrogates()
    results = read_results(folder)
    regret = regrets(results)
    record = {
        "commit": _commit(),
        "minutes": MINUTES,
        "unit_loss_seconds": round(unit_loss_seconds),
        "seeds": len(next(iter(results.values()))),
        "networks": {", ".join(each.columns): len(each.names) for each in surrogates.values()},
        "errors": {column: asdict(each.errors[column]) for column, each in surrogates.items()},
        "methods": [
            {
                "name": name,
                "fresh": next(m.final for m in METHODS if m.name == name).startswith("trained"),
                "networks": np.median([[b["networks"] for b in each["budgets"]] for each in results[name]], 0).tolist(),
                "regrets": np.quantile(values, [0.25, 0.5, 0.75], axis=0).round(4).T.tolist(),
            }
            for name, values in regret.items()
        ],
    }
    write_json(out, record)


def _commit() -> str | None:
    """Of this code, where it is a clone."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True)
    return found.stdout.strip() or None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--seed", type=int, nargs="+", default=range(SEEDS))
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no simulation begins")
    parser.add_argument("--out", type=Path, default=HERE / "work" / "methods")
    arguments = parser.parse_args()
    until = time.time() + 60 * arguments.minutes
    space = load_recipe("cifar10-small").search_space
    data = load_data(arguments.data, space.resolution, TRAINING_IMAGES)
    supernet = make_transplants(space, data, PARENT, arguments.out / "supernet")
    losses = timed_losses(supernet, data, arguments.out / "seconds-of-unit-losses")
    for seed in arguments.seed:
        world = World(seed, losses)
        for method in METHODS:
            out = arguments.out / f"{method.name} {seed}.json"
            if not out.exists() and time.time() < until:
                write_json(out, simulate(method, world))
    publish(arguments.out, RECORD, losses.seconds)


if __name__ == "__main__":
    main()
