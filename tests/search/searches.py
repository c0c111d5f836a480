"""What the tests of the search share: a problem that costs nothing, and how a search is run over it."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from search.engine.backends import backend
from search.engine.budgets import LatencyBudget, Within, combine_budgets
from search.engine.ladder import Ladder
from search.engine.log import TrialLog
from search.engine.objectives import ACCURACY, Evaluate, LatencyObjective
from search.engine.problem import Problem
from search.engine.search_plan import SearchPlan
from search.engine.trial import COMPLETE, Trial
from search.latency.predictor import Prediction
from spaces import named_space
from spaces.quantities import parse_windows
from spaces.space import Space
from spaces.tables import UnitTable

SPACE = named_space("digits")
HEADER = {"search": "of the tests"}


class FakePredictor:
    """Latency as a plain sum: a unit's key, hashed. Like a true one it can't be pickled."""

    def __init__(self, space: Space = SPACE) -> None:
        self.unit_ms = lambda unit: 0.01 + (sum(map(ord, unit.key)) % 97) / 1000
        self.table = UnitTable(space, self.unit_ms)

    def __call__(self, codes):
        ms = self.table.total(codes)
        return Prediction(ms, 0.9 * ms, 1.1 * ms, np.ones_like(ms))

    def fastest(self):
        return self.table.extreme()

    least_high = fastest  # all intervals are equally wide


def accuracy_of(arch) -> float:
    return int(arch.id, 16) % 1000 / 1000


def slowly(arch) -> float:
    time.sleep(0.02)
    return accuracy_of(arch)


def some_fail(arch) -> float:
    """One in five raises, one hangs, one gives no number."""
    match int(arch.id, 16) % 5:
        case 0:
            raise RuntimeError("boom")
        case 1:
            time.sleep(3600)
        case 2:
            return float("nan")
    return accuracy_of(arch)


def problem(
    evaluate: Evaluate = accuracy_of, flops: str = "500k", latency_budget_ms: float | None = None, **changes: Any
) -> Problem:
    predict = FakePredictor()
    latency = LatencyObjective(predict=predict)
    bound = {} if latency_budget_ms is None else {"ms": LatencyBudget(latency, latency_budget_ms, predict.least_high)}
    windows = {name: Within(window) for name, window in parse_windows(flops).items()}
    values: dict[str, Any] = {"objectives": (ACCURACY, latency), "budgets": combine_budgets(windows, bound)}
    return Problem(space=SPACE, evaluate=evaluate, **(values | changes))


def run(task: Problem, folder: Path, name: str = "optuna", **plan: Any) -> list[Trial]:
    """A search in a folder, on from what is there; its trials but for the times."""
    with TrialLog(folder / "trials.jsonl", HEADER) as log:
        backend(name)(task, log, SearchPlan(**({"population": 10} | plan)))  # type: ignore[arg-type]
        return bare(log.trials)


def bare(trials: Sequence[Trial]) -> list[Trial]:
    return [trial.model_copy(update={"seconds": 0.0} | _bare_rungs(trial)) for trial in trials]


def _bare_rungs(trial: Trial) -> dict[str, Any]:
    rungs = trial.rungs and [rung.model_copy(update={"seconds": 0.0}) for rung in trial.rungs]
    return {"rungs": rungs} if rungs else {}


def constant(_) -> float:
    return 0.5


def half(arch) -> float:
    return accuracy_of(arch) / 2


def nearly(arch) -> float:
    return 0.1 + 0.8 * accuracy_of(arch)


LADDER = Ladder({"cheap": half, "dearer": nearly, "dearest": accuracy_of})


def complete_trial(number: int, code: Sequence[int] = (0,), **metrics: float) -> Trial:
    """An evaluated network that there isn't."""
    about = {"number": number, "arch": f"{number:010x}", "code": list(code), "seconds": 0.0, "excess": 0.0}
    return Trial.model_validate({"state": COMPLETE, "macs": 1, "params": 1, "backend": {}, **about, **metrics})
