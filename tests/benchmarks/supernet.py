"""What weight sharing costs: a sandwich step against the same four networks standing alone, and evaluation likewise."""

import argparse
import json

import numpy as np
import torch
import torch.nn.functional as F

from ghostnet import Supernet
from spaces import named_space
from tests.benchmarks.timing import medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="digits")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    space, rng = named_space(arguments.space), np.random.default_rng(0)
    supernet = Supernet(space.bounds, space.num_classes, space.in_chs).to(memory_format=torch.channels_last)
    archs = [space.largest, space.sample(rng), space.sample(rng), space.smallest]
    alone = [supernet.extract(arch).to(memory_format=torch.channels_last) for arch in archs]
    shared_optimizer = torch.optim.SGD(supernet.parameters(), 1e-3, momentum=0.9)
    optimizers = [torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9) for net in alone]
    shape = (arguments.batch, space.in_chs, space.resolution, space.resolution)
    images = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(space.num_classes, shape[:1])

    def sandwich() -> None:
        shared_optimizer.zero_grad()
        for arch in archs:
            F.cross_entropy(supernet(images, arch), labels).backward()
        shared_optimizer.step()

    def one_after_the_other() -> None:
        for net, optimizer in zip(alone, optimizers, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(net(images), labels).backward()
            optimizer.step()

    @torch.no_grad()
    def evaluate_slices() -> None:
        for arch in archs:
            supernet(images, arch)

    @torch.no_grad()
    def evaluate_extracted() -> None:
        for net in alone:
            net(images)

    step = medians({"shared": sandwich, "alone": one_after_the_other}, arguments.rounds)
    supernet.eval()
    for net in alone:
        net.eval()
    evaluation = medians({"shared": evaluate_slices, "alone": evaluate_extracted}, arguments.rounds)
    extraction = medians({"extract": lambda: supernet.extract(space.sample(rng))}, arguments.rounds)
    facts = {
        "space": space.name,
        "threads": arguments.threads,
        "sandwich_step_over_four_alone": step["shared"] / step["alone"],
        "images_per_second_slice_over_extracted": evaluation["alone"] / evaluation["shared"],
        "extract_ms": 1e3 * extraction["extract"],
    }
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
