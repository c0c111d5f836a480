"""Rules for single values. The error for a value that breaks one has the key, the rule and the value."""

from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import Any

from ghostnet.published import Row
from spaces.errors import SpaceError

LONGEST = 200  # characters of a value in a message


def require(key: str, value: Any, rule: str, holds: Callable[[Any], bool]) -> None:
    """Raises:
    SpaceError: the rule doesn't hold for the value.
    """
    if not holds(value):
        raise SpaceError(f"`{key}` must be {rule}, but got {to_text(value)}")


def require_distinct(key: str, values: Any, rule: str, holds: Callable[[Any], bool]) -> None:
    """Raises:
    SpaceError: not a tuple of one or more different values for each of which the rule holds.
    """
    right = isinstance(values, tuple) and bool(values) and all(map(holds, values)) and len(set(values)) == len(values)
    require(key, values, f"a list of different {rule}", lambda _: right)


def fits(values: Any, stages: Sequence[Any], holds: Callable[[Any, Any], bool]) -> bool:
    """Whether there is one value for each stage, for which `holds(value, stage)`."""
    return isinstance(values, tuple) and len(values) == len(stages) and all(map(holds, values, stages))


def whole(low: int, high: int) -> Callable[[Any], bool]:
    """The rule for whole numbers from `low` to `high`."""
    return lambda value: type(value) is int and low <= value <= high


def is_odd(value: Any) -> bool:
    """Whether it is an odd number from 1 to 31, as kernels are."""
    return whole(1, 31)(value) and value % 2 == 1


def above_zero(value: Any) -> bool:
    """Whether it is a number above 0, at most 8, as multipliers are."""
    return type(value) in (int, float) and 0 < value <= 8


def to_text(value: Any) -> str:
    """A value as TOML has it, lists for tuples and rows; its beginning alone where it is long."""
    if isinstance(value, Row):
        value = astuple(value)
    if isinstance(value, tuple):
        text = f"[{', '.join(map(to_text, value))}]"
    else:
        text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
