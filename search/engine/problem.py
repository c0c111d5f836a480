"""The search problem: a space, what to maximise and minimise over it, and what is allowed.

Cheap before dear: multiply-adds, parameters and predicted latency come from tables and are settled first; a network
over budget never costs an evaluation, and one that was seen before is answered from the log.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ghostnet.arch import Arch
from search.latency.predictor import Predictor
from spaces.population import Window, sample
from spaces.space import Codes, Space, SpaceError
from spaces.tables import costs

Trial = dict[str, Any]  # a row of the log; `engine.log` says what is in it
COMPLETE, REPEATED, INFEASIBLE, FAILED = "complete", "repeated", "infeasible", "failed"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Accuracy (up) against predicted latency (down), inside a window of multiply-adds.

    Args:
        evaluate: architecture -> accuracy in [0, 1]; the only dear part.
        predict: codes -> latency with its interval.
        latency_budget_ms: bound on the upper end of the predicted interval; None bounds nothing.
    """

    space: Space
    window: Window
    predict: Predictor
    evaluate: Callable[[Arch], float]
    latency_budget_ms: float | None = None

    def check(self) -> None:
        """Answers an infeasible budget at once.

        Raises:
            SpaceError: no network meets the budget of multiply-adds, or none that of latency; names the nearest.
        """
        self.window.check(self.space)
        if self.latency_budget_ms is None:
            return
        code = self.predict.fastest()
        high = float(self.predict(code).high_ms[0])
        if high > self.latency_budget_ms:
            raise SpaceError(
                f"no network of space {self.space.name} is predicted at or below {self.latency_budget_ms:g} ms: the "
                f"nearest feasible one, {self.space.decode(code).id}, takes up to {high:.3g} ms"
            )

    def initial(self, rng: np.random.Generator, count: int) -> Codes:
        """`count` networks inside the budgets, uniform as far as enough are found: [count, genes]"""
        if self.latency_budget_ms is None:
            return sample(self.space, rng, count, self.window)
        drawn = sample(self.space, rng, 20 * count, self.window)
        return drawn[np.argsort(self.predict(drawn).high_ms > self.latency_budget_ms, kind="stable")][:count]

    def settle(self, code: Codes) -> Trial:
        """What is known of a network without evaluating it. `excess` is the budget's violation, 0 where it is met."""
        cost, latency = costs(self.space, code), self.predict(code)
        over = max(cost.macs - self.window.high, self.window.low - cost.macs, 0) / self.window.high
        if self.latency_budget_ms is not None:
            over += max(float(latency.high_ms[0]) / self.latency_budget_ms - 1, 0.0)
        return {
            "arch": self.space.decode(code).id,
            "code": np.asarray(code).tolist(),
            "macs": cost.macs,
            "params": cost.params,
            "latency_ms": float(latency.ms[0]),
            "latency_low_ms": float(latency.low_ms[0]),
            "latency_high_ms": float(latency.high_ms[0]),
            "excess": over,
        }

    def run(self, code: Codes, seen: dict[str, Trial]) -> Trial:
        """Settles a network and, where that is called for, evaluates it.

        Args:
            seen: evaluated trials by architecture.
        """
        trial = self.settle(code)
        if trial["excess"]:
            return {**trial, "state": INFEASIBLE, "accuracy": None, "seconds": 0.0}
        if before := seen.get(trial["arch"]):
            return {**trial, "state": REPEATED, "accuracy": before["accuracy"], "seconds": 0.0}
        start = time.monotonic()
        try:
            accuracy = float(self.evaluate(self.space.decode(code)))
            error = None if math.isfinite(accuracy) else f"accuracy is {accuracy}"
        except Exception as exception:  # one network's failure must not end the search; it is in the log
            accuracy, error = math.nan, f"{type(exception).__name__}: {exception}"
        seconds = round(time.monotonic() - start, 4)
        if error:
            return {**trial, "state": FAILED, "accuracy": None, "seconds": seconds, "error": error}
        return {**trial, "state": COMPLETE, "accuracy": accuracy, "seconds": seconds}
