"""GhostBench: 600 networks of `cifar16`, trained from fresh weights and transplanted, on 10,000 CIFAR-10 images.

From the repository's root. It goes on where it was stopped, or from what is published, and a kill loses the trainings
that are under way; what there is at any time is published by `page.py`. The parts may also be asked for one by one, and
the two of the trainings may run at the same time:

    python results/ghostbench/make.py --data parquet:../shared/data/cifar10 --minutes 150 --workers 2
    python results/ghostbench/make.py --data parquet:../shared/data/cifar10 --part fresh
    python results/ghostbench/page.py

The parent and the list of networks are committed: `--part parent` trains a parent anew, in a folder that `--parent`
names, and `--part networks` draws the list anew.
"""

import argparse
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from networks import draw_networks, read_networks, write_networks
from trainings import HERE, LIST, PARENT, TRAINING_IMAGES, LoggedRun, RunLog, Trainer, header, make_transplants, plan

from ghostnet import Arch
from search.accuracy.ghostbench import BenchmarkFile, Start
from search.accuracy.unit_losses import unit_losses
from search.data.datasets import Data, load_data
from search.folders import locked
from search.parallel.cluster import Cluster
from search.parallel.workers import RayWorkers
from search.progress import bar
from search.recipes.schema import Training, load_recipe
from search.records import read_record
from search.training.retrain import retrain
from search.training.supernets import widest
from spaces.space import Space

CPU = torch.device("cpu")
PARENT_RECIPE = Training(epochs=60, batch_size=64, lr=0.1, weight_decay=5e-4, warmup_epochs=2)
PUBLISHED = HERE / "ghostbench.json"
PARTS = ("parent", "networks", *get_args(Start))


def draw(space: Space, data: Data, parent: Path, out: Path) -> None:
    """Draws the list of networks, by what the parent loses by each unit."""
    supernet = make_transplants(space, data, parent, out / "supernet")
    write_networks(LIST, draw_networks(space, unit_losses(supernet, data)))


def train(
    start: Start, archs: list[Arch], space: Space, data: Data, parent: Path, out: Path, *, until: float, workers: int
) -> int:
    """Does what is missing of the trainings with a start; returns how many are still missing.

    Args:
        until: `time.time()` after which none begins.
    """
    with locked(out, only=f"{start}.jsonl"):
        published = read_record(PUBLISHED, BenchmarkFile) if PUBLISHED.exists() and parent == PARENT else None
        log = RunLog(out, start, header(start, space, data, parent), published)
        planned = [each for each in plan(start, archs) if each.key not in log.keys]
        trainer = partial(Trainer, parent, until)
        runs: Iterable[LoggedRun | None]
        runs = (
            RayWorkers(data, Cluster(workers=workers)).map(trainer, planned)
            if workers > 1
            else map(trainer(data), planned)
        )
        left = len(planned)
        with bar(f"{start} networks", len(planned)) as progress:
            for run in runs:
                if run is not None:  # the time is not over
                    log.append(run)
                    left -= 1
                    progress.advance()
    return left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, help="default: fresh, then transplanted")
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--parent", type=Path, default=PARENT)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no training begins")
    parser.add_argument("--workers", type=int, default=1, help="networks at a time, each in a process of Ray's")
    parser.add_argument("--out", type=Path, default=HERE / "work")
    arguments = parser.parse_args()
    until = time.time() + 60 * arguments.minutes
    torch.set_num_threads(1)
    space = load_recipe("cifar10-small").search_space
    data = load_data(arguments.data, space.resolution, TRAINING_IMAGES)
    if arguments.part == "parent":
        retrain(widest(space), data, PARENT_RECIPE, arguments.parent, device=CPU)
    elif arguments.part == "networks":
        draw(space, data, arguments.parent, arguments.out)
    else:
        archs = [space.decode(np.array(row.code)) for row in read_networks(LIST, space).networks]
        for start in (arguments.part,) if arguments.part else get_args(Start):
            left = train(
                start, archs, space, data, arguments.parent, arguments.out, until=until, workers=arguments.workers
            )
            print(f"{start}: {left} trainings are left")


if __name__ == "__main__":
    main()
