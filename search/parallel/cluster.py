"""Where work is done: in this process, or by several of Ray's, here or on a cluster."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from inspect import Parameter, signature
from typing import Any, TypedDict, TypeVar

from search.errors import UserError

Function = TypeVar("Function", bound=Callable[..., Any])


class ClusterOptions(TypedDict, total=False):
    """A `Cluster` as the Python API and the commands take it, in keywords of their own."""

    workers: int | None
    address: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Processes of Ray's that share the work.

    Args:
        workers: how many; None: what a recipe says, or one.
        address: of the Ray cluster that they are on; None: this machine.

    Raises:
        UserError: fewer than one worker.
    """

    workers: int | None = None
    address: str | None = None

    def __post_init__(self) -> None:
        if self.num_workers < 1:
            raise UserError(f"there must be one worker or more, but got {self.workers}")

    @property
    def num_workers(self) -> int:
        """Processes at work side by side."""
        return 1 if self.workers is None else self.workers

    @property
    def is_spread(self) -> bool:
        """Whether others than this process are at work."""
        return self.num_workers > 1 or self.address is not None

    def with_default(self, workers: int) -> "Cluster":
        """With so many workers where it doesn't say how many."""
        return self if self.workers is not None else replace(self, workers=workers)


HERE = Cluster()  # this process alone


def show_options(function: Function, annotations: Mapping[str, Any] = ClusterOptions.__annotations__) -> Function:
    """Puts a cluster's keywords by name into the signature of a function that takes them as `**cluster`, for `help` and
    for typer."""
    own = signature(function)
    *parameters, _ = own.parameters.values()
    shown = [Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=a) for name, a in annotations.items()]
    vars(function)["__signature__"] = own.replace(parameters=[*parameters, *shown])
    return function
