"""Optional packages, imported where they are used. The error for a missing one names the extra that installs it."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from search.errors import UserError


def missing_extra(package: str, extra: str) -> UserError:
    """The error for a package that is not installed."""
    return UserError(f"{package} is not installed: pip install 'ghostnas[{extra}]'")


def missing_ray(who: str) -> UserError:
    """The error where Ray is not installed, which is no extra: it comes with GhostNAS, and may have been taken away.

    Args:
        who: needs it, with the verb.
    """
    return UserError(f"{who} Ray: pip install 'ray[tune]'")


def check_ray(who: str) -> None:
    """Whether Ray is there, without loading it.

    Raises:
        UserError: it is not.
    """
    if find_spec("ray") is None:
        raise missing_ray(who)


def missing_package(error: ImportError) -> str:
    """Which package can't be imported, in a line: one that is not there, or that is broken."""
    name = error.name or "a package"
    if isinstance(error, ModuleNotFoundError):
        return f"{name} is not installed"
    return f"{name} is installed, but can't be imported: {error}"


def check_extra(package: str, extra: str) -> None:
    """Whether a package is there, without loading it.

    Raises:
        UserError: it is not; names the extra.
    """
    if find_spec(package) is None:
        raise missing_extra(package, extra)


def import_extra(module: str, extra: str) -> Any:
    """A module of an optional package.

    Raises:
        UserError: the package is not there; names the extra.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or module, extra) from None
