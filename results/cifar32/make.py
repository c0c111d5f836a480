"""CIFAR-10 at 32 x 32: found networks, GhostNet scaled in width, random and pruned ones, all from one parent and tuned
alike; and GhostNet from fresh weights, trained as long in all.

From the repository's root. It goes on where it was stopped. `--design whole-table` wants a GPU, where several
trainings go on side by side; the latencies want the machine of the latency table:

    DATA="--data parquet:../shared/data/cifar10"
    python results/cifar32/make.py $DATA --part search         # a parent for each seed, a search of its transplants
    python results/cifar32/make.py $DATA --part tuned fresh     # found, random, GhostNet's widths, pruned ones
    python results/cifar32/make.py $DATA --part measure

Without a table one is made. `--part tuned` wants the extra `study` for Torch-Pruning.
"""

import argparse
import pickle
import time
from itertools import zip_longest
from pathlib import Path

import numpy as np
from designs import DESIGNS, HERE, WIDTHS, Design
from outcomes import Kind, Result, Study, merged
from trainings import (
    NET,
    Job,
    decode,
    finished,
    known_results,
    searched_file,
    train,
    transplanted_supernet,
)

from ghostnet import GhostNet
from search.files import read_json, write_json
from search.latency.runtimes import table_runtime
from search.latency.table import LatencyTable, describe
from search.latency.time_networks import measure
from search.records import write_record
from search.training.supernets import widest


def parents(design: Design, seeds: list[int]) -> list[Job]:
    """Each seed's parent alone."""
    return [Job(seed, "parent", "parent", widest(design.space)) for seed in seeds]


def searched(_: Design, seeds: list[int]) -> list[Job]:
    """A search for each seed, for which its parent is trained, unless it is there."""
    return [Job(seed, "search", "search") for seed in seeds]


def fresh(design: Design, seeds: list[int]) -> list[Job]:
    """GhostNet's widths from fresh weights, the widest first."""
    return [
        Job(seed, "fresh", f"{width}x", design.space.uniform(width))
        for width in sorted(WIDTHS, reverse=True)
        for seed in seeds
    ]


def tuned(design: Design, seeds: list[int]) -> list[Job]:
    """What is tuned with the parent as teacher, seed by seed: GhostNet's widths and the found networks by turns, the
    largest first, then random and pruned ones."""
    jobs: list[Job] = []
    space = design.space
    for seed in seeds:
        family = [
            Job(seed, "family", f"{width}x", space.uniform(width)) for width in sorted(space.widths, reverse=True)
        ]
        found, drawn = listed(design, seed, "found"), listed(design, seed, "random")
        jobs += [job for pair in zip_longest(family[1:], found) for job in pair if job]
        jobs += [family[0], *drawn, Job(seed, "pruned", "all")]
    return jobs


def listed(design: Design, seed: int, kind: Kind) -> list[Job]:
    """The networks of a kind that a seed's search left, the largest first."""
    codes = read_json(design.networks)[str(seed)][kind]
    jobs = [Job(seed, kind, str(k), design.space.decode(np.array(code))) for k, code in enumerate(codes, 1)]
    return jobs[::-1]


def measured(design: Design, results: list[Result], work: Path) -> dict[str, float]:
    """The latency of every network in milliseconds, side by side on the table's runtime, by its `latency_key`."""
    space, run = design.space, table_runtime(LatencyTable.load(design.table).setting)
    nets: dict[str, GhostNet] = {}
    for r in results:
        if r.code:
            arch = space.decode(np.array(r.code))
            nets[r.latency_key] = GhostNet(arch, space.num_classes, space.in_chs).eval()
        else:
            file = Job(r.seed, r.kind, "all").folder(work) / r.name / NET
            if file.exists():  # else it was pruned on another machine
                nets[r.latency_key] = pickle.loads(file.read_bytes())
    shape = (space.in_chs, space.resolution, space.resolution)
    return measure(run, {name: (net, shape) for name, net in nets.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--design", choices=DESIGNS, default="two-cores")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--train-images", type=int, help="fewer than all, to try the study out")
    parser.add_argument("--share", type=float, default=1.0, help="of all epochs, to try the study out")
    parser.add_argument("--work", type=Path, help="the folder of trainings and searches")
    parser.add_argument("--part", choices=("parents", "search", "fresh", "tuned", "measure"), nargs="+", required=True)
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=1, help="trainings side by side")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no training begins")
    arguments = parser.parse_args()
    until = time.time() + 60 * arguments.minutes
    seeds, work = arguments.seed, arguments.work or HERE / arguments.design / "work"
    trial = work if arguments.share < 1 or arguments.train_images else None
    design = Design(arguments.design, arguments.share, trial)
    decode(work, arguments.data, design.space.resolution, arguments.train_images)
    jobs: list[Job] = []
    for part in arguments.part:
        if part == "tuned":
            for seed in seeds:
                transplanted_supernet(design, work, seed)
            jobs += tuned(design, seeds)
        elif part != "measure":
            jobs += {"parents": parents, "search": searched, "fresh": fresh}[part](design, seeds)
    train(jobs, design, work, workers=arguments.workers, until=until)
    if "search" in arguments.part:
        found = {str(seed): searched_file(work, seed) for seed in seeds}
        networks = read_json(design.networks) if design.networks.exists() else {}
        write_json(design.networks, networks | {seed: read_json(f) for seed, f in found.items() if f.exists()})
    if "measure" in arguments.part:
        results = merged(known_results(design), list(finished(work)))
        times = measured(design, results, work)
        timed = [r.model_copy(update={"measured_ms": times.get(r.latency_key, r.measured_ms)}) for r in results]
        write_record(design.result, Study(latency=describe(LatencyTable.load(design.table)), results=timed))


if __name__ == "__main__":
    main()
