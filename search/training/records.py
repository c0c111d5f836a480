"""The records that trainings write besides weights. They are read without torch."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from search.records import ArchId, Count, Record, Seconds, Share, read_record

TRAINED_FILE = "trained.json"
Channels = Annotated[int, Field(ge=1, le=1 << 16)]
Classes = Annotated[int, Field(ge=0, le=1 << 20)]


class Progress(Record):
    """How far a training is: the header of a checkpoint. `seconds` are those at work, before a kill included."""

    step: Count
    skipped: Count
    seconds: Seconds
    loss: float


class Outcome(Record):
    """The result of a training."""

    model_config = ConfigDict(extra="allow")
    epochs: Annotated[float, Field(ge=0)]
    planned_epochs: Annotated[float, Field(ge=0)]
    steps: Count
    skipped_steps: Count
    seconds: Seconds
    loss: float


class SupernetMetadata(Record):
    """`supernet.json`: the space and the data that a finished supernet is of, and its training."""

    model_config = ConfigDict(extra="allow")
    schema_: Literal["ghostnas.supernet/2"] = Field(alias="schema")
    kind: Literal["elastic", "transplant"] = "elastic"
    space: str | dict[str, Any]
    space_id: ArchId
    num_classes: Classes
    in_chs: Channels
    data: str
    seed: Count
    images: Count | None = None  # that a transplanted one's networks are fitted to
    config: dict[str, Any] | None = None
    identity: dict[str, Any] | None = None
    training: Outcome
    warnings: list[str] = Field(default_factory=list)


class TrainedMetadata(Record):
    """`trained.json`: a network's full training, and its accuracy on the test split."""

    model_config = ConfigDict(extra="allow")
    schema_: Literal["ghostnas.trained/1"] = Field(alias="schema")
    arch: ArchId
    macs: Count
    params: Count
    resolution: Annotated[int, Field(ge=1)]
    num_classes: Classes
    in_chs: Channels
    data: str
    mean: list[float]
    std: list[float]
    classes: list[str]
    seed: Count
    config: dict[str, Any]
    test_accuracy: Share
    test_images: Annotated[int, Field(ge=1)]
    training: Outcome
    identity: dict[str, Any] | None = None
    warnings: list[str] = Field(default_factory=list)

    def for_manifest(self) -> dict[str, Any]:
        """The metadata that exports of the network keep: its data and its training."""
        return self.model_dump(mode="json", include={"data", "classes", "mean", "std", "seed", "training"})


def read_trained(file: Path) -> TrainedMetadata:
    """The metadata of a finished full training.

    Raises:
        UserError: there is none, or it breaks a rule.
    """
    return read_record(file, TrainedMetadata)
