"""A run's folder: what stands where in it, and how far it has come.

A stage is done when its product lies in the folder, and only then; that is all the state there is. So a run that was
killed anywhere goes on from the first product that is missing, and each stage resumes from its own log or checkpoint.
Stages hand each other plain files.
"""

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from search.recipes.schema import Recipe
from search.records import Record, read_record
from spaces.custom import space_of
from spaces.space import Space

if TYPE_CHECKING:  # torch is loaded by the first stage that needs it
    import torch

    from search.data.datasets import Data

SCHEMA = "ghostnas.run/1"
# What each stage gets of a time box, relative to the stages that are still to come.
SHARES = {"train": 0.42, "calibrate": 0.12, "search": 0.13, "retrain": 0.30, "export": 0.02, "report": 0.01}
RUN, SUPERNET, TABLE, TRIALS = "run.json", "supernet", "latency/table.lat.json", "search/trials.jsonl"
RESULT, NETWORKS, EXPORTS = "search/result.json", "networks", "export"
INHERITED, TIMES = "networks/inherited.json", "networks/latency.json"
FIRST_TRIALS, FIDELITY = "fidelity/trials.jsonl", "fidelity/fidelity.json"
REPORT = "report/report.html"
PRODUCTS = {
    "train": f"{SUPERNET}/supernet.json",
    "calibrate": TABLE,
    "fidelity": FIDELITY,
    "search": RESULT,
    "retrain": TIMES,
    "export": f"{EXPORTS}/done.json",
    "report": REPORT,
}


class RunRecord(Record):
    """`run.json`: the recipe that a run is of."""

    schema_: Literal["ghostnas.run/1"] = Field(alias="schema")
    recipe: Recipe


@dataclass
class Run:
    """One run in one folder.

    Args:
        minutes: time box for all that is still to do; None runs every stage in full.
    """

    recipe: Recipe
    out: Path
    minutes: float | None = None
    started: float = field(default_factory=time.monotonic)

    @cached_property
    def data(self) -> "Data":
        from search.data.datasets import load

        return load(self.recipe.data, space_of(self.recipe.space).resolution_choices[-1], self.recipe.train_images)

    @cached_property
    def space(self) -> Space:
        from search.training.supernet import space_for

        return space_for(space_of(self.recipe.space), self.data.num_classes, self.data.in_chs)

    @cached_property
    def device(self) -> "torch.device":
        from search.training.distributed import best_device

        return best_device()

    def done(self, stage: str) -> bool:
        return (self.out / PRODUCTS[stage]).exists()

    def wanted(self, stage: str) -> bool:
        """Whether this run has the stage, finished or not: fidelity is for recipes that ask for it, without a time box,
        and comes before the search or not at all."""
        if stage != "fidelity":
            return True
        to_come = not self.minutes and not self.done("search")
        return bool(self.recipe.fidelity.networks) and (self.done("fidelity") or to_come)

    def seconds(self, stage: str) -> float | None:
        """What is left of the time box for a stage, the later ones' shares set aside."""
        if self.minutes is None:
            return None
        left = self.minutes * 60 - (time.monotonic() - self.started)
        to_come = [each for each in SHARES if not self.done(each)]
        return max(left, 1.0) * SHARES[stage] / sum(SHARES[each] for each in to_come)


def recorded_recipe(out: Path) -> Recipe:
    """The recipe of the run in a folder.

    Raises:
        UserError: it holds no run that this version can read.
    """
    return read_record(out / RUN, RunRecord).recipe
