"""One run at work in its folder: its recipe, its data, which stages it still has to do, and how these share its time
box."""

import math
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from search.data.datasets import Data, load_data, split_sizes
from search.engine.log import read_search_header
from search.parallel.cluster import Cluster
from search.parallel.processes import cores_for
from search.pipeline.settings import RunSettings
from search.pipeline.step_times import StepTimes
from search.recipes.schema import Recipe
from search.run_folder.estimate import Estimate, read_estimate
from search.run_folder.run import PRODUCTS, TRIALS
from search.training.distributed import best_device
from search.training.metadata import space_for
from search.training.time_box import LONGEST, TimeBox
from spaces.space import Space

# What stages get of a time box, relative to those that are still to come. Fidelity is not part of a run with one.
SHARES = {"train": 0.42, "calibrate": 0.12, "search": 0.13, "retrain": 0.30, "export": 0.02, "report": 0.01}
SPARE = 1.2  # times what a stage is expected to need: expectations are rough
STRETCHED = ("train", "search", "retrain")  # what is left goes to stages that make better networks of it


def share_minutes(minutes: float, needed: Mapping[str, float]) -> dict[str, float]:
    """How the stages that are still to come share minutes: by `SHARES`, but while one lacks some, none gets more than
    it needs; then none that is stretched gets more than `LONGEST` times that. What nobody takes is shared, too.

    Args:
        needed: minutes of a stage in full; infinite where that isn't known.
    """
    stretched = {stage: (LONGEST - 1) * needed[stage] if stage in STRETCHED else 0.0 for stage in needed}
    given = dict.fromkeys(needed, 0.0)
    for limits in (needed, stretched, dict.fromkeys(needed, math.inf)):
        part = _filled(minutes - sum(given.values()), limits)
        given = {stage: given[stage] + part[stage] for stage in needed}
    return given


def _filled(minutes: float, limits: Mapping[str, float]) -> dict[str, float]:
    """Minutes by `SHARES`, none above its limit; less in all where every stage has its limit."""
    given: dict[str, float] = {}
    left = max(0.0, minutes)
    while lacking := [stage for stage in limits if stage not in given]:
        shares = _shared(left, lacking)
        full = {stage: limits[stage] for stage in lacking if limits[stage] <= shares[stage]}
        if not full:
            return given | shares
        given |= full
        left -= sum(full.values())
    return given


def needed_minutes(stages: Collection[str], estimate: Estimate | None) -> dict[str, float]:
    """Minutes that stages need in full, with some to spare; infinite where nobody estimated them."""
    expected = {each.stage: each.minutes for each in estimate.stages} if estimate else {}
    return {stage: SPARE * expected.get(stage, math.inf) for stage in stages}


def _shared(minutes: float, stages: Collection[str]) -> dict[str, float]:
    total = sum(SHARES[stage] for stage in stages)
    return {stage: minutes * SHARES[stage] / total for stage in stages}


@dataclass
class Run:
    """One run in one folder."""

    recipe: Recipe
    out: Path
    settings: RunSettings = field(default_factory=RunSettings)

    @cached_property
    def data(self) -> Data:
        return load_data(self.recipe.data, self.recipe.search_space.resolution_choices[-1], self.recipe.train_images)

    @cached_property
    def space(self) -> Space:
        return space_for(self.recipe.search_space, self.data.num_classes, self.data.in_chs)

    @cached_property
    def device(self) -> torch.device:
        return best_device()

    @property
    def training_cluster(self) -> Cluster:
        """Where networks are trained, with as many workers as the recipe says where the settings don't."""
        return self.settings.cluster.with_default(self.recipe.retrain.workers)

    @property
    def processes(self) -> int:
        """Of this machine, that work side by side."""
        return cores_for(self.recipe.threads)

    def set_threads(self) -> None:
        """Of torch in this process, where the recipe says how many."""
        if self.recipe.threads:
            torch.set_num_threads(self.recipe.threads)

    def done(self, stage: str) -> bool:
        return (self.out / PRODUCTS[stage]).exists()

    @property
    def stages(self) -> list[str]:
        """All stages of this run in order, done or not. Fidelity is one where the recipe asks for it, there is no time
        box, and the search is still to come; or where it is done, unless a search began without it."""
        to_come = not self.settings.minutes and not self.done("search")
        wanted = bool(self.recipe.fidelity.networks) and not self.began_uncorrected
        return [stage for stage in PRODUCTS if stage != "fidelity" or (wanted and (self.done("fidelity") or to_come))]

    @property
    def began_uncorrected(self) -> bool:
        """Whether the search has begun without a fidelity study: in a time box. It goes on as it began."""
        header = read_search_header(self.out / TRIALS)
        return header is not None and header.fidelity is None

    @property
    def to_come(self) -> list[str]:
        """The stages that are still to be done, in order."""
        return [stage for stage in self.stages if not self.done(stage)]

    def seconds(self, stage: str) -> float | None:
        """What is left of the time box for a stage, the later ones' shares set aside."""
        if self.settings.minutes is None:
            return None
        left = self.settings.minutes - (time.monotonic() - self.settings.begun) / 60
        return 60 * share_minutes(max(left, 1 / 60), self.needed)[stage]

    @property
    def needed(self) -> dict[str, float]:
        """Minutes that the stages to come need in full."""
        return needed_minutes(self.to_come, self.estimate)

    @cached_property
    def step_times(self) -> StepTimes:
        return StepTimes(split_sizes(self.recipe.data, self.recipe.train_images), self.device)

    def box(self, stage: str) -> TimeBox | None:
        """What a stage's trainings may take of the time box."""
        seconds = self.seconds(stage)
        return None if seconds is None else TimeBox(seconds, self.stretch(stage))

    def stretch(self, stage: str) -> float:
        """How many times its length in the recipe a stage may take: once, but where a time box has more for it than it
        needs, and so for all the later ones what they need."""
        seconds = self.seconds(stage)
        return LONGEST if seconds and seconds > 60 * 1.001 * self.needed[stage] else 1.0  # sums of shares round

    @cached_property
    def estimate(self) -> Estimate | None:
        """What the run was expected to take, before it began."""
        return read_estimate(self.out, self.recipe)
