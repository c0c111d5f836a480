"""Which filters of a trained convolution to keep as primaries, and which cheap operations come closest to the others.

With primaries given, the best d x d filter Phi from primary i to output j is a least-squares problem of d^2 unknowns:
minimise E |y_j(t) - sum_v Phi(v) y_i(t + v)|^2. It needs only second moments of the convolution's outputs, which come
either from its filters, for inputs that are uncorrelated and of equal variance (`white_moments`), or from outputs that
were seen (`ghostnet.least_squares.seen_moments`). Primaries are chosen greedily so that every output is explained best
by some primary, and outputs are dealt to primaries, each of which has s - 1 places, by an exact assignment.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghostnet.least_squares import FLOOR, Moments, assign_ghosts, choose_primaries

RIDGE = 1e-6  # of the mean power: keeps the normal equations solvable where a shifted map adds nothing


@dataclass(frozen=True)
class Approximation:
    """Channels kept as primaries [m] and made of them as ghosts [n - m], in a Ghost module's order; the ghosts'
    filters [n - m, d, d] and biases [n - m]; `explained`, the share of the outputs' power that is kept."""

    primaries: Tensor
    ghosts: Tensor
    filters: Tensor
    bias: Tensor
    explained: float


def white_moments(conv: nn.Conv2d, cheap_kernel: int) -> Moments:
    """Moments for inputs uncorrelated over pixels and channels, of variance one, away from the border.

    A shift by one output pixel is `stride` input pixels, and taps of a dilated filter meet only at its holes' pace:
    the cross-correlation of the filters is itself a strided, dilated convolution.
    """
    weight = conv.weight.detach().double()
    n, chs, *kernel = weight.shape
    (sy, sx), (dy, dx) = conv.stride, conv.dilation
    wide = weight.new_zeros(n, chs, (kernel[0] - 1) * dy + 1, (kernel[1] - 1) * dx + 1)
    wide[:, :, ::dy, ::dx] = weight
    half = cheap_kernel // 2
    cross = F.conv2d(wide, weight, stride=(sy, sx), dilation=(dy, dx), padding=(sy * half, sx * half)).flatten(2)
    if conv.groups > 1:  # outputs of different groups read different inputs
        group = torch.arange(n, device=weight.device) // (n // conv.groups)
        cross = cross * (group[:, None] == group)[..., None]
    padding = (2 * sy * half, 2 * sx * half)
    alone = wide.reshape(1, n * chs, *wide.shape[2:])
    lags = F.conv2d(alone, weight, stride=(sy, sx), dilation=(dy, dx), padding=padding, groups=n)[0]
    shift = torch.cartesian_prod(*[torch.arange(cheap_kernel)] * 2).reshape(-1, 2)
    lag = shift[:, None] - shift + 2 * half
    mean = conv.bias.detach().double() if conv.bias is not None else weight.new_zeros(n)
    return Moments(lags[:, lag[..., 0], lag[..., 1]], cross, weight.square().sum((1, 2, 3)), mean)


def solve(moments: Moments, primary: int, groups: int = 1) -> Approximation:
    """The approximation with `primary` primaries, as many from each group of outputs as from the others."""
    n, taps = len(moments.power), moments.auto.shape[1]
    filters, gain = moments.filters(RIDGE)
    primaries = np.sort(choose_primaries(gain, primary, groups))
    ghosts = assign_ghosts(gain, primaries, n - primary)
    sources = primaries[np.arange(len(ghosts)) % primary]  # ghost k is made of primary k mod m
    kept = gain[primaries, primaries].sum() + gain[ghosts, sources].sum()
    chosen = filters[ghosts, sources]
    side = int(taps**0.5)
    return Approximation(
        primaries=torch.from_numpy(primaries),
        ghosts=torch.from_numpy(ghosts),
        filters=chosen.reshape(-1, side, side),
        bias=moments.mean[ghosts] - chosen.sum(1) * moments.mean[sources],
        explained=float(kept / max(float(moments.power.sum()), FLOOR)),
    )
