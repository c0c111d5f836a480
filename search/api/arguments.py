"""What a function of the API is given is of the types that its signature says, or a line tells which it should be."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import signature
from numbers import Real
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

from beartype import BeartypeConf, FrozenDict, beartype
from beartype.door import is_bearable

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
            value = value.strip('"')[:SHOWN]  # some are quoted
            message = f"`{name}` of {function} must be {_plain(hint)}, but got {value}"
        super().__init__(message)


def _plain(hint: object) -> str:
    return QUALIFIED.sub(lambda found: found[1] or found[2], str(hint))


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
        for name, value in {**dict(zip(known, args, strict=False)), **keywords}.items():
            hint = known[name].annotation
            # An empty path would be the folder that one is in.
            if isinstance(value, str) and not value and Path in get_args(hint):
                raise ArgumentError(f"`{name}` of {function.__name__} must be a path, but got ''")
            for item, kind in _items(value, hint):
                if not is_bearable(item, kind, conf=_SETTINGS):
                    rule = f"`{name}` of {function.__name__} must be {_plain(hint)}"
                    raise ArgumentError(f"{rule}, but one of it is {item!r:.{SHOWN}}")
        return typed(*args, **keywords)

    return call  # type: ignore[return-value]


def _items(value: object, hint: Any) -> list[tuple[object, Any]]:
    """What a sequence or mapping holds, each with the type that it should be of: beartype looks at one of them alone,
    which it draws."""
    for part in get_args(hint) if isinstance(hint, UnionType) else (hint,):
        kinds = get_args(part)
        if get_origin(part) is Sequence and isinstance(value, Sequence) and not isinstance(value, str):
            return [(item, kinds[0]) for item in value]
        if get_origin(part) is Mapping and isinstance(value, Mapping):
            return [pair for key, item in value.items() for pair in ((key, kinds[0]), (item, kinds[1]))]
    return []
