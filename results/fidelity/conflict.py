"""Which choices get in the largest network's way? Short sandwiches whose random networks are free in some genes only.

python results/fidelity/conflict.py --data parquet:../shared/data/cifar10
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from unscaled import UnscaledSupernet

from ghostnet.arch import Arch
from ghostnet.supernet import Supernet
from ghostnet.units import STEM, TAIL
from search.data.datasets import Data, load_data
from search.data.splits import Split
from search.data.transforms import Augment
from search.files import read_json, write_json
from search.recipes.schema import SupernetTraining
from search.training.distillation import kl
from search.training.elastic import new_supernet
from search.training.evaluate import InheritedAccuracy
from search.training.metadata import space_for
from search.training.optimizer import create_optimizer, create_schedule
from spaces.genes import Gene
from spaces.space import Space

HERE = Path(__file__).parent
STEPS, SEED = 400, 0
CONFIG = SupernetTraining(epochs=1, batch_size=64, lr=0.1, weight_decay=5e-5, warmup_epochs=1, random=2)
Free = Callable[[Gene], bool]
# Name: which genes are free; how weights are shared.
CASES: dict[str, tuple[Free, type[Supernet]]] = {
    "nothing is free": (lambda gene: False, Supernet),
    "SE": (lambda gene: gene.kind == "se", Supernet),
    "width of the stem": (lambda gene: gene.part == STEM, Supernet),
    "width of the tail": (lambda gene: gene.part == TAIL, Supernet),
    "width of the tail, unscaled": (lambda gene: gene.part == TAIL, UnscaledSupernet),
    "widths of the stages": (lambda gene: gene.kind == "width" and gene.part not in (STEM, TAIL), Supernet),
    "ratio and cheap kernel": (lambda gene: gene.kind == "ghost", Supernet),
    "everything": (lambda gene: True, Supernet),
    "everything, unscaled": (lambda gene: True, UnscaledSupernet),
}


def measure(space: Space, data: Data, free: Free, kind: type[Supernet]) -> dict[str, float]:
    """Loss on the search split of the largest and the smallest network after some steps."""
    may = np.array([free(gene) for gene in space.genes])
    supernet = new_supernet(space, SEED, kind).to(memory_format=torch.channels_last).train()
    assert isinstance(data.train, Split)
    optimizer, augment = create_optimizer(supernet, CONFIG), Augment(data, CONFIG)
    per_epoch = len(data.train) // CONFIG.batch_size
    schedule = create_schedule(optimizer, CONFIG, STEPS, per_epoch)
    for step in range(STEPS):
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng([SEED, epoch, 1]).permutation(len(data.train))
        here = torch.from_numpy(order[place * CONFIG.batch_size :][: CONFIG.batch_size])
        images = augment(data.train.images[here], step).contiguous(memory_format=torch.channels_last)
        schedule.step_update(step)
        optimizer.zero_grad()
        teacher = supernet(images, space.largest)
        F.cross_entropy(teacher, data.train.labels[here], label_smoothing=CONFIG.label_smoothing).backward()
        rng = np.random.default_rng([SEED, step])
        for _ in range(CONFIG.random):
            sampled = space.decode(np.where(may, space.encode(space.sample(rng)), space.choices - 1))
            kl(supernet(images, sampled), teacher.detach()).backward()
        kl(supernet(images, space.smallest), teacher.detach()).backward()
        torch.nn.utils.clip_grad_norm_(supernet.parameters(), CONFIG.clip_norm)
        optimizer.step()
    evaluate = InheritedAccuracy(supernet, data, CONFIG)
    return {
        name: loss(evaluate, data, arch) for name, arch in (("largest", space.largest), ("smallest", space.smallest))
    }


@torch.no_grad()
def loss(evaluate: InheritedAccuracy, data: Data, arch: Arch) -> float:
    net = evaluate.network(arch).eval()
    total = sum(float(F.cross_entropy(net(x), y, reduction="sum")) for x, y in data.batches(data.search))
    return total / len(data.search)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=HERE / "conflict.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = space_for("digits", 10, 3)
    data = load_data(arguments.data, space.resolution, arguments.images)
    losses = read_json(arguments.out)["loss"] if arguments.out.exists() else {}
    for name, (free, kind) in CASES.items():
        if name in losses:
            continue
        losses[name] = measure(space, data, free, kind)
        print(name, losses[name], flush=True)
        write_json(arguments.out, {"steps": STEPS, "images": arguments.images, "loss": losses})


if __name__ == "__main__":
    main()
