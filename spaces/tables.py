"""Sums over units, for whole populations at once.

MACs, parameters and latencies are all sums of one value a unit. A unit depends on a few genes, so its value is
tabulated once over their choices, and a population's sum is a handful of array look-ups.
"""

import math
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ghostnet.cost import Cost, unit_cost
from ghostnet.units import Unit
from spaces.space import Codes, Space

Floats = NDArray[np.float64]
CHUNK = 4096  # networks whose codes and sums stay in the nearest cache


class UnitTable:
    """`value(unit)` for every unit that a space can make, by slot and by the slot's genes; 0 for a dropped block."""

    def __init__(self, space: Space, value: Callable[[Unit], float]) -> None:
        self.space = space
        self.genes = [list(slot.genes) for slot in space.slots]
        self.values: list[Floats] = []
        known: dict[Unit | None, float] = {None: 0.0}
        for units in space_units(space):
            for unit in units.flat:
                if unit not in known:
                    known[unit] = value(unit)
            flat = np.array([known[unit] for unit in units.flat], dtype=np.float64)
            self.values.append(flat.reshape(units.shape))

    def per_slot(self, codes: Codes) -> Floats:
        """[n, genes] -> the value of each unit, [n, slots]"""
        columns = np.atleast_2d(codes).T
        return np.stack([_look_up(table, genes, columns) for genes, table in self._slots()], axis=1)

    def total(self, codes: Codes) -> Floats:
        """[n, genes] -> the networks' sums, [n]"""
        codes = np.atleast_2d(codes)
        sums = np.empty(len(codes))
        for start in range(0, len(codes), CHUNK):
            columns = np.ascontiguousarray(codes[start : start + CHUNK].T)
            part = np.zeros(columns.shape[1])
            for genes, table in self._slots():
                part += _look_up(table, genes, columns)
            sums[start : start + CHUNK] = part
        return sums

    def _slots(self) -> Iterator[tuple[list[int], Floats]]:
        return zip(self.genes, self.values, strict=True)

    def extreme(self, largest: bool = False) -> Codes:
        """The code of the smallest (or largest) sum in the whole space, exactly: [genes].

        Neighbouring stages share only width genes, and all slots the resolution: at each resolution the chain of widths
        is solved from left to right (Viterbi), with a stage's depth and a block's own genes settled on the way.
        """
        sign = -1.0 if largest else 1.0
        space, choices = self.space, self.space.choices
        resolutions = len(space.resolution_choices)
        # What the slots with one width gene come to: [width before, width, resolution, depth].
        links: dict[int, Floats] = {}
        for slot, table in zip(space.slots, self.values, strict=True):
            low = (sign * table).reshape(*table.shape[: len(slot.shared)], -1).min(-1)
            roles = (slot.before, slot.width, slot.resolution, slot.depth)
            low = low.reshape([1 if gene is None else choices[gene] for gene in roles])
            links[slot.width] = links.get(slot.width, 0.0) + low
        # best[w, r]: the least sum so far with the latest width at w and the resolution at r.
        best: Floats = np.zeros((1, resolutions))
        steps = []
        for width, link in links.items():
            joint = best[:, None] + link.min(3)
            steps.append((width, joint.argmin(0), link.argmin(3)))
            best = joint.min(0)
        code = np.zeros_like(choices)
        here, at = np.unravel_index(best.argmin(), best.shape)
        if space.layout.resolution is not None:
            code[space.layout.resolution] = at
        for width, came, deep in reversed(steps):
            code[width], before = here, came[here, at]
            depth = space.layout.depths[width - 1] if 0 < width <= len(space.rows) else None
            if depth is not None:
                code[depth] = deep[before, here, at]
            here = before
        for slot, table in zip(space.slots, self.values, strict=True):
            own = sign * table[tuple(code[list(slot.shared)])]
            code[list(slot.own)] = np.unravel_index(own.argmin(), own.shape)
        return space.canonical(code)


def _look_up(table: Floats, genes: list[int], columns: Codes) -> Floats:
    """The table's value for each network, from codes by gene [genes, n]: [n]."""
    index = columns[genes[0]]
    for gene, choices in zip(genes[1:], table.shape[1:], strict=True):
        index = index * choices + columns[gene]
    return table.reshape(-1).take(index)


@cache
def space_units(space: Space) -> list[Any]:
    """Every unit that a space can make: for each slot an object array over the choices of its genes, `None` where the
    depth drops the block."""
    arrays: list[Any] = []
    for slot in space.slots:
        choices = [space.genes[gene].choices for gene in slot.genes]
        made = np.empty(math.prod(map(len, choices)), dtype=object)
        made[:] = [slot.unit(dict(zip(slot.genes, values, strict=True))) for values in product(*choices)]
        arrays.append(made.reshape([len(each) for each in choices]))
    return arrays


@cache
def macs_table(space: Space) -> UnitTable:
    """Multiply-adds of every unit of a space."""
    return _cost_tables(space)[0]


@cache
def params_table(space: Space) -> UnitTable:
    """Learned parameters of every unit of a space."""
    return _cost_tables(space)[1]


@cache
def _cost_tables(space: Space) -> tuple[UnitTable, UnitTable]:
    known = cache(unit_cost)
    return UnitTable(space, lambda unit: known(unit).macs), UnitTable(space, lambda unit: known(unit).params)


def costs(space: Space, code: Codes) -> Cost:
    """MACs and parameters of one encoded network."""
    return Cost(int(macs_table(space).total(code)[0]), int(params_table(space).total(code)[0]))
