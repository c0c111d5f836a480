"""What evaluates networks in a process of Ray Tune's. It loads nothing that only the search needs."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from ray import tune

from search.engine.objectives import prepare
from search.engine.problem import Problem
from search.engine.trial import Rung
from search.records import record_json

RESULT = "found"  # an evaluation's key among a trial's metrics


class EvaluationWorker(tune.Trainable):
    """A worker: one network a trial."""

    def setup(self, config: Mapping[str, Any], problem: Problem) -> None:  # type: ignore[override]
        torch.set_num_threads(1)
        self.problem = problem
        self.reset_config(config)
        prepare(problem.evaluate)

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        self.code: list[int] = new_config["code"]
        self.rungs = tuple(Rung.model_validate(rung) for rung in new_config["rungs"])
        return True

    def step(self) -> dict[str, object]:
        """Evaluates the network, of a ladder on the next rung. Only its own failure is logged as one; after a worker's
        death Ray starts it again."""
        result = self.problem.measure(self.problem.space.decode(np.array(self.code)), self.rungs)
        self.rungs = result.rungs
        metrics = {o.name: result.columns.get(o.name, 0.0) for o in self.problem.sampler_objectives}
        rungs = [record_json(rung) for rung in result.rungs]
        return {**metrics, RESULT: {**asdict(result), "rungs": rungs}, "done": self.problem.is_over(result)}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """There is nothing to keep."""

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        """There is nothing to restore."""
