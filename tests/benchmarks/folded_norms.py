"""A network that only answers: as it stands, and with its norms folded into its convolutions."""

import argparse
import json
from functools import partial

import torch

from ghostnet import GhostNet
from ghostnet.inference import fold_norms
from spaces import named_space
from tests.benchmarks.timing import medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="digits")
    parser.add_argument("--images", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    space = named_space(arguments.space)
    shape = (arguments.images, space.in_chs, space.resolution, space.resolution)
    images = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    for width in (0.5, 1.0):
        net = (
            GhostNet(space.uniform(width), space.num_classes, space.in_chs).eval().to(memory_format=torch.channels_last)
        )
        folded = fold_norms(net)
        with torch.inference_mode():
            seconds = medians(
                {"as it stands": partial(net, images), "folded": partial(folded, images)}, arguments.rounds
            )
        ratio = seconds["folded"] / seconds["as it stands"]
        print(
            json.dumps(
                {
                    "width": width,
                    "ms": {name: round(1000 * s, 2) for name, s in seconds.items()},
                    "ratio": round(ratio, 3),
                }
            )
        )


if __name__ == "__main__":
    main()
