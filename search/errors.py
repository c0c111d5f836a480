"""Errors that a user can correct. The command line prints one line and ends with exit code 2."""

from operator import index

MOST_MINUTES = 525_600  # of a time box: a year
MOST_THREADS = 1024


class UserError(Exception):
    """The message names the rule and the value; the command line prints it as it is."""


def first_line(error: BaseException) -> str:
    """Of what an error of a library says, with the next where it only announces that; its type's name where it says
    nothing."""
    first, *others = (str(error).strip() or type(error).__name__).splitlines()
    return f"{first} {others[0].strip()}" if first.endswith(":") and others else first


def check_minutes(minutes: float | None) -> None:
    """Raises:
    UserError: they are no time box.
    """
    if minutes is not None and (isinstance(minutes, bool) or not 0 < minutes <= MOST_MINUTES):
        got = minutes if isinstance(minutes, bool) else f"{minutes:g}"
        raise UserError(f"a time box has more than 0 and at most {MOST_MINUTES:,} minutes, not {got}")


def check_whole(name: str, value: object, low: int, high: int) -> int:
    """A whole number from `low` to `high`, also one of NumPy's, as an `int`.

    Raises:
        UserError: it is none.
    """
    try:
        number = index(value)  # type: ignore[arg-type]
    except TypeError:
        number = low - 1
    if isinstance(value, bool) or not low <= number <= high:
        raise UserError(f"{name} must be a whole number from {low} to {high}, but got {repr(value)[:80]}")
    return number
