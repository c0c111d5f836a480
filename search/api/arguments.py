"""What a function of the API is given is of the types that its signature says, or a line tells which it should be."""

import re
from collections.abc import Callable
from functools import wraps
from inspect import signature
from numbers import Real
from typing import Any, TypeVar

from beartype import BeartypeConf, FrozenDict, beartype

from search.errors import UserError

Function = TypeVar("Function", bound=Callable[..., Any])
VIOLATION = re.compile(r"Function [\w.]*?(\w+)\(\) parameter (\w+)=(.*?) violates type hint (.*?), as ", re.DOTALL)
QUALIFIED = re.compile(r"<class '(?:\w+\.)*(\w+)'>|(?:\w+\.)+(\w+)")  # names of types, of which the last part is shown
SHOWN = 80  # characters of a value


class ArgumentError(UserError):
    """An argument of another type than its function takes, as beartype tells it."""

    def __init__(self, message: str) -> None:
        if told := VIOLATION.match(message):
            function, name, value, hint = told.groups()
            hint = QUALIFIED.sub(lambda found: found[1] or found[2], hint)
            value = value.strip('"')[:SHOWN]  # some are quoted
            message = f"`{name}` of {function} must be {hint}, but got {value}"
        super().__init__(message)


# Whole numbers are looked at where their bounds are known; any may be NumPy's.
_SETTINGS = BeartypeConf(
    violation_param_type=ArgumentError,
    violation_return_type=RuntimeWarning,  # a fault of ours, after the work is done
    hint_overrides=FrozenDict({int: object, float: Real}),
    is_color=False,
)


def checked(function: Function) -> Function:
    """The function, which raises an `ArgumentError` before it does anything with an argument of another type, and a
    `TypeError` of its own where it has no such keyword, also of those that it takes as `**cluster`."""
    typed = beartype(conf=_SETTINGS)(function)
    known = signature(function).parameters

    @wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        if unknown := [name for name in keywords if name not in known]:
            raise TypeError(f"{function.__name__}() got an unexpected keyword argument {unknown[0]!r}")
        return typed(*args, **keywords)

    return call  # type: ignore[return-value]
