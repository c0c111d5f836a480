"""The base of our own samplers for Optuna, which propose a whole network at once."""

from abc import abstractmethod
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from search.engine.optuna_study import Distributions, distributions, params
from search.engine.problem import Problem
from spaces.space import Codes


class Proposer(optuna.samplers.BaseSampler):
    """A sampler that proposes codes."""

    problem: Problem

    @abstractmethod
    def propose(self, number: int) -> Codes:
        """The code for trial `number`, [genes]."""

    def settled(self, number: int) -> Codes:
        """The codes for the trials from `number` on, as far as no result will change them any more, [n, genes]."""
        return np.empty((0, len(self.problem.space.genes)), dtype=np.int64)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> Distributions:
        return distributions(self.problem.space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: Distributions
    ) -> dict[str, str | float]:
        return params(self.problem.space, self.propose(trial.number).tolist())

    def sample_independent(self, study: Any, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        raise AssertionError("genes are proposed together")
