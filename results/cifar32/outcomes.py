"""What `cifar32.json` holds."""

from typing import Literal

from pydantic import Field

from search.latency.table import Headline
from search.records import ArchId, Count, Milliseconds, Record, Seconds, Share

Kind = Literal["parent", "fresh", "family", "found", "random", "pruned"]


class Result(Record):
    """A finished training.

    Args:
        arch: None where it is no `Arch` of the space.
        start: accuracy on the search split with the weights that it began with; None: fresh ones.
        accuracy: on the test split, at the end.
        seconds: of the training, beside others on the same device.
        measured_ms: all networks side by side; None until that is done.
    """

    kind: Kind
    name: str
    seed: int
    arch: ArchId | None = None
    code: list[int] | None = None
    macs: Count
    params: Count
    epochs: float
    start: Share | None = None
    accuracy: Share
    seconds: Seconds
    device: str
    measured_ms: Milliseconds | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells it from all others."""
        return self.kind, self.name, self.seed

    @property
    def latency_key(self) -> str:
        """The same for results that are as fast: the architecture; of a pruned network its place."""
        return self.arch or f"{self.kind} {self.name} {self.seed}"


class Study(Record):
    """The whole study."""

    schema_: Literal["ghostnas.cifar32/1"] = Field(default="ghostnas.cifar32/1", alias="schema")
    latency: Headline
    results: list[Result]


def merged(known: list[Result], new: list[Result]) -> list[Result]:
    """All results, the new ones in place of those of the same training."""
    return list(({r.key: r for r in known} | {r.key: r for r in new}).values())
