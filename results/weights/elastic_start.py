"""An elastic supernet that begins from a parent, for the one honest chance that it gets.

Each ghost ratio has Ghost modules of its own (`results/fidelity/per_ratio.py`), which begin as those of the widest
GhostNet of that ratio, transplanted, with the parent's channels at the same places, so that blocks of all ratios fit
together; the parent's channels stand in the order of their importance, so that narrower networks, which are the leading
corners, keep the best; the parent teaches every network of each step.
"""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ghostnet import Arch, GhostNet, Transplants
from ghostnet.supernet import Supernet, leading_slice
from ghostnet.transplant.arrangement import Arrangement, Channels, stream_numbers
from search.data.datasets import Data
from search.recipes.schema import SupernetTraining, Training
from search.training.elastic import even
from search.training.loop import fit
from search.training.losses import Loss
from search.training.teacher import Teacher
from spaces.space import Space

PER_RATIO = Path(__file__).parents[1] / "fidelity" / "per_ratio.py"
PARENTS_RATIO = 2


def per_ratio() -> ModuleType:
    """The module of the fidelity study that has supernets of several sets of weights."""
    spec = importlib.util.spec_from_file_location("per_ratio", PER_RATIO)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_ratio(arch: Arch, ratio: int) -> Arch:
    """The same network with another s in every block."""
    content = arch.to_dict()
    for stage in content["stages"]:
        for block in stage:
            block["ratio"] = ratio
    return Arch.from_dict(content)


@torch.no_grad()
def in_order(parent: GhostNet, arrangement: Arrangement) -> GhostNet:
    """The parent, of s = 2 in every block, changed in place: primaries stand in the order of what they and their ghosts
    are to their readers. Its outputs stay as they are."""
    net: Any = parent
    streams = stream_numbers(parent)
    orders = {number: _order(arrangement, number) for number in set(streams)}
    insides = {name: _order(arrangement, name) for name in parent.arch.block_names}
    _permute_rows([net.conv_stem, net.bn1], orders[0])
    for k, name in enumerate(parent.arch.block_names):
        block, source, inside, own = net.get_submodule(name), orders[streams[k]], insides[name], orders[streams[k + 1]]
        _permute_ghost(block.ghost1, source, inside)
        if block.conv_dw is not None:
            _permute_rows([block.conv_dw, block.bn_dw], inside)
        if block.se is not None:
            _permute_columns(block.se.conv_reduce, inside)
            _permute_rows([block.se.conv_expand], inside)
        _permute_ghost(block.ghost2, inside, own)
        if not isinstance(block.shortcut, nn.Identity):
            _permute_rows([*block.shortcut[:2]], source)
            _permute_columns(block.shortcut[2], source)
            _permute_rows([*block.shortcut[2:4]], own)
    tail, order = net.blocks[-1][0], torch.from_numpy(arrangement.order_of_tail.copy())
    _permute_columns(tail.conv, orders[streams[-1]])
    _permute_rows([tail.conv, tail.bn1], order)
    _permute_columns(net.conv_head, order)
    return parent


def _order(arrangement: Arrangement, where: int | str) -> Tensor:
    variances, readers = arrangement._read(where)
    weight = variances.diagonal() * np.square(readers).sum(0)
    half = len(weight) // 2
    primaries = torch.from_numpy(np.argsort(-(weight[:half] + weight[half:]), kind="stable").copy())
    return torch.cat([primaries, half + primaries])


def _permute_ghost(module: Any, source: Tensor, own: Tensor) -> None:
    primaries = own[: len(own) // 2]
    _permute_columns(module.primary_conv[0], source)
    _permute_rows(module.primary_conv[:2], primaries)
    _permute_rows(module.cheap_operation[:2], primaries)


def _permute_rows(modules: Any, order: Tensor) -> None:
    for module in modules:
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.ndim:  # not a norm's counter
                tensor.copy_(tensor[order].clone())


def _permute_columns(module: Any, order: Tensor) -> None:
    module.weight.copy_(module.weight[:, order].clone())


class FixedOrder(Arrangement):
    """Every channel at the parent's own place, whatever the ratio, so that modules of all ratios fit together."""

    def stream(self, stream: int, writer: str | None, n: int, m: int, kernel: int) -> Channels:
        return np.arange(n)

    def inside(self, name: str, n: int, m: int, kernel: int) -> Channels:
        return np.arange(n)


@torch.no_grad()
def begun(space: Space, parent: GhostNet, images: Tensor, generator: torch.Generator) -> Supernet:
    """The supernet of a space that begins from a parent of s = 2.

    Args:
        images: that transplants are fitted on.
    """
    parent = in_order(parent, Transplants(parent, images).arrangement)
    transplants, widest = Transplants(parent, images), space.uniform(max(space.widths))
    known = transplants.arrangement
    transplants.arrangement = FixedOrder(parent, known.targets, known.images, known.settings)
    kind = per_ratio().PerRatioSupernet
    supernet: Any = kind(space.bounds, space.num_classes, space.in_chs, generator=generator)
    table = supernet._tensors()
    for ratio in sorted({block.ratio for arch in space.bounds for block in arch.blocks} | {1, 2, 3, 4}):
        for arch in (space.largest, widest):  # the former for SE where the family has none, which begins without effect
            for name, tensor in transplants.extract(with_ratio(arch, ratio)).named_parameters():
                own = f"{name}_s{ratio}" if supernet._is_split(name) else name
                if own != name or ratio == PARENTS_RATIO:
                    leading_slice(table[own], tensor.shape).copy_(tensor)
    return supernet


def train_taught(
    supernet: Supernet,
    space: Space,
    data: Data,
    config: SupernetTraining,
    taught: Training,
    teacher: Teacher,
    seed: int,
) -> None:
    """Trains a supernet in place: in every step the largest network, the smallest and some random ones learn from the
    labels and from the teacher, who is asked once.

    Args:
        taught: how much of the loss is the teacher's, and at which temperature.
    """

    def step(images: Tensor, labels: Tensor, rng: np.random.Generator) -> float:
        known = teacher(images)
        loss_of = Loss(taught, lambda _: known)
        losses = []
        for arch in [space.largest, *even(space, config.random, rng), space.smallest]:
            loss = loss_of(supernet(images, arch), labels, images)
            loss.backward()
            losses.append(loss.item())
        return losses[0]

    fit(
        supernet.train(),
        data,
        config,
        step,
        checkpoint=None,
        identity={},
        seed=seed,
        device=torch.device("cpu"),
        title="supernet begun from the parent",
    )
