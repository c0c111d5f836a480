"""The exact Pareto front of objectives that are sums over units, by dynamic programming.

A network is a chain of units. Neighbouring stages share only a width, and all units the resolution, so what is best up
to a stage depends on what follows through these two alone (Bellman's principle; in several objectives: Henig,
Operations Research 1985). For each width and resolution the nondominated partial networks are kept, and no other can
become part of the front. The space may hold 10^20 networks; the sets that are kept have hundreds or thousands.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import moocore
import numpy as np
from numpy.typing import NDArray

from spaces.canonical import canonical_codes
from spaces.genes import Codes
from spaces.layout import Layout, Position
from spaces.tables import Floats, UnitTable

SLACK = 1e-9  # relative: sums in another order differ by rounding


@dataclass(frozen=True, slots=True)
class Limit:
    """An upper bound on a sum over units: multiply-adds, bytes, milliseconds."""

    table: UnitTable
    most: float


@dataclass(frozen=True, slots=True)
class Partial:
    """Nondominated beginnings of networks: their sums [n, columns], and their codes so far [n, genes]."""

    sums: Floats
    codes: Codes


def pareto_front(objectives: Sequence[UnitTable], limits: Sequence[Limit] = ()) -> tuple[Codes, Floats]:
    """All networks of a space that no other one betters in every sum, one for each point of the front.

    Args:
        objectives: what to make small, tables of one space.
        limits: what else a network must meet.

    Returns:
        Canonical codes [n, genes], and their sums [n, objectives], by the first objective. Nothing where no network
        meets the limits.
    """
    return _Chain(objectives, limits).front()


class _Chain:
    """Objectives and limits as columns over the positions of a space.

    Attributes:
        links: for each width gene along the chain its positions, each with its values by context,
            [width before, width, resolution, depth, own choices, columns].
        rest: for each number of links done, the least and the most that what follows can add, by width and resolution:
            [width, resolution, columns].
    """

    def __init__(self, objectives: Sequence[UnitTable], limits: Sequence[Limit]) -> None:
        tables = [*objectives, *(limit.table for limit in limits)]
        self.layout: Layout = tables[0].layout
        self.objectives = len(objectives)
        most = [limit.most + SLACK * abs(limit.most) for limit in limits]
        self.most = np.array([np.inf] * len(objectives) + most)
        self.canonical = canonical_codes(self.layout)
        choices = self.layout.choices
        self.resolutions = 1 if self.layout.resolution is None else int(choices[self.layout.resolution])
        values: list[Floats] = []
        for k, position in enumerate(self.layout.positions):
            roles = [1 if gene is None else int(choices[gene]) for gene in position.roles]
            values.append(np.stack([table.values[k].reshape(*roles, -1) for table in tables], axis=-1))
        pairs = zip(self.layout.positions, values, strict=True)
        self.links = [list(group) for _, group in groupby(pairs, key=lambda pair: pair[0].width)]
        self.rest = self._rest()

    def front(self) -> tuple[Codes, Floats]:
        """See `pareto_front`."""
        genes, columns = len(self.layout.genes), len(self.most)
        start = Partial(np.zeros((1, columns)), np.zeros((1, genes), dtype=np.int64))
        so_far = {(0, resolution): start for resolution in range(self.resolutions)}
        for done in range(len(self.links)):
            so_far = self._extend(so_far, done)
        ends = _union(list(so_far.values()))
        keep = _nondominated(ends.sums[:, : self.objectives])
        codes, sums = ends.codes[keep], ends.sums[keep, : self.objectives]
        order = np.lexsort(sums.T[::-1])
        return self.canonical.canonical(codes[order]), sums[order]

    def _extend(self, so_far: dict[tuple[int, int], Partial], done: int) -> dict[tuple[int, int], Partial]:
        """Nondominated beginnings with one more width gene's positions, by its width and the resolution."""
        (first, entry), *others = self.links[done]
        depth = next((p.depth for p, _ in self.links[done] if p.depth is not None), None)
        depths = 1 if depth is None else int(self.layout.choices[depth])
        longer: dict[tuple[int, int], Partial] = {}
        for width in range(entry.shape[1]):
            for resolution in range(self.resolutions):
                bounds = [self.rest[done + 1][:, width, resolution]]  # of what follows each position, the last first
                for _, values in reversed(others):
                    ways = values[0, width, resolution]
                    bounds.append(bounds[-1] + np.stack([ways.min((0, 1)), ways.max((0, 1))]))
                entered = []
                for before in range(entry.shape[0]):
                    part = so_far[before, resolution]
                    part = Partial(part.sums, part.codes.copy())
                    part.codes[:, first.width] = width
                    if self.layout.resolution is not None:
                        part.codes[:, self.layout.resolution] = resolution
                    entered.append(self._join(part, first, entry[before, width, resolution, 0]))
                begun = self._pruned(_union(entered), bounds[-1])
                deep = []
                for level in range(depths):
                    part = Partial(begun.sums, begun.codes.copy())
                    if depth is not None:
                        part.codes[:, depth] = level
                    for (position, values), bound in zip(others, reversed(bounds[:-1]), strict=True):
                        context = values[0, width, resolution, level if position.depth is not None else 0]
                        part = self._pruned(self._join(part, position, context), bound)
                    deep.append(part)
                longer[width, resolution] = self._pruned(_union(deep), bounds[0])
        return longer

    def _join(self, part: Partial, position: Position, values: Floats) -> Partial:
        """Every beginning, in one context, with each choice of a position's own genes, [own choices, columns]: with
        canonical ones, which no other betters."""
        if not len(part.codes):
            return part
        own = list(position.own)
        ways = np.repeat(part.codes[:1], len(values), 0)
        if own:
            ways[:, own] = np.stack(np.unravel_index(np.arange(len(values)), self.layout.choices[own]), 1)
            canonical = (self.canonical.canonical(ways)[:, own] == ways[:, own]).all(1)
            ways, values = ways[canonical], values[canonical]
        best = _nondominated(values)
        ways, values = ways[best], values[best]
        codes = part.codes.repeat(len(ways), 0)
        codes[:, own] = np.tile(ways[:, own], (len(part.codes), 1))
        return Partial((part.sums[:, None] + values).reshape(len(codes), -1), codes)

    def _pruned(self, part: Partial, bound: NDArray[np.float64]) -> Partial:
        """Without what no completion brings inside the limits, and without what another beginning betters in every
        objective and in every limit that may still be broken.

        Args:
            bound: the least and the most that can follow, [2, columns].
        """
        inside = (part.sums + bound[0] <= self.most).all(1)
        sums = part.sums[inside]
        binding = np.arange(sums.shape[1]) < self.objectives
        if len(sums):
            binding |= sums.max(0) + bound[1] > self.most
        keep = np.flatnonzero(inside)[_nondominated(sums[:, binding])]
        return Partial(part.sums[keep], part.codes[keep])

    def _rest(self) -> list[Floats]:
        """From the last link back: [2, width, resolution, columns] that what follows a width adds at least and at most,
        each column by itself; a bound, since positions after the first of a link are taken at their best depth each."""
        columns = len(self.most)
        last = self.links[-1][0][1].shape[1]
        rest = [np.zeros((2, last, self.resolutions, columns))]
        for link in reversed(self.links):
            ends = []
            for pick, after in zip((np.min, np.max), rest[0], strict=True):
                added = sum(pick(values, axis=(3, 4)) for _, values in link)  # [before, width, resolution, columns]
                ends.append(pick(added + after, axis=1))
            rest.insert(0, np.stack(ends))
        return rest


def _union(parts: list[Partial]) -> Partial:
    return Partial(np.concatenate([part.sums for part in parts]), np.concatenate([part.codes for part in parts]))


def _nondominated(sums: Floats) -> NDArray[np.bool_]:
    """[n, columns] -> [n] whether no other is at most as large in every column and smaller in one; of equal ones the
    first alone."""
    if len(sums) < 2:
        return np.ones(len(sums), dtype=bool)
    return np.asarray(moocore.is_nondominated(sums, maximise=False, keep_weakly=False))
