"""Does a little training of its own judge a network better than inherited weights alone? One epoch, from a supernet's
weights and from fresh ones, for the networks of `make.py`, by the images that judge inherited accuracy there.

    python results/fidelity/tuned.py --data parquet:../shared/data/cifar10      # after `make.py supernets`
"""

from dataclasses import replace
from pathlib import Path

import torch
from make import FULL, opened, planned

from search.files import write_json
from search.recipes.schema import Training
from search.training.retrain import retrain

HERE = Path(__file__).parent
# Name: the supernet whose weights it begins with, the learning rate.
CASES = {"long": ("long", 0.05), "fresh": (None, 0.1)}
EPOCHS, WARMUP = 1, 0.1
SEED = 7  # none of a full training, whose luck it would share


def main() -> None:
    arguments, space, data = opened(__doc__, HERE / "tuned.json")
    data = replace(data, test=data.search)  # the test images stay out of it
    losses: dict[str, dict[str, float]] = {}
    for name, (supernet, lr) in CASES.items():
        config = Training(**FULL | {"epochs": EPOCHS, "warmup_epochs": WARMUP, "lr": lr})
        init = None if supernet is None else arguments.work / supernet
        losses[name] = {}
        for arch_id, arch in planned(space, arguments).items():
            out = arguments.work / "tuned" / name / arch_id
            metadata = retrain(arch, data, config, out, seed=SEED, device=torch.device("cpu"), init=init)
            assert metadata
            losses[name][arch_id] = metadata.test_accuracy
        write_json(arguments.out, {"epochs": EPOCHS, "judges": len(data.test), "accuracy": losses})


if __name__ == "__main__":
    main()
