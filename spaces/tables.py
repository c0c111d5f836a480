"""Sums (and largest values) over units, for whole populations at once.

MACs, parameters and latencies are all sums of one value a unit. A unit depends on a few genes, so its value is
tabulated once over their choices, and a population's sum is a handful of array look-ups.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ghostnet.cost import Cost, unit_cost
from ghostnet.memory import unit_peak, unit_weight_bytes
from ghostnet.units import Unit
from spaces.canonical import canonical_codes
from spaces.encoding import unit_at
from spaces.errors import SpaceError
from spaces.genes import Codes
from spaces.layout import Position, lay_out
from spaces.spec import SpaceSpec

Floats = NDArray[np.float64]
CHUNK = 4096  # networks whose codes and sums stay in the nearest cache


class UnitTable:
    """`value(unit)` for every unit that a space can make, by position and its genes; 0 for a dropped block.

    Choices that make the same block have one value.

    Args:
        join: what a network's units come to together: their sum, or with `np.maximum` the largest, as of memory.
    """

    def __init__(self, spec: SpaceSpec, value: Callable[[Unit], float], join: np.ufunc = np.add) -> None:
        known: dict[Unit | None, float] = {None: 0.0}
        values = []
        for units in space_units(spec):
            for unit in units.flat:
                if unit not in known:
                    known[unit] = value(unit)
            values.append(np.array([known[unit] for unit in units.flat], dtype=np.float64).reshape(units.shape))
        self._fill(spec, values, join)

    @classmethod
    def of(cls, spec: SpaceSpec, values: Sequence[Floats]) -> "UnitTable":
        """A table of given values to be summed: for each position an array over the choices of its genes, as
        `space_units` has them."""
        table = cls.__new__(cls)
        table._fill(spec, values, np.add)
        return table

    def _fill(self, spec: SpaceSpec, values: Sequence[Floats], join: np.ufunc) -> None:
        """Takes values, so that all codes of a network have the same ones, also where given ones differ for two ratios
        that make one block."""
        self.layout, self.join = lay_out(spec), join
        canonical = canonical_codes(self.layout)
        pairs = zip(self.layout.positions, values, strict=True)
        self.values = [canonical.canonical_values(position, table) for position, table in pairs]

    def per_position(self, codes: Codes) -> Floats:
        """[n, genes] -> the value of the unit at each position, [n, positions]"""
        columns = np.atleast_2d(codes).T
        return np.stack([_look_up(table, position.genes, columns) for position, table in self._tables()], axis=1)

    def total(self, codes: Codes) -> Floats:
        """[n, genes] -> the networks' sums (or largest values, by `join`), [n]"""
        codes = np.atleast_2d(codes)
        sums = np.empty(len(codes))
        for start in range(0, len(codes), CHUNK):
            columns = np.ascontiguousarray(codes[start : start + CHUNK].T)
            part = np.zeros(columns.shape[1])
            for position, table in self._tables():
                part = self.join(part, _look_up(table, position.genes, columns))
            sums[start : start + CHUNK] = part
        return sums

    def _tables(self) -> Iterator[tuple[Position, Floats]]:
        return zip(self.layout.positions, self.values, strict=True)

    def extreme(self, largest: bool = False) -> Codes:
        """The code of the smallest (or largest) sum in the whole space, exactly: [genes].

        Neighbouring stages share only width genes, and all positions the resolution: at each resolution the chain of
        widths is solved from left to right (Viterbi), with a stage's depth and a block's own genes chosen on the way.
        """
        sign = -1.0 if largest else 1.0
        join = np.minimum if largest and self.join is np.maximum else self.join  # of values with their sign
        layout, choices = self.layout, self.layout.choices
        resolutions = 1 if layout.resolution is None else choices[layout.resolution]
        # What the positions with one width gene come to: [width before, width, resolution, depth].
        links: dict[int, Floats] = {}
        for position, table in self._tables():
            low = (sign * table).reshape(*table.shape[: len(position.shared)], -1).min(-1)
            low = low.reshape([1 if gene is None else choices[gene] for gene in position.roles])
            links[position.width] = join(links[position.width], low) if position.width in links else low
        # best[w, r]: the least sum so far with the latest width at w and the resolution at r.
        best: Floats = np.full((1, resolutions), 0.0 if join is np.add else -sign * np.inf)
        steps = []
        for width, link in links.items():
            joint = join(best[:, None], link.min(3))
            steps.append((width, joint.argmin(0), link.argmin(3)))
            best = joint.min(0)
        code = np.zeros_like(choices)
        here, at = np.unravel_index(best.argmin(), best.shape)
        if layout.resolution is not None:
            code[layout.resolution] = at
        depths = {stage.width: stage.depth for stage in layout.stages}
        for width, came, deep in reversed(steps):
            code[width], before = here, came[here, at]
            if (depth := depths.get(width)) is not None:
                code[depth] = deep[before, here, at]
            here = before
        for position, table in self._tables():
            own = sign * table[tuple(code[list(position.shared)])]
            code[list(position.own)] = np.unravel_index(own.argmin(), own.shape)
        return canonical_codes(layout).canonical(code)


def _look_up(table: Floats, genes: tuple[int, ...], columns: Codes) -> Floats:
    """The table's value for each network, from codes by gene [genes, n]: [n]."""
    index = columns[genes[0]]
    for gene, choices in zip(genes[1:], table.shape[1:], strict=True):
        index = index * choices + columns[gene]
    return table.reshape(-1).take(index)


@cache
def space_units(spec: SpaceSpec) -> list[Any]:
    """Every unit that a space can make: for each position an object array over the choices of its genes, `None` where
    the depth drops the block. Choices that make the same block have one unit, the canonical one."""
    canonical = canonical_codes(layout := lay_out(spec))
    pairs = zip(layout.positions, stated_units(spec), strict=True)
    return [canonical.canonical_values(position, units) for position, units in pairs]


def stated_units(spec: SpaceSpec) -> list[Any]:
    """As `space_units`, but each choice has the unit that it states, though another may make the same block: two ratios
    that cut few channels into as many primaries. Earlier versions timed both."""
    layout = lay_out(spec)
    arrays: list[Any] = []
    for position in layout.positions:
        genes = position.genes
        choices = [layout.genes[gene].choices for gene in genes]
        units = np.empty(math.prod(map(len, choices)), dtype=object)
        units[:] = [unit_at(layout, position, dict(zip(genes, values, strict=True))) for values in product(*choices)]
        arrays.append(units.reshape([len(each) for each in choices]))
    return arrays


@cache
def macs_table(spec: SpaceSpec) -> UnitTable:
    """Multiply-adds of every unit of a space."""
    return _cost_tables(spec)[0]


@cache
def params_table(spec: SpaceSpec) -> UnitTable:
    """Learned parameters of every unit of a space."""
    return _cost_tables(spec)[1]


@cache
def _cost_tables(spec: SpaceSpec) -> tuple[UnitTable, UnitTable]:
    known = cache(unit_cost)
    return UnitTable(spec, lambda unit: known(unit).macs), UnitTable(spec, lambda unit: known(unit).params)


@cache
def memory_table(spec: SpaceSpec, value_bytes: int = 4) -> UnitTable:
    """Bytes of activations at their peak, of which each value has so many, its batch included."""
    known = cache(unit_peak)
    return UnitTable(spec, lambda unit: value_bytes * known(unit), np.maximum)


@cache
def weights_table(spec: SpaceSpec, dtype: str = "float32") -> UnitTable:
    """Bytes of the weights of every unit of a space."""
    known = cache(unit_weight_bytes)
    return UnitTable(spec, lambda unit: known(unit, dtype))


def costs(spec: SpaceSpec, code: Codes) -> Cost:
    """MACs and parameters of one encoded network, [genes].

    Raises:
        SpaceError: several networks, whose costs `macs_table` and `params_table` total.
    """
    if np.ndim(code) != 1:
        raise SpaceError(f"costs are of one network's code, [genes], not of shape {list(np.shape(code))}")
    return Cost(int(macs_table(spec).total(code)[0]), int(params_table(spec).total(code)[0]))
