"""A trial: a network that a search proposed, and what became of it. It is a row of the log."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from search.records import ArchId, Code, Count, Record, Seconds

State = Literal["complete", "repeated", "infeasible", "failed"]
COMPLETE: State = "complete"
REPEATED: State = "repeated"
INFEASIBLE: State = "infeasible"
FAILED: State = "failed"
NAMED_METRICS = (
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "latency_ms",
    "inherited",
)  # beside multiply-adds and parameters, which all have


class Rung(Record):
    """What one evaluation of several told of a network, and what it took."""

    evaluate: str
    accuracy: Annotated[float, Field(allow_inf_nan=False)]
    seconds: Seconds


class BackendState(Record):
    """What a backend needs to go on; Optuna's genetic samplers the `generation`."""

    model_config = ConfigDict(extra="allow")
    generation: Count = 0


class Trial(Record):
    """A network that a search proposed: `trial["macs"]` is a metric by its name, an objective's for instance.

    Further columns than the fields are metrics: objectives, and what an evaluator or a latency table says beside them.
    `rungs` are the evaluations that it had, where there may be several; `accuracy` is that of the last one. A network
    that goes on to a further rung later has another row, with all of them: its last row counts (`latest`).
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, int | float | str | None]
    number: Count
    state: State
    arch: ArchId
    code: Code
    macs: Count
    params: Count
    excess: Annotated[float, Field(ge=0)]
    seconds: Seconds
    backend: BackendState
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    latency_ms: float | None = None
    inherited: float | None = None
    error: str | None = None
    rungs: list[Rung] | None = None

    @model_validator(mode="after")
    def _whole(self) -> "Trial":
        if self.backend.generation > self.number:
            raise ValueError(f"trial {self.number} can't be of generation {self.backend.generation}")
        last = self.rungs[-1].accuracy if self.rungs else self.accuracy
        if self.state == COMPLETE and last != self.accuracy:
            raise ValueError(
                f"an evaluated network's accuracy must be its last rung's, {last}, but got {self.accuracy}"
            )
        if self.state == COMPLETE and None in (self.accuracy, *self.metrics.values()):
            raise ValueError("an evaluated network must have a number in every column, but got null")
        return self

    @cached_property
    def metrics(self) -> dict[str, float | None]:
        """What is known of the network, by the names of the log's columns; None for what was not measured."""
        named = {name: getattr(self, name) for name in NAMED_METRICS if name in self.model_fields_set}
        others = {name: value for name, value in (self.__pydantic_extra__ or {}).items() if not isinstance(value, str)}
        return {"macs": self.macs, "params": self.params, **named, **others}

    def __getitem__(self, metric: str) -> float:
        """Raises:
        KeyError: there is no such metric, or it was not measured.
        """
        value = self.metrics[metric]
        if value is None:
            raise KeyError(metric)
        return value

    def inherited_accuracy(self, evaluate: str) -> float | None:
        """With the supernet's weights, as far as a search knows it that evaluates so: what it went by, corrected, or
        had on a rung."""
        if self.inherited is not None or not self.rungs:
            return self.accuracy if evaluate == "inherited" and self.inherited is None else self.inherited
        return next((rung.accuracy for rung in self.rungs if rung.evaluate == "inherited"), None)


def latest(trials: Iterable[Trial]) -> dict[str, Trial]:
    """The last row of each network that was evaluated or failed, by architecture, in the order of their first rows."""
    return {trial.arch: trial for trial in trials if trial.state in (COMPLETE, FAILED)}


def evaluated(trials: Iterable[Trial]) -> list[Trial]:
    """The networks that were evaluated, each by its last row."""
    return [trial for trial in latest(trials).values() if trial.state == COMPLETE]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What evaluating a network gave: columns by name, or the reason why there are none; of a ladder those of its last
    rung, and all rungs."""

    columns: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None
    rungs: tuple[Rung, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A network and what is known of it without evaluating it.

    Args:
        arch: its id.
        metrics: by the names of the log's columns.
        excess: how far it is outside the nearest budget; 0 inside one.
    """

    arch: str
    code: list[int]
    metrics: Mapping[str, float]
    excess: float

    def trial(self, state: State, metrics: Mapping[str, float | None], evaluation: Evaluation | None = None) -> Trial:
        """What became of it. The log gives it its number, the backend its own state."""
        about = {"number": 0, "state": state, "arch": self.arch, "code": self.code, "excess": self.excess}
        evaluation = evaluation or Evaluation()
        result: dict[str, object] = {"seconds": evaluation.seconds}
        result |= {} if evaluation.error is None else {"error": evaluation.error}
        result |= {"rungs": list(evaluation.rungs)} if evaluation.rungs else {}
        return Trial.model_validate({**metrics, **self.metrics, **about, **result, "backend": BackendState()})
