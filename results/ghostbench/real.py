"""Search methods of `methods.py`, run in earnest: a search of each, by real trainings, within the same minutes.

    python results/ghostbench/real.py --data parquet:../shared/data/cifar10 --method 0 1    # some
    python results/ghostbench/real.py --data parquet:../shared/data/cifar10                 # what is missing of all
    python results/ghostbench/page.py

The parent is given, and counts for nothing, as it does there; all else is as `ghostnas search` does it, on one core.
Set OMP_NUM_THREADS=1. A method that is killed begins again.
"""

import argparse
import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from methods import CHOSEN, DEFAULT, FRESH, METHODS, MOST, MOST_NETWORKS, Method, reference_ms
from trainings import FRESH as FRESH_TRAINING
from trainings import HERE, PARENT, TRAINING_IMAGES, TUNED, Planned, Trainer, make_transplants

from search.accuracy.ghostbench import GhostBench, load_ghostbench
from search.data.datasets import Data, load_data
from search.deadlines import deadline_in
from search.engine.choose import choose, choose_by_hypervolume
from search.engine.trial import Trial
from search.files import read_json, write_json
from search.latency.predictor import Predictor
from search.latency.table import LatencyTable
from search.pipeline.search_stage import SearchOutcome, search_networks
from search.recipes.schema import Search

TABLE, RECORD = HERE / "cifar16.lat.json", HERE / "real.json"
MINUTES = 8.0
NAMES = (
    "guided, as transplanted",  # and evenly chosen, of the same search
    "guided, ladder of 0 and 1 epochs",
    "exact, ladder of 0 and 1 epochs",
    "exact, as transplanted",
    "TPE, as transplanted",
    "NSGA-II, as transplanted",
    "random, as transplanted",
    "guided, fresh weights, 5 epochs",
    "random, fresh weights, 5 epochs",
)
RUN = tuple(next(method for method in METHODS if method.name == name) for name in NAMES)


@dataclass(frozen=True)
class Real:
    """Runs methods in a folder.

    Args:
        minutes: of a method, its final trainings included.
    """

    data: Data
    out: Path
    minutes: float

    def search(self, method: Method, seed: int, folder: Path) -> SearchOutcome:
        """Until what is left is what the final trainings take, by what the like took in the benchmark."""
        bench = load_ghostbench(HERE / "ghostbench.json")
        reserve = 0.0 if method.rungs == (method.final,) else CHOSEN * typical_seconds(bench, method.final)
        begun = time.monotonic()
        supernet = make_transplants(bench.space, self.data, PARENT, folder / "supernet")
        left = 60 * self.minutes - reserve - (time.monotonic() - begun)
        config = Search(
            flops_budget=str(MOST.high), evaluate=evaluation(method), trials=MOST_NETWORKS, sampler=method.sampler
        )
        training = FRESH_TRAINING if method.rungs[-1] in FRESH else TUNED
        log = folder / "trials.jsonl"
        return search_networks(
            supernet, [TABLE], log, lambda: self.data, config, seed=seed, deadline=deadline_in(left), training=training
        )

    def run(self, method: Method, seed: int) -> None:
        """A search, and the final training of what it finds; twice where one more method chooses otherwise."""
        folder = self.out / f"{method.name} {seed}"
        if (done := folder / "result.json").exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        begun, took = time.monotonic(), time.process_time()
        outcome = self.search(method, seed, folder)
        seconds, core = time.monotonic() - begun, time.process_time() - took
        trials = outcome.trials
        chosen = {method.name: choose_by_hypervolume(trials, CHOSEN)}
        if method == RUN[0]:
            chosen[DEFAULT] = choose(trials, CHOSEN)
        train = partial(self.train, Trainer(PARENT, float("inf"), self.data), outcome, method)
        heights = [len(trial.rungs or (1,)) for trial in trials]
        result = {
            "seed": seed,
            "networks": [sum(height > k for height in heights) for k in range(max(heights))],
            "search_seconds": round(seconds, 1),
            "search_core_seconds": round(core, 1),
            "chosen": {name: [train(trial) for trial in each] for name, each in chosen.items()},
        }
        write_json(done, result)
        print(f"{folder.name}: {result['networks']} networks in {seconds / 60:.1f} min", flush=True)

    def train(self, trainer: Trainer, outcome: SearchOutcome, method: Method, trial: Trial) -> dict[str, Any]:
        """The final training of a network that was found."""
        start, _, epochs = method.final.partition(":")
        planned = Planned(outcome.arch(trial), "fresh" if start == "trained" else "transplanted", int(epochs))
        done = trainer(planned)
        assert done  # its time has no end
        return {
            "arch": trial.arch,
            "code": list(trial.code),
            "latency_ms": trial.latency_ms,
            "macs": trial.macs,
            "expected": trial["accuracy"],
            "test": done.test[-1],
            "seconds": done.seconds,
        }


def evaluation(method: Method) -> str:
    """A method's rungs as `ghostnas search --evaluate` has them."""
    return ",".join("inherited" if rung == "tuned:0" else rung for rung in method.rungs)


def typical_seconds(bench: GhostBench, column: str) -> float:
    """Of a training, the median of the benchmark's."""
    return float(np.median([bench.query(name, column).seconds for name in bench.having(column)]))


def publish(out: Path, minutes: float) -> None:
    """Writes what was run so far: `real.json`."""
    files = sorted(out.glob("*/result.json"))
    bench = load_ghostbench(HERE / "ghostbench.json")
    slowest = reference_ms(bench.space, Predictor(LatencyTable.load(TABLE), bench.space))
    rows = [{"name": name, **_row(read_json(file), name)} for file in files for name in read_json(file)["chosen"]]
    order = {name: k for k, name in enumerate((DEFAULT, *NAMES))}
    write_json(
        RECORD,
        {
            "minutes": minutes,
            "reference_ms": round(slowest, 5),
            "methods": sorted(rows, key=lambda row: (order[row["name"]], row["seed"])),
        },
    )


def _row(result: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: result[key] for key in ("seed", "networks", "search_seconds", "search_core_seconds")} | {
        "chosen": result["chosen"][name]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--method", type=int, nargs="+", default=range(len(RUN)), help="by their numbers in the code")
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of one method")
    parser.add_argument("--out", type=Path, default=HERE / "work" / "real")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = load_ghostbench(HERE / "ghostbench.json")
    real = Real(load_data(arguments.data, bench.space.resolution, TRAINING_IMAGES), arguments.out, arguments.minutes)
    for seed in arguments.seed:
        for number in arguments.method:
            real.run(RUN[number], seed)
    publish(arguments.out, arguments.minutes)


if __name__ == "__main__":
    main()
