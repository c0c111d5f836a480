"""Does a little training of its own judge a network better than inherited weights alone? One epoch, from a supernet's
weights and from fresh ones, for the networks of `make.py`, by the images that judge inherited accuracy there.

    python results/fidelity/tuned.py --data parquet:../shared/data/cifar10      # after `make.py supernets`
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from make import FULL, judging, planned

from search.data import load
from search.files import write_json
from search.recipe import Training
from search.training.retrain import retrain
from search.training.sandwich import space_for

HERE = Path(__file__).parent
# Name: the supernet whose weights it begins with, the learning rate.
CASES = {"long": ("long", 0.05), "fresh": (None, 0.1)}
EPOCHS, WARMUP = 1, 0.1
SEED = 7  # none of a full training, whose luck it would share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--work", type=Path, default=Path("results/work-fidelity"))
    parser.add_argument("--out", type=Path, default=HERE / "tuned.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    space = space_for("digits", 10, 3)
    data = judging(load(arguments.data, space.resolution, arguments.images), space, arguments)
    data = replace(data, test=data.search)  # the test images stay out of it
    found: dict[str, dict[str, float]] = {}
    for name, (supernet, lr) in CASES.items():
        config = Training(**FULL | {"epochs": EPOCHS, "warmup_epochs": WARMUP, "lr": lr})
        init = None if supernet is None else arguments.work / supernet
        found[name] = {}
        for arch_id, arch in planned(space, arguments).items():
            out = arguments.work / "tuned" / name / arch_id
            card = retrain(arch, data, config, out, seed=SEED, device=torch.device("cpu"), init=init)
            found[name][arch_id] = card["test_accuracy"]
        write_json(arguments.out, {"epochs": EPOCHS, "judges": len(data.test), "accuracy": found})


if __name__ == "__main__":
    main()
