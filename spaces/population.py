"""Populations of encoded networks inside a budget, drawn and varied with whole-array operations.

Every function is bounded: a window that no network can meet is an error at once, a narrow one is walked, not hoped for.
"""

import re
from dataclasses import dataclass

import numpy as np

from spaces.space import Codes, Space, SpaceError
from spaces.tables import macs_table

DRAW = 4096  # networks drawn at a time
ROUNDS = 16  # draws before a narrow window is walked instead
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


@dataclass(frozen=True, slots=True)
class Window:
    """Networks of `low` to `high` multiply-adds, both included."""

    low: int
    high: int

    @classmethod
    def parse(cls, text: str) -> "Window":
        """`60M`, `1.2G`, `500k`, or a window `40M..60M`.

        Raises:
            SpaceError: another form, nothing above zero, or a window from high to low.
        """
        number = r"(\d+(?:\.\d+)?)([kMG]?)"
        match = re.fullmatch(rf"(?:{number}\.\.)?{number}", text.strip())
        if not match:
            raise SpaceError(f"a FLOPs budget is like 60M, 1.2G or 40M..60M (multiply-adds), not {text!r}")
        low = round(float(match[1]) * UNITS[match[2]]) if match[1] else 0
        high = round(float(match[3]) * UNITS[match[4]])
        if not 0 <= low <= high or high == 0:
            raise SpaceError(f"a FLOPs budget must be above zero and go from low to high, but got {text!r}")
        return cls(low, high)

    def holds(self, macs: np.ndarray) -> np.ndarray:
        """[n] multiply-adds -> [n] whether each is inside."""
        return (macs >= self.low) & (macs <= self.high)

    def check(self, space: Space) -> None:
        """Raises:
        SpaceError: no network of the space can be inside; names the nearest one that exists.
        """
        table = macs_table(space)
        for largest, missed in ((False, lambda macs: macs > self.high), (True, lambda macs: macs < self.low)):
            code = table.extreme(largest)
            macs = int(table.total(code)[0])
            if missed(macs):
                raise SpaceError(
                    f"no network of space {space.name} has {self}: the nearest feasible one, "
                    f"{space.decode(code).id}, has {short(macs)}"
                )

    def __str__(self) -> str:
        return f"{short(self.low)} to {short(self.high)}" if self.low else f"at most {short(self.high)} MACs"


def short(macs: float) -> str:
    """A count as people write it: 42.3M."""
    for unit in ("G", "M", "k"):
        if macs >= UNITS[unit]:
            return f"{macs / UNITS[unit]:.3g}{unit}"
    return f"{macs:.0f}"


def sample(space: Space, rng: np.random.Generator, count: int, window: Window | None = None) -> Codes:
    """`count` networks, uniform over those inside the window where enough of the space is: [count, genes].

    Raises:
        SpaceError: the window is out of the space's reach, or so narrow that nothing was found in it.
    """
    if window is None:
        return rng.integers(space.choices, size=(count, len(space.choices)))
    window.check(space)
    table = macs_table(space)
    found = np.empty((0, len(space.choices)), dtype=np.int64)
    for _ in range(ROUNDS):
        drawn = rng.integers(space.choices, size=(DRAW, len(space.choices)))
        found = np.concatenate([found, drawn[window.holds(table.total(drawn))]])
        if len(found) >= count:
            return found[:count]
    return np.concatenate([found, _walk(space, rng, count - len(found), window)])


def _walk(space: Space, rng: np.random.Generator, count: int, window: Window) -> Codes:
    """Random walks that first go towards the window and then stay inside it."""
    table = macs_table(space)
    codes = np.stack([table.extreme(largest=bool(k % 2)) for k in range(count)])
    macs = table.total(codes)
    for _ in range(40 * len(space.choices)):
        moved = mutate(space, rng, codes, rate=1.5 / len(space.choices))
        new = table.total(moved)
        better = _distance(new, window) <= _distance(macs, window)
        codes[better], macs[better] = moved[better], new[better]
    if not window.holds(macs).all():
        inside = codes[window.holds(macs)]
        if not len(inside):
            nearest = int(macs[_distance(macs, window).argmin()])
            raise SpaceError(f"no network of {window} found in space {space.name}; the nearest has {short(nearest)}")
        codes = inside[rng.integers(len(inside), size=count)]
    return codes


def _distance(macs: np.ndarray, window: Window) -> np.ndarray:
    return np.maximum(np.maximum(window.low - macs, macs - window.high), 0)


def mutate(space: Space, rng: np.random.Generator, codes: Codes, rate: float) -> Codes:
    """Each gene drawn anew with probability `rate`: [n, genes] -> [n, genes]"""
    fresh = rng.integers(space.choices, size=codes.shape)
    return np.where(rng.random(codes.shape) < rate, fresh, codes)
