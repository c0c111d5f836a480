"""One layer's weights by least squares: a convolution and its norm, from what goes in and what is to come out.

The filters are drawn to a prior, so where that gives what is wanted it comes out unchanged. The norm takes the
statistics of what the filters put out, and the slope that undoes them.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ghostnet.least_squares import Ridge


@dataclass(frozen=True)
class Affine:
    """y = weight x + bias, [..., q, c] and [..., q]; `mean` and `variance` of weight x, [..., q]."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor


def fit_affine(
    x: Tensor, y: Tensor, prior: Tensor, strength: float, fitted: Tensor | None = None, relu_steps: int = 0
) -> Affine:
    """Least squares of y [..., q, S] on x [..., c, S] and a constant.

    Where a ReLU follows, an output that is negative where y is costs nothing. That is no longer least squares, but a
    few of them, each with such targets moved to what the one before gave, come near: none has a larger error than the
    one before (majorisation and minimisation).

    Args:
        prior: what the weights are drawn to, [..., q, c].
        strength: of that, in the mean power of x.
        fitted: [..., q]; outputs where it is false keep the prior and get mean 0 and variance 1. All where None.
        relu_steps: fits after the first one, for outputs that a ReLU follows.
    """
    count = x.shape[-1]
    even = x.new_full((count, 1), 1 / count)  # a product is faster than a mean across memory
    mean = (x @ even)[..., 0].double()
    gram = (x @ x.mT).double() / count - mean[..., :, None] * mean[..., None, :]

    ridge = Ridge(gram, strength)

    def fit(target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The weights, the means of what they put out, and of what they should."""
        wanted = (target @ even)[..., 0].double()
        cross = (target @ x.mT).double() / count - wanted[..., :, None] * mean[..., None, :]
        if fitted is not None:
            cross = torch.where(fitted[..., None], cross, prior @ gram)
        weight = ridge.solve(cross, prior)
        return weight, (weight @ mean[..., None])[..., 0], wanted

    weight, out, wanted = fit(y)
    if relu_steps:  # y where it is positive; elsewhere what is given, as far as it is negative
        low, high = F.threshold(y, 0, -torch.inf), y.clamp_min(0)
    for _ in range(relu_steps):
        given = (weight.to(x.dtype) @ x).add_((wanted - out).to(x.dtype)[..., None])
        weight, out, wanted = fit(given.clamp_(low, high))
    variance = ((weight @ gram) * weight).sum(-1).clamp_min(0)
    if fitted is not None:
        size = torch.where(fitted, 1, (variance + 1e-5).rsqrt())
        weight, out, variance = weight * size[..., None], out * size, variance * size.square()
        wanted = torch.where(fitted, wanted, 0)
    return Affine(weight, wanted - out, out, variance)


def set_norm(bn: Any, fit: Affine) -> None:
    """A norm that adds the bias to what it is given, and knows its statistics."""
    bn.running_mean.copy_(fit.mean.flatten())
    bn.running_var.copy_(fit.variance.flatten())
    bn.weight.copy_((fit.variance.flatten() + bn.eps).sqrt())
    bn.bias.copy_((fit.mean + fit.bias).flatten())
