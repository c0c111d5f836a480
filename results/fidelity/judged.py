"""Does the loss on the search split rank networks better than accuracy there? For the networks and the supernets of
`make.py`, with the weights that lie in its work folder.

    python results/fidelity/judged.py --data parquet:../shared/data/cifar10      # after `make.py supernets`
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from make import SUPERNETS, opened, planned

from ghostnet.arch import Arch
from ghostnet.resize import resized
from search.data.datasets import Data
from search.files import read_json, write_json
from search.training.elastic import load_inherited
from search.training.evaluate import InheritedAccuracy
from search.training.records import SUPERNET_FILE

HERE = Path(__file__).parent


@torch.no_grad()
def loss(evaluate: InheritedAccuracy, data: Data, arch: Arch) -> float:
    """Mean cross-entropy on the search split, in nats, of the network with the supernet's weights, recalibrated."""
    net, total = evaluate.network(arch).eval(), 0.0
    for images, labels in data.batches(data.search):
        total += F.cross_entropy(net(resized(images, arch.resolution)), labels, reduction="sum").item()
    return total / len(data.search)


def main() -> None:
    arguments, space, data = opened(__doc__, HERE / "judged.json")
    losses = read_json(arguments.out)["loss"] if arguments.out.exists() else {}
    for name, (_, _, _, kind) in SUPERNETS.items():
        if name in losses or not (arguments.work / name / SUPERNET_FILE).exists():
            continue
        evaluate = load_inherited(arguments.work / name, data, kind)
        archs = planned(space, arguments)
        losses[name] = {arch_id: loss(evaluate, data, arch) for arch_id, arch in archs.items()}
        write_json(arguments.out, {"judges": len(data.search), "loss": losses})


if __name__ == "__main__":
    main()
