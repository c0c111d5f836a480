"""What a search maximises or minimises.

An objective is a column of the trial log with a direction. A cheap one computes its column for whole populations, an
expensive one leaves it to the evaluator.

A new one is a small class:

    class Blocks(Objective):
        def known_metrics(self, codes):
            return {"blocks": count_blocks(codes)}

    Blocks("blocks")
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ghostnet.arch import Arch
from search.latency.predictor import Prediction
from spaces.space import Codes
from spaces.tables import UnitTable

Columns = dict[str, NDArray[Any]]  # each [n]
Evaluate = Callable[[Arch], float | Mapping[str, float]]  # accuracy in [0, 1], or several columns by name


def evaluated_columns(value: object) -> dict[str, float]:
    """What an evaluator gave, by column.

    Raises:
        TypeError, ValueError: a name is no text, or something is no number.
    """
    columns = value if isinstance(value, Mapping) else {"accuracy": value}
    return {name: _number(name, each) for name, each in columns.items()}


def _number(name: object, value: Any) -> float:
    if not isinstance(name, str) or not name:
        raise TypeError(f"a column's name must be a text, but got {name!r:.80}")
    if isinstance(value, str | bytes | bool | np.bool_):  # which `float` takes
        raise TypeError(f"{name} must be a number, but got {value!r:.80}")
    return float(value)


def prepare(evaluate: Evaluate) -> None:
    """Gets an evaluator ready in this process, as by moving to its GPU, where it knows how."""
    getattr(evaluate, "prepare", lambda: None)()


@dataclass(frozen=True)
class Objective:
    """A column of the trial log to minimise or maximise."""

    name: str
    maximise: bool = False

    def known_metrics(self, codes: Codes) -> Columns:
        """[n, genes] -> what is known of networks that were not evaluated: its own column, and what goes with it.

        Nothing, where the evaluator gives the column; multiply-adds and parameters the problem has anyway.
        """
        return {}

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return 1 if self.maximise else -1


ACCURACY = Objective("accuracy", maximise=True)
LATENCY = Objective("latency_ms")  # as it stands in a log
MACS, PARAMS = Objective("macs"), Objective("params")
USUAL = (ACCURACY, LATENCY)


@dataclass(frozen=True)
class Tabulated(Objective):
    """What a table says of a network's units together, such as the bytes of its activations at their peak."""

    table: UnitTable = field(kw_only=True)

    def known_metrics(self, codes: Codes) -> Columns:
        return {self.name: self.table.total(codes).astype(np.int64)}


@dataclass(frozen=True)
class LatencyObjective(Objective):
    """Predicted milliseconds, with the ends of their interval as `<name>_low_ms` and `<name>_high_ms`."""

    name: str = "latency_ms"
    predict: Callable[[Codes], Prediction] = field(kw_only=True)

    @property
    def low(self) -> str:
        """The column of the interval's lower end."""
        return self.name.removesuffix("_ms") + "_low_ms"

    @property
    def high(self) -> str:
        """The column of its upper end, which budgets go by."""
        return self.name.removesuffix("_ms") + "_high_ms"

    def known_metrics(self, codes: Codes) -> Columns:
        latency = self.predict(codes)
        return {self.name: latency.latency_ms, self.low: latency.low_ms, self.high: latency.high_ms}


@dataclass(frozen=True)
class ThroughputObjective(Objective):
    """Predicted images a second at the best batch of those that latency tables are of, and that batch as `best_batch`;
    0 where none keeps the limit.

    Args:
        targets: batch sizes, and the predictions for them.
        limit_ms: for the upper end of a whole batch's latency.
    """

    name: str = "images_per_second"
    maximise: bool = True
    targets: Sequence[tuple[int, Callable[[Codes], Prediction]]] = field(kw_only=True)
    limit_ms: float = field(default=float("inf"), kw_only=True)

    def known_metrics(self, codes: Codes) -> Columns:
        batches = np.array([batch for batch, _ in self.targets])
        predictions = [predict(codes) for _, predict in self.targets]
        rates = np.stack(
            [
                np.where(p.high_ms <= self.limit_ms, 1000 * batch / p.latency_ms, 0.0)
                for batch, p in zip(batches, predictions, strict=True)
            ]
        )
        return {self.name: rates.max(0), "best_batch": batches[rates.argmax(0)]}


class Metrics(Protocol):
    """Numbers by the names of the log's columns: an evaluated trial, or a mapping."""

    def __getitem__(self, name: str, /) -> float: ...


def values(rows: Sequence[Metrics], objectives: Sequence[Objective]) -> NDArray[np.float64]:
    """[n, objectives] of trials, all to be made large."""
    table = [[o.sign * row[o.name] for o in objectives] for row in rows]
    return np.array(table, dtype=np.float64).reshape(-1, len(objectives))
