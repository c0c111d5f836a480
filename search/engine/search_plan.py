"""How a search is run, whichever backend runs it."""

import time
from dataclasses import dataclass

from search.engine.log import TrialLog
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

    def should_stop(self, log: TrialLog, num_proposed: int | None = None) -> bool:
        """Whether the search ends with the trials of a log.

        Args:
            num_proposed: networks proposed so far, where the log doesn't have them all yet.
        """
        evaluated = log.num_evaluated
        proposed = len(log.trials) if num_proposed is None else num_proposed
        late = self.deadline is not None and time.monotonic() > self.deadline and evaluated >= self.at_least
        return late or evaluated >= self.trials or proposed >= PROPOSALS * self.trials
