"""Which filters of a trained convolution to keep as primaries, and which cheap operations come closest to the others.

With primaries given, the best d x d filter Phi from primary i to output j is a least-squares problem of d^2 unknowns:
minimise E |y_j(t) - sum_v Phi(v) y_i(t + v)|^2. It needs only second moments of the convolution's outputs, which come
either from its filters, for inputs that are uncorrelated and of equal variance (`white_moments`), or from outputs that
were seen (`seen_moments`). Primaries are chosen greedily so that every output is explained best by some primary (the
objective is submodular, so greedy reaches 1 - 1/e of the optimum: Nemhauser et al., 1978), and outputs are dealt to
primaries, each of which has s - 1 places, by an exact assignment.
"""

import heapq
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

RIDGE = 1e-6  # of the mean power: keeps the normal equations solvable where a shifted map adds nothing


@dataclass(frozen=True)
class Moments:
    """Second moments of n output maps over d^2 shifts.

    Args:
        auto: E y_i(t + u) y_i(t + v), [n, d^2, d^2].
        cross: E y_i(t + v) y_j(t), [n (j), n (i), d^2].
        power: E y_j(t)^2, [n].
        mean: what was taken from the outputs before, [n].
    """

    auto: Tensor
    cross: Tensor
    power: Tensor
    mean: Tensor


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


def seen_moments(outputs: Tensor, cheap_kernel: int, centred: bool) -> Moments:
    """Moments of outputs [B, n, h, w]; `centred` takes their means off, for a ghost that has a bias to add them."""
    y = outputs.detach().double()
    n = y.shape[1]
    mean = y.mean((0, 2, 3)) if centred else y.new_zeros(n)
    y = y - mean[:, None, None]
    taps = cheap_kernel**2
    auto, cross = y.new_zeros(n, taps, taps), y.new_zeros(taps, n, n)
    for image in y:
        shifted = F.unfold(image[:, None], cheap_kernel, padding=cheap_kernel // 2)  # [n, d^2, h w]
        auto += shifted @ shifted.mT
        cross += image.flatten(1) @ shifted.permute(1, 2, 0)
    count = y.numel() / n
    return Moments(auto / count, cross.permute(1, 2, 0) / count, y.square().mean((0, 2, 3)), mean)


def solve(moments: Moments, primary: int, groups: int = 1) -> Approximation:
    """The approximation with `primary` primaries, as many from each group of outputs as from the others."""
    from scipy.optimize import linear_sum_assignment

    n, taps = len(moments.power), moments.auto.shape[1]
    ridge = RIDGE * moments.auto.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-30)
    auto = moments.auto + ridge[:, None, None] * torch.eye(taps, dtype=torch.float64, device=ridge.device)
    filters = torch.linalg.solve(auto, moments.cross.permute(1, 2, 0)).permute(2, 0, 1)  # [j, i, d^2]
    gain = (filters * moments.cross).sum(-1).clamp_min(0).cpu().numpy()
    np.fill_diagonal(gain, moments.power.cpu().numpy())
    primaries = _greedy(gain, primary, groups)
    ghosts = np.setdiff1d(np.arange(n), primaries)
    places = primaries[np.arange(len(ghosts)) % primary]  # ghost k is made of primary k mod m
    place, ghost = linear_sum_assignment(gain[np.ix_(ghosts, places)].T, maximize=True)
    assert (place == np.arange(len(ghosts))).all()
    dealt = ghosts[ghost]
    kept = gain[primaries, primaries].sum() + gain[dealt, places].sum()
    chosen = filters[dealt, places]
    side = int(taps**0.5)
    return Approximation(
        primaries=torch.from_numpy(primaries),
        ghosts=torch.from_numpy(dealt),
        filters=chosen.reshape(-1, side, side),
        bias=moments.mean[dealt] - chosen.sum(1) * moments.mean[places],
        explained=float(kept / max(float(moments.power.sum()), 1e-30)),
    )


def _greedy(gain: NDArray[np.float64], primary: int, groups: int) -> NDArray[np.int64]:
    """Primaries one at a time, each the one that adds most to sum_j max_i gain[j, i]; ordered by group.

    What a candidate adds only falls as others join, so stale values are upper bounds and few are looked at again.
    """
    n = len(gain)
    room = np.full(groups, primary // groups)
    best = np.zeros(n)
    heap = [(-float(column.sum()), i, 0) for i, column in enumerate(gain.T)]
    heapq.heapify(heap)
    chosen: list[int] = []
    while len(chosen) < primary:
        _, i, seen = heapq.heappop(heap)
        if not room[i * groups // n]:
            continue
        if seen < len(chosen):
            heapq.heappush(heap, (-float(np.maximum(gain[:, i] - best, 0).sum()), i, len(chosen)))
            continue
        chosen.append(i)
        room[i * groups // n] -= 1
        best = np.maximum(best, gain[:, i])
    return np.array(sorted(chosen), dtype=np.int64)
