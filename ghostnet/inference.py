"""A network as it is run, when it is trained no more: norms folded into the convolutions before them."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ghostnet.modules import CheapConv
from ghostnet.network import GhostNet

Module = TypeVar("Module", bound=nn.Module)
# Bytes of one network's largest maps, while it runs through many images: what caches hold, and what fills a GPU.
AT_ONCE, AT_ONCE_ON_GPU = 3 << 25, 1 << 30


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; then every module is in its own mode again, frozen norms in evaluation mode, too."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def for_inference(net: nn.Module) -> nn.Module:
    """A network in evaluation mode; of a GhostNet a copy with its norms folded."""
    return fold_norms(net) if isinstance(net, GhostNet) else net.eval()


@torch.no_grad()
def fold_norms(module: Module) -> Module:
    """A GhostNet, or a part of one, as it is in evaluation mode: it computes the same in half to three quarters of the
    time, since a norm of its own would read and write every map once more (`tests/benchmarks/folded_norms.py`). What
    has no norm behind it shares its parameters with the original, which stays as it is."""
    folded = copy(module)
    folded.training = False
    folded._modules = {name: child and fold_norms(child) for name, child in module._modules.items()}
    folded._parameters = dict(module._parameters)
    for (_, conv), (name, norm) in pairwise(folded.named_children()):
        if isinstance(conv, nn.Conv2d | CheapConv) and isinstance(norm, nn.BatchNorm2d):
            mean, variance = norm.running_mean, norm.running_var
            assert mean is not None and variance is not None
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, mean, variance, norm.eps, norm.weight, norm.bias
            )
            folded._modules[name] = nn.Identity()
    return folded


def images_at_once(images: Tensor) -> int:
    """How many of the images [N, C, H, W] a network is given at a time."""
    at_once = AT_ONCE_ON_GPU if images.is_cuda else AT_ONCE
    return max(1, at_once // (64 * images[0].numel() * images.element_size()))
