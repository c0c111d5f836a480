"""CIFAR-10 at 32 x 32: found networks, GhostNet scaled in width, random and pruned ones, all from one parent and tuned
alike; and GhostNet from fresh weights, trained as long in all.

From the repository's root. It goes on where it was stopped. Trainings and searches want a GPU, where several go on
side by side; the latencies want the machine of the latency table:

    python results/cifar32/make.py --data parquet:../shared/data/cifar10 --work WORK --part parents --workers 3
    python results/cifar32/make.py --data parquet:../shared/data/cifar10 --work WORK --part search fresh --workers 15
    python results/cifar32/make.py --data parquet:../shared/data/cifar10 --work WORK --part tuned --workers 15
    python results/cifar32/make.py --data parquet:../shared/data/cifar10 --work WORK --part measure

Without a table one is made. `--part tuned` wants the extra `study` for Torch-Pruning.
"""

import argparse
import pickle
import time
from pathlib import Path

import numpy as np
from outcomes import Result, Study, merged
from searches import TABLE
from trainings import (
    HERE,
    NET,
    WIDTHS,
    Job,
    decode,
    finished,
    searched_file,
    space,
    train,
    transplanted_supernet,
)

from ghostnet import GhostNet
from search.files import read_json, write_json
from search.latency.runtimes import runtime
from search.latency.table import LatencyTable, describe
from search.latency.time_networks import measure
from search.records import read_record, write_record
from search.training.supernets import widest

NETWORKS, RESULT = HERE / "networks.json", HERE / "cifar32.json"


def parents(seeds: list[int]) -> list[Job]:
    """Each seed's parent alone."""
    return [Job(seed, "parent", "parent", widest(space())) for seed in seeds]


def searched(seeds: list[int]) -> list[Job]:
    """A search for each seed, for which its parent is trained, unless it is there."""
    return [Job(seed, "search", "search") for seed in seeds]


def fresh(seeds: list[int]) -> list[Job]:
    """GhostNet's widths from fresh weights, the widest first."""
    return [
        Job(seed, "fresh", f"{width}x", space().uniform(width))
        for width in sorted(WIDTHS, reverse=True)
        for seed in seeds
    ]


def tuned(seeds: list[int], networks: dict[str, dict[str, list[list[int]]]]) -> list[Job]:
    """What is tuned with the parent as teacher: seed by seed, the longest first."""
    jobs = []
    for seed in seeds:
        jobs.append(Job(seed, "pruned", "all"))
        jobs += [
            Job(seed, "family", f"{width}x", space().uniform(width)) for width in sorted(space().widths, reverse=True)
        ]
        for kind in ("found", "random"):
            codes = networks[str(seed)][kind]
            jobs += [
                Job(seed, kind, str(k), space().decode(np.array(code))) for k, code in reversed([*enumerate(codes, 1)])
            ]
    return jobs


def measured(results: list[Result], work: Path) -> dict[str, float]:
    """The latency of every network in milliseconds, side by side on the table's runtime, by its `latency_key`."""
    setting = LatencyTable.load(TABLE).setting
    run = runtime(setting.runtime, setting.threads, setting.dtype, setting.lowering)  # type: ignore[arg-type]
    nets: dict[str, GhostNet] = {}
    for r in results:
        if r.code:
            arch = space().decode(np.array(r.code))
            nets[r.latency_key] = GhostNet(arch, space().num_classes, space().in_chs).eval()
        else:
            file = Job(r.seed, r.kind, "all").folder(work) / r.name / NET
            nets[r.latency_key] = pickle.loads(file.read_bytes())
    shape = (space().in_chs, space().resolution, space().resolution)
    return measure(run, {name: (net, shape) for name, net in nets.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--train-images", type=int, help="fewer than all, to try the study out")
    parser.add_argument("--shares", type=float, default=1.0, help="of all epochs, to try the study out")
    parser.add_argument("--work", type=Path, default=HERE / "work", help="the folder of trainings and searches")
    parser.add_argument("--part", choices=("parents", "search", "fresh", "tuned", "measure"), nargs="+", required=True)
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=1, help="trainings side by side")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no training begins")
    arguments = parser.parse_args()
    until = time.time() + 60 * arguments.minutes
    work, seeds = arguments.work, arguments.seed
    decode(work, arguments.data, arguments.train_images)
    jobs: list[Job] = []
    networks = read_json(NETWORKS) if NETWORKS.exists() else {}
    for part in arguments.part:
        if part == "tuned":
            for seed in seeds:
                transplanted_supernet(work, seed)
            jobs += tuned(seeds, networks)
        elif part != "measure":
            jobs += {"parents": parents, "search": searched, "fresh": fresh}[part](seeds)
    train(jobs, work, workers=arguments.workers, until=until, shares=arguments.shares)
    if "search" in arguments.part:
        found = {str(seed): searched_file(work, seed) for seed in seeds}
        networks |= {seed: read_json(file) for seed, file in found.items() if file.exists()}
        write_json(NETWORKS, networks)
    if "measure" in arguments.part:
        known = read_record(RESULT, Study).results if RESULT.exists() else []
        results = merged(known, list(finished(work)))
        times = measured(results, work)
        timed = [r.model_copy(update={"measured_ms": times[r.latency_key]}) for r in results]
        write_record(RESULT, Study(latency=describe(LatencyTable.load(TABLE)), results=timed))


if __name__ == "__main__":
    main()
