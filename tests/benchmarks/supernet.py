"""What weight sharing costs: a sandwich step against the same four networks standing alone, and evaluation likewise."""

import argparse
import json
import os
import subprocess
import sys

import numpy as np
import torch
import torch.nn.functional as F

from ghostnet import Supernet
from spaces import named_space
from tests.benchmarks.timing import medians

EVALUATED = 5000  # images a network is recalibrated and evaluated on


def memory(space: str, what: str, batch: int = 1024) -> float:
    """Peak resident memory, in bytes over what is there before, of some steps in a process of their own."""
    program = MEMORY.format(space=space, what=what, batch=batch)
    env = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}  # freed memory goes back at once
    return float(subprocess.run([sys.executable, "-c", program], env=env, check=True, capture_output=True).stdout)


MEMORY = """
import resource, numpy as np, torch, torch.nn.functional as F
from ghostnet import Supernet
from spaces import named_space
space, rng = named_space("{space}"), np.random.default_rng(0)
supernet = Supernet(space.bounds, space.num_classes, space.in_chs).to(memory_format=torch.channels_last)
net = supernet.extract(space.largest).to(memory_format=torch.channels_last)
shared = "{what}" == "sandwich"
parameters = supernet.parameters() if shared else net.parameters()
optimizer = torch.optim.SGD(parameters, 1e-3, momentum=0.9)
images = torch.randn({batch}, space.in_chs, space.resolution, space.resolution)
images = images.contiguous(memory_format=torch.channels_last)
labels = torch.randint(space.num_classes, ({batch},))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(3):
    optimizer.zero_grad()
    archs = [space.largest, space.sample(rng), space.sample(rng), space.smallest] if shared else [space.largest]
    for arch in archs:
        F.cross_entropy(supernet(images, arch) if shared else net(images), labels).backward()
    optimizer.step()
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


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
    def evaluate_extracting() -> None:
        """What a search does for each network (`search.training.evaluate`): extract, then run all batches."""
        for arch in archs:
            run(supernet.extract(arch).to(memory_format=torch.channels_last))

    @torch.no_grad()
    def evaluate_extracted() -> None:
        for net in alone:
            run(net)

    def run(net: torch.nn.Module) -> None:
        for _ in range(EVALUATED // arguments.batch):
            net(images)

    step = medians({"shared": sandwich, "alone": one_after_the_other}, arguments.rounds)
    supernet.eval()
    for net in alone:
        net.eval()
    evaluation = medians({"shared": evaluate_extracting, "alone": evaluate_extracted}, -(-arguments.rounds // 3))
    extraction = medians({"extract": lambda: supernet.extract(space.sample(rng))}, arguments.rounds)
    output = {
        "space": space.name,
        "threads": arguments.threads,
        "sandwich_step_over_four_alone": step["shared"] / step["alone"],
        "images_per_second_evaluated_over_extracted": evaluation["alone"] / evaluation["shared"],
        "extract_ms": 1e3 * extraction["extract"],
        "peak_memory_over_largest_alone": memory(arguments.space, "sandwich") / memory(arguments.space, "largest"),
    }
    print(json.dumps(output, indent=2))


if __name__ == "__main__":
    main()
