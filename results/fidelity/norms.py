"""Which images should norms be recalibrated on, clean ones or images augmented as in training? For networks trained
alone, whose own running statistics say what a recalibration should come to, and for small supernets, whose ranking is
held against the published full trainings.

    python results/fidelity/norms.py alone --data parquet:../shared/data/cifar10
    python results/fidelity/norms.py supernets --data parquet:../shared/data/cifar10
    python results/fidelity/make.py report --data parquet:../shared/data/cifar10

Each goes on where it was stopped.
"""

import copy
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from make import BASE, FULL, opened, planned
from torch import Tensor

from ghostnet.files import WEIGHTS_FILE
from ghostnet.weights import load_network
from search.data.datasets import Data, load_data
from search.data.transforms import Augment
from search.files import read_json, write_json
from search.recipes.schema import SupernetTraining, Training
from search.training.elastic import load_supernet, train_supernet
from search.training.evaluate import accuracy, estimate_norms
from search.training.retrain import retrain
from spaces.space import Space

HERE = Path(__file__).parent
OUT = HERE / "norms.json"
WAYS = ("clean", "augmented")
WIDTHS, ALONE = (0.25, 0.75, 1.3), Training(**FULL | {"epochs": 3})  # on all training images
SEEDS, TOGETHER = (0, 1, 2), SupernetTraining(**BASE | {"draws": "even", "epochs": 3, "probes": 1})
IMAGES, JUDGES = 10_000, 5_000  # that a supernet is trained on, and that judge it
CPU = torch.device("cpu")


def images_of(way: str, data: Data, config: Training) -> Iterator[Tensor]:
    """Batches of the calibration split to recalibrate on."""
    if way == "augmented":
        return Augment(data, config).batches(data.calibration, seed=0)
    return (images for images, _ in data.batches(data.calibration))


def alone(space: Space, data: Data, name: str, work: Path) -> Iterator[dict[str, Any]]:
    """Test accuracies of networks trained alone: with their running statistics, and recalibrated each way."""
    data = load_data(name, space.resolution)
    for seed in SEEDS:
        for width in WIDTHS:
            arch = replace(space, widths=(width,)).uniform(width)
            out = work / f"{width:g}x-{seed}"
            metadata = retrain(arch, data, ALONE, out, seed=seed, device=CPU)
            assert metadata
            net = load_network(arch, out / WEIGHTS_FILE)
            row = {"width": width, "seed": seed, "running": metadata.test_accuracy}
            for way in WAYS:
                again = copy.deepcopy(net)
                estimate_norms(again, images_of(way, data, ALONE))
                row[way] = accuracy(again, data, data.test)
            yield row


def supernets(space: Space, data: Data, name: str, work: Path) -> Iterator[dict[str, Any]]:
    """Inherited accuracies of the published networks in small supernets, recalibrated each way."""
    data = replace(data, train=load_data(name, space.resolution, IMAGES).train)
    archs = planned(space, arguments)
    for seed in SEEDS:
        out = work / f"supernet-{seed}"
        train_supernet(space, data, TOGETHER, out, seed=seed, device=CPU)
        supernet = load_supernet(out)
        row: dict[str, Any] = {"seed": seed}
        for way in WAYS:
            row[way] = {}
            for arch_id, arch in archs.items():
                net = supernet.extract(arch).to(memory_format=torch.channels_last)
                estimate_norms(net, images_of(way, data, TOGETHER))
                row[way][arch_id] = accuracy(net, data, data.search)
        yield row


if __name__ == "__main__":
    part = {"alone": alone, "supernets": supernets}[sys.argv.pop(1)]
    arguments, space, data = opened(__doc__, OUT)
    data = replace(
        data, search=replace(data.search, images=data.search.images[:JUDGES], labels=data.search.labels[:JUDGES])
    )
    rows = []
    for row in part(space, data, arguments.data, arguments.work / "norms"):
        rows.append(row)
        print(row, flush=True)
        before = read_json(arguments.out) if arguments.out.exists() else {}
        write_json(arguments.out, before | {part.__name__: rows})
