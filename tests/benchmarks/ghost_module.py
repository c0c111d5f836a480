"""Our Ghost module against timm's generalised as usual (grouped cheap op, closing slice), at s = 2, 3, 4."""

import argparse
import json

import torch
from timm.models.ghostnet import GhostModule as TheirModule
from torch import nn

from ghostnet import GhostModule
from tests.benchmarks.timing import medians

# Input channels, output channels, side: a module at the beginning, in the middle and at the end of a GhostNet.
PLACES = ((24, 72, 56), (80, 184, 14), (160, 960, 7))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--cheap-kernel", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for in_chs, out_chs, size in PLACES:
        for ratio in (2, 3, 4):
            ours = GhostModule(in_chs, out_chs, ratio, arguments.cheap_kernel)
            theirs = TheirModule(in_chs, out_chs, ratio=ratio, dw_size=arguments.cheap_kernel)
            x = torch.randn(arguments.batch, in_chs, size, size, device=arguments.device)
            for layout in (torch.contiguous_format, torch.channels_last):
                both = {"ours": ours, "theirs": theirs}
                for net in both.values():
                    net.to(arguments.device, memory_format=layout)
                ratios = compare(both, x.contiguous(memory_format=layout), arguments.rounds)
                place = {"in_chs": in_chs, "out_chs": out_chs, "size": size, "ratio": ratio}
                rows.append(place | {"layout": str(layout).removeprefix("torch.")} | ratios)
                print(json.dumps(rows[-1]), flush=True)


def compare(both: dict[str, nn.Module], x: torch.Tensor, rounds: int) -> dict[str, float]:
    """How many times faster ours is than theirs, in evaluation and in a training step."""

    def evaluate(net: nn.Module) -> None:
        net.eval()
        with torch.no_grad():
            net(x)
        settle(x)

    def train(net: nn.Module) -> None:
        net.train()
        net(x.requires_grad_()).sum().backward()
        settle(x)

    result = {}
    for name, run in {"forward": evaluate, "training": train}.items():
        seconds = medians({key: (lambda net=net, run=run: run(net)) for key, net in both.items()}, rounds)
        result[f"{name}_speedup"] = round(seconds["theirs"] / seconds["ours"], 2)
    return result


def settle(x: torch.Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
