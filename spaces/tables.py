"""Sums over units, for whole populations at once.

MACs, parameters and latencies are all sums of one value a unit. A unit depends on at most four genes, so its value is
tabulated once over their choices, and a population's sum is a handful of array look-ups.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ghostnet.cost import Cost, unit_cost
from ghostnet.units import Unit
from spaces.space import Codes, Space

Floats = NDArray[np.float64]
CHUNK = 4096  # networks whose codes and sums stay in the nearest cache


class UnitTable:
    """`value(unit)` for every unit that a space can make, by slot and by the slot's genes."""

    def __init__(self, space: Space, value: Callable[[Unit], float]) -> None:
        self.space = space
        self.genes = [list(slot.genes) for slot in space.slots]
        self.values: list[Floats] = []
        for units in space_units(space):
            flat = np.array([value(unit) for unit in units.flat], dtype=np.float64)
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

        Neighbouring units share only width genes, so the chain is solved from left to right (Viterbi).
        """
        sign = -1.0 if largest else 1.0
        widths = len(self.space.rows) + 2
        code = np.zeros(len(self.space.choices), dtype=np.int64)
        # best[w]: the least sum so far with the latest width gene at w; path[w]: the code that gives it.
        best: Floats = np.zeros(1)
        path = code[None].copy()
        latest = None
        for genes, table in zip(self.genes, self.values, strict=True):
            shared = [gene for gene in genes if gene < widths]
            local = [gene for gene in genes if gene >= widths]
            flat = sign * table.reshape(*table.shape[: len(shared)], -1)
            pick, low = flat.argmin(-1), flat.min(-1)
            new = shared[-1]
            if latest == new:  # a later block of the same stage
                best, came = best + low, np.arange(len(best))
                pick_of = pick
            else:
                joint = best[:, None] + (low if low.ndim == 2 else low[None])
                came = joint.argmin(0)
                best = joint.min(0)
                pick_of = pick[came, np.arange(len(came))] if pick.ndim == 2 else pick
            path = path[came]
            path[:, new] = np.arange(len(best))
            if local:
                indices = np.unravel_index(pick_of, table.shape[len(shared) :])
                for gene, index in zip(local, indices, strict=True):
                    path[:, gene] = index
            latest = new
        return path[best.argmin()]


def _look_up(table: Floats, genes: list[int], columns: Codes) -> Floats:
    """The table's value for each network, from codes by gene [genes, n]: [n]."""
    index = columns[genes[0]]
    for gene, choices in zip(genes[1:], table.shape[1:], strict=True):
        index = index * choices + columns[gene]
    return table.reshape(-1).take(index)


@cache
def space_units(space: Space) -> list[Any]:
    """Every unit that a space can make: for each slot an object array of `Unit`s over the choices of its genes."""
    arrays: list[Any] = []
    for slot in space.slots:
        shape = tuple(space.choices[list(slot.genes)])
        made = np.empty(shape, dtype=object)
        for choice in np.ndindex(shape):
            made[choice] = slot.unit(choice)
        arrays.append(made)
    return arrays


@cache
def macs_table(space: Space) -> UnitTable:
    """Multiply-adds of every unit of a space."""
    return UnitTable(space, lambda unit: unit_cost(unit).macs)


@cache
def params_table(space: Space) -> UnitTable:
    """Learned parameters of every unit of a space."""
    return UnitTable(space, lambda unit: unit_cost(unit).params)


def costs(space: Space, code: Codes) -> Cost:
    """MACs and parameters of one encoded network."""
    return Cost(int(macs_table(space).total(code)[0]), int(params_table(space).total(code)[0]))
