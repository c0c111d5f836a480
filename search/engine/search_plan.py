"""How a search is run, whichever backend runs it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ghostnet.arch import Arch
from search.deadlines import has_passed
from search.engine.front import growth
from search.engine.ladder import rung_that_lacks
from search.engine.log import TrialLog
from search.engine.objectives import Objective
from search.parallel.cluster import HERE, Cluster
from search.recipes.choices import Sampler

PROPOSALS = 50  # a trial, before the search ends for want of new networks
SearchEnd = Literal["trials", "time box", "no new networks", "no growth"]  # what ended a search
GROWTH = 0.01  # of the hypervolume, by the last third of the trials, below which a front grows slowly


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """How many networks a search evaluates, with which sampler, and where.

    Args:
        trials: different networks to evaluate, failed ones included.
        enough: of these, after which the search ends as soon as the front grows slowly; None: all.
        population: of these, how many are evaluated before the sampler goes on: the `known` ones, and others drawn
            uniformly inside the budgets.
        known: networks that are expected to be good; those inside a budget are evaluated first.
        num_rungs: of a ladder on which the sampler promotes. When all networks are evaluated, the best ones go on until
            every rung has sent up the usual share; before, a search ends for its deadline alone.
        deadline: by `time.monotonic()`; then the search ends, once it has `at_least` so many.
        storage: where Optuna's study is kept for others to see; None: in memory.
        cluster: the processes that evaluate side by side, under Ray and NNI.
        processes: of this machine that do so under Optuna, where several networks are settled; no result depends on it.
        gpus: of each worker.
    """

    trials: int
    enough: int | None = None
    sampler: Sampler = "guided"
    population: int = 10
    known: tuple[Arch, ...] = ()
    seed: int = 0
    num_rungs: int = 1
    deadline: float | None = None
    at_least: int = 1
    storage: str | None = None
    cluster: Cluster = HERE
    processes: int = 1
    gpus: float = 0.0

    def end_reason(
        self, log: TrialLog, objectives: Sequence[Objective], num_proposed: int | None = None
    ) -> SearchEnd | None:
        """Why the search ends with the trials of a log; None: it goes on.

        Args:
            objectives: the search's, by which its front grows.
            num_proposed: networks proposed so far, where the log doesn't have them all yet.
        """
        evaluated = log.num_evaluated
        proposed = len(log.trials) if num_proposed is None else num_proposed
        if evaluated >= self.trials and not self._lacks(log):
            return "trials"
        if proposed >= PROPOSALS * self.trials:
            return "no new networks"
        may_end = self.enough is not None and evaluated >= self.enough and not self._lacks(log)
        if may_end and growth(log.evaluated, objectives) < GROWTH:
            return "no growth"
        late = has_passed(self.deadline) and evaluated >= self.at_least
        return "time box" if late else None

    def _lacks(self, log: TrialLog) -> bool:
        heights = [len(trial.rungs or ()) for trial in log.evaluated] if self.num_rungs > 1 else []
        return rung_that_lacks(heights, self.num_rungs) is not None
