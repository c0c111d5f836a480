"""`estimate.json`: what a run was expected to take, before it was begun."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from search.identity import digest
from search.recipes.schema import Recipe
from search.records import Count, PositiveCount, Record, read_record, write_record

ESTIMATE = "estimate.json"
Minutes = Annotated[float, Field(ge=0)]


class StageEstimate(Record):
    """What one stage will take: minutes, of several processes where they work side by side, and of these the minutes in
    which one works alone; networks that it trains, evaluates or exports; steps of training and images shown in training
    or evaluated, all networks together; bytes that it leaves on the disk, a checkpoint on the way included; bytes of
    the process at the most."""

    stage: str
    minutes: Minutes
    alone: Minutes = 0.0
    processes: PositiveCount = 1
    networks: Count = 0
    steps: Count = 0
    images: Count = 0
    disk: Count = 0
    memory: Count = 0

    @property
    def minutes_at_work(self) -> float:
        """Of all processes together."""
        return self.alone + (self.minutes - self.alone) * self.processes


class Estimate(Record):
    """What a run will take, stage by stage.

    Args:
        recipe: a digest of the run's, as `recipe_digest` has it; None in files of earlier versions.
    """

    schema_: Literal["ghostnas.estimate/1"] = Field(default="ghostnas.estimate/1", alias="schema")
    recipe: str | None = None
    stages: tuple[StageEstimate, ...]

    @property
    def total(self) -> StageEstimate:
        """The sums over the stages, but for the networks, which several stages have; of memory the most."""
        return StageEstimate(
            stage="all",
            minutes=sum(stage.minutes for stage in self.stages),
            steps=sum(stage.steps for stage in self.stages),
            images=sum(stage.images for stage in self.stages),
            disk=sum(stage.disk for stage in self.stages),
            memory=max((stage.memory for stage in self.stages), default=0),
        )


def recipe_digest(recipe: Recipe) -> str:
    """Of a recipe, wherever its data lie."""
    return digest(recipe.model_dump(mode="json", exclude={"data"}))


def read_estimate(folder: Path, recipe: Recipe | None = None) -> Estimate | None:
    """What the run in a folder was expected to take; None where nobody asked, or asked of another recipe than this one.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / ESTIMATE
    known = read_record(path, Estimate) if path.exists() else None
    return None if known and recipe and known.recipe not in (None, recipe_digest(recipe)) else known


def write_estimate(folder: Path, estimate: Estimate) -> None:
    """Keeps an estimate in a run's folder, for the report."""
    write_record(folder / ESTIMATE, estimate)
