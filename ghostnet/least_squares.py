"""Least squares from second moments, and which maps stand for the others: what `ghostify` and transplants share.

A linear layer that is to put out y where x comes in needs only E x x^T and E y x^T. With d x d filters from one map to
another, x is the map's d^2 shifts, and the same moments tell how much of every map a filter of every other explains.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

TOGETHER = 256  # positions whose products are summed at once: of small maps those of one image are fewer than channels
FLOOR = 1e-30  # of a mean power: maps that are zero everywhere keep their equations solvable
Gains = NDArray[np.float64]  # [j, i]: what map i explains of map j


class Ridge:
    """Ridge regressions of any outputs y on one x, whose second moments are decomposed once.

    Args:
        gram: E x x^T, [..., c, c].
        strength: of the damping, in p, the mean power of x.
    """

    def __init__(self, gram: Tensor, strength: float) -> None:
        power = gram.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(FLOOR)
        damping = strength * power[..., None, None] * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        self.gram, self.factors = gram, torch.linalg.lu_factor(gram + damping)

    def solve(self, cross: Tensor, prior: Tensor | None = None) -> Tensor:
        """The W [..., q, c] that minimises E |W x - y|^2 + strength p |W - prior|^2.

        Args:
            cross: E y x^T, [..., q, c].
            prior: [..., q, c]; zero where None. If it solves the problem, it comes out unchanged.
        """
        missing = cross if prior is None else cross - prior @ self.gram
        change = torch.linalg.lu_solve(*self.factors, missing.mT).mT
        return change if prior is None else prior + change


@dataclass(frozen=True)
class Moments:
    """Second moments of n output maps over d^2 shifts of n input maps, which may be the same.

    Args:
        auto: E x_i(t + u) x_i(t + v), [n, d^2, d^2].
        cross: E x_i(t + v) y_j(t), [n (j), n (i), d^2].
        power: E y_j(t)^2, [n].
        mean: what was taken from the outputs before, [n].
    """

    auto: Tensor
    cross: Tensor
    power: Tensor
    mean: Tensor

    def filters(self, strength: float) -> tuple[Tensor, Gains]:
        """The best filter from every map to every map, [n (j), n (i), d^2], and the power that it explains, [j, i];
        a map explains all of itself."""
        filters = Ridge(self.auto, strength).solve(self.cross.transpose(0, 1)).transpose(0, 1)
        gain = (filters * self.cross).sum(-1).clamp_min(0).cpu().numpy()
        np.fill_diagonal(gain, self.power.cpu().numpy())
        return filters, gain


def shifts(maps: Tensor, kernel: int) -> Tensor:
    """[n, h, w] -> [n, kernel^2, h w]: what a padded filter reads at every position"""
    return F.unfold(maps[:, None], kernel, padding=kernel // 2)


def seen_moments(outputs: Tensor, cheap_kernel: int, centred: bool, inputs: Tensor | None = None) -> Moments:
    """Moments of outputs [B, n, h, w], and of `inputs` of that shape where filters read something else than outputs.

    Args:
        centred: takes the means off, for a filter that is followed by a bias or a norm.
    """

    def less_mean(maps: Tensor) -> tuple[Tensor, Tensor]:
        mean = maps.mean((0, 2, 3)) if centred else maps.new_zeros(maps.shape[1])
        return maps - mean[:, None, None], mean

    y, mean = less_mean(outputs.detach().double())
    x = y if inputs is None else less_mean(inputs.detach().double())[0]
    n, taps = y.shape[1], cheap_kernel**2
    auto, cross = y.new_zeros(n, taps, taps), y.new_zeros(taps, n, n)
    some = max(1, TOGETHER // y[0, 0].numel())
    for images, targets in zip(x.split(some), y.split(some), strict=True):
        shifted = shifts(images.flatten(0, 1), cheap_kernel).unflatten(0, images.shape[:2])  # [B, n, taps, h w]
        shifted = shifted.permute(1, 2, 0, 3).flatten(2)
        auto += shifted @ shifted.mT
        cross += targets.transpose(0, 1).flatten(1) @ shifted.permute(1, 2, 0)
    count = y.numel() / n
    return Moments(auto / count, cross.permute(1, 2, 0) / count, y.square().mean((0, 2, 3)), mean)


def choose_primaries(gain: Gains, count: int, groups: int = 1, first: Sequence[int] = ()) -> NDArray[np.int64]:
    """Primaries one at a time, each the one that adds most to sum_j max_i gain[j, i], as many from each group.

    The objective is submodular, so greedy reaches 1 - 1/e of the optimum (Nemhauser et al., 1978); and what a
    candidate adds only falls as others join, so stale values are upper bounds and few are looked at again.

    Args:
        first: maps that come before all others.
    """
    n = len(gain)
    room = np.full(groups, count // groups)
    best = np.zeros(n)
    later = ~np.isin(np.arange(n), first)
    heap = [(bool(later[i]), -float(column.sum()), i, 0) for i, column in enumerate(gain.T)]
    heapq.heapify(heap)
    chosen: list[int] = []
    while len(chosen) < count:
        _, _, i, seen = heapq.heappop(heap)
        if not room[i * groups // n]:
            continue
        if seen < len(chosen):
            adds = float(np.maximum(gain[:, i] - best, 0).sum())
            heapq.heappush(heap, (bool(later[i]), -adds, i, len(chosen)))
            continue
        chosen.append(i)
        room[i * groups // n] -= 1
        best = np.maximum(best, gain[:, i])
    return np.array(chosen, dtype=np.int64)


def assign_ghosts(gain: Gains, primaries: NDArray[np.int64], num_ghosts: int) -> NDArray[np.int64]:
    """Which of the other maps stands at each of a Ghost module's places for ghosts, of which place k is a filter of
    primary k mod m, so that most is explained; -1 at places that are left over: [num_ghosts]"""
    from scipy.optimize import linear_sum_assignment

    others = np.setdiff1d(np.arange(len(gain)), primaries)
    sources = primaries[np.arange(num_ghosts) % len(primaries)]
    index, other = linear_sum_assignment(gain[np.ix_(others, sources)].T, maximize=True)
    ghosts = np.full(num_ghosts, -1)
    ghosts[index] = others[other]
    return ghosts


def choose_columns(covariance: Gains, readers: Gains) -> NDArray[np.int64]:
    """All channels in the order in which they serve their readers: each next one leaves the least of what
    `readers` [q, n] read that a linear map of the ones before and it can't tell (greedy column subset selection). Those
    that add nothing, or that nobody reads, follow by what they give alone.

    Args:
        covariance: of the channels, [n, n].
    """
    left, read = covariance.copy(), readers @ covariance
    alone = covariance.diagonal() * np.square(readers).sum(0)
    waiting = alone > 0
    smallest = 1e-9 * covariance.diagonal().mean()
    order: list[int] = []
    while (useful := waiting & (left.diagonal() > smallest)).any():
        value = np.where(useful, np.square(read).sum(0) / np.maximum(left.diagonal(), smallest), -1.0)
        i = int(value.argmax())
        order.append(i)
        waiting[i] = False
        projection = left[i] / left[i, i]
        read, left = read - np.outer(read[:, i], projection), left - np.outer(left[:, i], projection)
    rest = np.argsort(-alone, kind="stable")
    return np.concatenate([np.array(order, np.int64), rest[~np.isin(rest, order)]])
