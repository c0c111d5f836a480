"""A network that is run through many images: as many at once as caches hold, and other numbers of them."""

import argparse
import json
from functools import partial

import torch
from torch import Tensor, nn

from ghostnet import GhostNet
from ghostnet.inference import fold_norms, images_at_once
from spaces import named_space
from tests.benchmarks.timing import medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="cifar")
    parser.add_argument("--sizes", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--counts", type=int, nargs="+", default=[8, 64, 250])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    space = named_space(arguments.space)
    net = GhostNet(space.uniform(1.0), space.num_classes, space.in_chs).eval()
    folded = fold_norms(net.to(memory_format=torch.channels_last))
    for size in arguments.sizes:
        images = torch.randn(arguments.images, space.in_chs, size, size).contiguous(memory_format=torch.channels_last)
        ours = images_at_once(images)
        runs = {str(count): partial(run, folded, images, count) for count in arguments.counts}
        seconds = medians({f"ours, {ours}": partial(run, folded, images, ours)} | runs, arguments.rounds)
        first, *others = seconds
        ratios = {other: round(seconds[other] / seconds[first], 2) for other in others}
        print(json.dumps({"size": size, first: 1.0} | ratios), flush=True)


@torch.inference_mode()
def run(net: nn.Module, images: Tensor, count: int) -> None:
    """Shows a network the images, `count` at a time."""
    for part in images.split(count):
        net(part)


if __name__ == "__main__":
    main()
