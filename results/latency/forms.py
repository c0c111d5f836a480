"""The networks and layers of `lowering.py`, each in every form of the cheap op, ready to be timed."""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from timm.models.ghostnet import GhostModule as TheirModule
from torch import nn

from ghostnet import GhostModule, GhostNet, published
from ghostnet.arch import Arch
from ghostnet.modules import CheapConv
from search.graphs.lowering import LOWERINGS, lower_module
from search.latency.runtimes import Dtype, Shape, runtime
from spaces import named_space

BASE, USUAL = "split", "usual"
NETWORK = "GhostNet"
RATIOS = (2, 3, 4)
# Input channels, output channels, side, d: a Ghost module at the beginning, in the middle and at the end of a GhostNet.
PLACES = ((24, 72, 56, 3), (40, 120, 28, 5), (80, 184, 14, 3), (160, 960, 7, 3))
TRAINING_PLACES = ((40, 120, 16, 3), (80, 184, 8, 5))
SLOW = ("executorch",)  # to compile: networks only
# OpenVINO 2026.4's compiler crashes (a segmentation fault) on whole int8 networks with closing slices that cut nothing.
CRASHES = ("openvino", "int8", NETWORK, USUAL)

Case = tuple[str, int, nn.Module, Shape]  # what it is, s, the module, its input
Timed = Iterator[tuple[str, int, dict[str, Callable[[], int]]]]  # what it is, s, a timer a form


def inference(name: str, dtype: Dtype, batch: int, threads: int, quick: bool) -> Timed:
    """Whole networks, then layers, on one runtime."""
    arch = published("ghostnet-0.5" if quick else "ghostnet-1.0")
    side = 64 if quick else arch.resolution
    cases: list[Case] = [
        (NETWORK, s, GhostNet(of_ratio(arch, s)), (3, side, side)) for s in (RATIOS[1:2] if quick else RATIOS)
    ]
    if name not in SLOW:
        cases += layers(PLACES[-1:] if quick else PLACES)
    for what, ratio, module, shape in cases:
        images = np.random.default_rng(0).standard_normal((batch, *shape), dtype=np.float32)
        timers = {}
        for form in forms(ratio):
            if (name, dtype, what, form) == CRASHES:
                continue
            run = runtime(name, threads, dtype, BASE if form == USUAL else form)  # type: ignore[arg-type]
            net = usual(module) if form == USUAL else module
            timers[form] = run.load(run.compile(net.eval(), shape, batch)).timer(images)
        yield what, ratio, timers


def training(device: str, batch: int, quick: bool) -> Timed:
    """Whole networks, then layers: forward and backward."""
    arch = named_space("cifar").uniform(0.5 if quick else 1.0)
    side = arch.resolution
    cases = [(f"{NETWORK} at {side} x {side}", s, GhostNet(of_ratio(arch, s), 10), (3, side, side)) for s in RATIOS]
    for what, ratio, module, shape in cases + layers(() if quick else TRAINING_PLACES):
        nets = {form: usual(module) if form == USUAL else lower_module(module, form) for form in forms(ratio)}  # type: ignore[arg-type]
        yield what, ratio, {form: training_step(net, (batch, *shape), device) for form, net in nets.items()}


def forms(ratio: int) -> tuple[str, ...]:
    """At s = 2 the lowerings are one and the same."""
    return (USUAL, BASE) if ratio == 2 else (USUAL, *LOWERINGS)


def usual(module: nn.Module) -> nn.Module:
    """A copy with timm's Ghost modules in place of ours; with fresh weights, which take as long as any."""
    holder = nn.Sequential(copy.deepcopy(module))
    for parent in list(holder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, GhostModule) and child.cheap_operation:
                setattr(parent, name, _theirs(child))
    return holder[0]


def _theirs(ours: GhostModule) -> TheirModule:
    assert ours.cheap_operation is not None
    primary, cheap = ours.primary_conv[0], ours.cheap_operation[0]
    assert isinstance(primary, nn.Conv2d) and isinstance(cheap, CheapConv)
    act = nn.ReLU if isinstance(ours.primary_conv[-1], nn.ReLU) else nn.Identity
    ratio, out_chs = 1 + len(cheap.replicas), primary.out_channels + cheap.out_chs
    return TheirModule(primary.in_channels, out_chs, ratio=ratio, dw_size=cheap.kernel, act_layer=act)


def of_ratio(arch: Arch, ratio: int) -> Arch:
    return replace(arch, stages=tuple(tuple(replace(block, ratio=ratio) for block in stage) for stage in arch.stages))


def layers(shapes: tuple[tuple[int, int, int, int], ...]) -> list[Case]:
    return [
        (
            f"{in_chs} to {out_chs} channels, {size} x {size}, d = {kernel}",
            ratio,
            GhostModule(in_chs, out_chs, ratio, kernel),
            (in_chs, size, size),
        )
        for in_chs, out_chs, size, kernel in shapes
        for ratio in RATIOS
    ]


def training_step(net: nn.Module, shape: tuple[int, ...], device: str) -> Callable[[], int]:
    """Forward and backward, in nanoseconds."""
    net, x = net.train().to(device), torch.randn(shape, device=device)

    def settle() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def once() -> int:
        net.zero_grad()
        settle()
        start = time.perf_counter_ns()
        net(x).sum().backward()
        settle()
        return time.perf_counter_ns() - start

    return once
