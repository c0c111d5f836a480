"""How a search is run, whichever backend runs it."""

import time
from dataclasses import dataclass

from search.recipes.schema import Sampler

PROPOSALS = 50  # a trial, before the search ends for want of new networks


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """How many networks a search evaluates, with which sampler, and where.

    Args:
        trials: different networks to evaluate, failed ones included.
        population: of these, how many are drawn inside the budgets, uniformly, before the sampler goes on.
        deadline: by `time.monotonic()`; then the search ends, once it has `at_least` so many.
        storage: where Optuna's study is kept for others to see; None: in memory.
        workers: processes that evaluate side by side.
        address: of a Ray cluster; None: this machine.
        gpus: of each worker.
    """

    trials: int
    sampler: Sampler = "guided"
    population: int = 40
    seed: int = 0
    deadline: float | None = None
    at_least: int = 1
    storage: str | None = None
    workers: int = 1
    address: str | None = None
    gpus: float = 0.0

    def should_stop(self, num_evaluated: int, num_proposed: int) -> bool:
        """Whether the search ends, after so many networks evaluated and proposed."""
        late = self.deadline is not None and time.monotonic() > self.deadline and num_evaluated >= self.at_least
        return late or num_evaluated >= self.trials or num_proposed >= PROPOSALS * self.trials
