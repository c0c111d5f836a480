"""Multiply-adds and parameters of any module, counted while it runs: torch's own flop counter, halved."""

from collections import defaultdict

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ghostnet.cost import Cost
from ghostnet.inference import evaluating


def count(model: nn.Module, shape: tuple[int, ...]) -> Cost:
    """MACs for one image of `shape` (channels, height, width) in evaluation mode, and learned parameters."""
    return Cost(sum(count_layers(model, shape).values()), sum(p.numel() for p in model.parameters()))


def count_layers(model: nn.Module, shape: tuple[int, ...]) -> dict[str, int]:
    """MACs by the name of the innermost module that made them; a module that made none is left out."""
    first = next(model.parameters())
    with evaluating(model), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *shape, device=first.device, dtype=first.dtype))
    flops = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    inside: defaultdict[str, int] = defaultdict(int)
    for name, value in flops.items():
        if name != "Global":
            inside[name.rpartition(".")[0]] += value
    root = type(model).__name__
    return {
        name.removeprefix(f"{root}."): (value - inside[name]) // 2
        for name, value in flops.items()
        if name != "Global" and value > inside[name]
    }
