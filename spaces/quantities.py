"""What a budget may count (multiply-adds, parameters, memory), and windows of it: `60M`, `40M..60M`."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spaces.errors import SpaceError
from spaces.space import Codes, Space
from spaces.tables import UnitTable, macs_table, memory_table, params_table

Quantity = Literal["macs", "params", "memory"]
LARGEST = 1e18  # of a budget, as 64 bits hold
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}


class Counted(NamedTuple):
    """A quantity that a budget may count.

    Args:
        budget, unit, short: what the budget is called in print, and what it counts, in full and in short.
        table: what each unit of a space has of it, given bytes of one value of activations.
    """

    budget: str
    unit: str
    short: str
    table: Callable[[Space, int], UnitTable]


COUNTED: dict[Quantity, Counted] = {
    "macs": Counted("FLOPs", "multiply-adds", "MACs", lambda space, _: macs_table(space)),
    "params": Counted("parameter", "parameters", "parameters", lambda space, _: params_table(space)),
    "memory": Counted("memory", "bytes of activations", "bytes of activations", memory_table),
}


@dataclass(frozen=True, slots=True)
class Window:
    """Networks of `low` to `high` multiply-adds (or parameters, or bytes of activations, by `quantity`), both included.

    Args:
        value_bytes: of memory, bytes of one value of an image's activations, for a whole batch.
    """

    low: int
    high: int
    quantity: Quantity = "macs"
    value_bytes: int = 4

    @classmethod
    def parse(cls, text: str, quantity: Quantity = "macs", value_bytes: int = 4) -> "Window":
        """`60M`, `1.2G`, `500k`, or a window `40M..60M`.

        Raises:
            SpaceError: another form, nothing above zero, or a window from high to low.
        """
        budget, counted = COUNTED[quantity].budget, COUNTED[quantity].unit
        number = r"([0-9]+(?:\.[0-9]+)?)([kMG]?)"
        match = re.fullmatch(rf"(?:{number}\.\.)?{number}", text.strip())
        if not match:
            raise SpaceError(f"a {budget} budget is like 60M, 1.2G or 40M..60M ({counted}), not {text!r:.80}")
        low, high = (
            round(min(float(count or 0) * UNITS[unit or ""], LARGEST))
            for count, unit in (match.group(1, 2), match.group(3, 4))
        )
        if not 0 <= low <= high < LARGEST or high == 0:
            raise SpaceError(
                f"a {budget} budget must be above zero, below {LARGEST:.0e} and go from low to high, but got "
                f"{text!r:.80}"
            )
        return cls(low, high, quantity, value_bytes)

    def table(self, space: Space) -> UnitTable:
        """What the window is about, for every unit of a space."""
        return COUNTED[self.quantity].table(space, self.value_bytes)

    def holds(self, counts: np.ndarray) -> NDArray[np.bool_]:
        """[n] multiply-adds (or parameters) -> [n] whether each is inside."""
        return (counts >= self.low) & (counts <= self.high)

    def excess(self, counts: np.ndarray) -> np.ndarray:
        """[n] multiply-adds (or parameters) -> [n] how far each is outside, as a share of `high`; 0 inside."""
        return np.maximum(np.maximum(self.low - counts, counts - self.high), 0) / self.high

    def check(self, space: Space) -> None:
        """Raises:
        SpaceError: no network of the space can be inside; names the nearest one that exists.
        """
        table = self.table(space)
        ends = [table.extreme(largest) for largest in (False, True)]
        least, most = (int(table.total(code)[0]) for code in ends)
        for code, count, missed in ((ends[0], least, least > self.high), (ends[1], most, most < self.low)):
            if missed:
                raise SpaceError(
                    f"no network of space {space.name} has {self}: the nearest feasible one, "
                    f"{space.decode(code).id}, has {format_count(count)} "
                    f"(the space has {format_count(least)} to {format_count(most)})"
                )

    def __str__(self) -> str:
        if not self.low:
            return f"at most {format_count(self.high)} {COUNTED[self.quantity].short}"
        return f"{format_count(self.low)} to {format_count(self.high)}" + (
            "" if self.quantity == "macs" else f" {COUNTED[self.quantity].short}"
        )


@cache  # recipes are asked for their budgets again and again
def parse_windows(text: str | None, quantity: Quantity = "macs", value_bytes: int = 4) -> Mapping[str, Window]:
    """`60M`, `40M..60M`, or several with commas between -> windows by their text; none of no text.

    Raises:
        SpaceError: one of them is none.
    """
    parts = [part.strip() for part in text.split(",")] if text is not None else []
    return MappingProxyType({part: Window.parse(part, quantity, value_bytes) for part in parts})


Windows = Window | Iterable[Window] | None


@dataclass(frozen=True, slots=True)
class SpaceWindows:
    """Several windows of one space at once; none holds everything."""

    space: Space
    windows: tuple[Window, ...]

    @classmethod
    def from_windows(cls, space: Space, window: Windows) -> "SpaceWindows":
        """The budget that one window, several, or none make."""
        return cls(space, () if window is None else (window,) if isinstance(window, Window) else tuple(window))

    def check(self) -> None:
        """Raises:
        SpaceError: one of the windows is out of the space's reach.
        """
        for window in self.windows:
            window.check(self.space)

    def excess(self, codes: Codes) -> NDArray[np.float64]:
        """[n, genes] -> [n] how far each network is outside, summed over the windows; 0 inside all."""
        return sum((w.excess(w.table(self.space).total(codes)) for w in self.windows), np.zeros(len(codes)))

    def nearest(self, codes: Codes) -> str:
        """What the network nearest to the budget has, in words."""
        code = codes[self.excess(codes).argmin()]
        return " and ".join(format_count(float(w.table(self.space).total(code)[0])) for w in self.windows)

    def __str__(self) -> str:
        return " and ".join(map(str, self.windows))


def format_count(count: float) -> str:
    """A count as people write it: 42.3M."""
    for unit in ("G", "M", "k"):
        if count >= UNITS[unit]:
            return f"{count / UNITS[unit]:.3g}{unit}"
    return f"{count:.0f}"
