"""One run at work in its folder: its recipe, its data, and what is left of its time box."""

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from search.data.datasets import Data, load_data
from search.pipeline.time_box import SHARES, share_of_time
from search.recipes.schema import Recipe
from search.run_folder.run import PRODUCTS
from search.training.distributed import best_device
from search.training.metadata import space_for
from spaces.custom import parse_space
from spaces.space import Space


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
    def data(self) -> Data:
        return load_data(
            self.recipe.data, parse_space(self.recipe.space).resolution_choices[-1], self.recipe.train_images
        )

    @cached_property
    def space(self) -> Space:
        return space_for(parse_space(self.recipe.space), self.data.num_classes, self.data.in_chs)

    @cached_property
    def device(self) -> torch.device:
        return best_device()

    def set_threads(self) -> None:
        """Of torch in this process, where the recipe says how many."""
        if self.recipe.threads:
            torch.set_num_threads(self.recipe.threads)

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
        return max(left, 1.0) * share_of_time(stage, [each for each in SHARES if not self.done(each)])
