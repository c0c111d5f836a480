"""The records that trainings write besides weights. They are read without torch."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from ghostnet import files
from ghostnet.files import WEIGHTS_FILE
from search.errors import UserError
from search.identity import Identity, file_digest
from search.recipes.schema import MOST_FITTING_IMAGES
from search.records import ArchId, Count, Record, Seconds, Sha256, Share, read_record
from spaces.custom import SpaceRecord

SUPERNET_FILE, TRAINED_FILE = "supernet.json", "trained.json"
SUPERNET_SCHEMA: Literal["ghostnas.supernet/2"] = "ghostnas.supernet/2"
TRAINED_SCHEMA: Literal["ghostnas.trained/1"] = "ghostnas.trained/1"
PARENT = files.PARENT
Channels = Annotated[int, Field(ge=1, le=1 << 16)]
Classes = Annotated[int, Field(ge=0, le=1 << 20)]


class Progress(Record):
    """How far a training is: the header of a checkpoint.

    Args:
        at: how far its schedule is, in the recipe's steps; a time box moves that on otherwise than step by step.
        seconds: those at work, before a kill included.
    """

    step: Count
    at: Annotated[float, Field(ge=0)]
    skipped: Count
    seconds: Seconds
    loss: float


TrainingEnd = Literal["schedule", "time box"]


class Outcome(Record):
    """The result of a training, and what ended it. Files of earlier versions have no `planned_steps`, and the time box
    alone ended a training of theirs early."""

    model_config = ConfigDict(extra="allow")
    epochs: Annotated[float, Field(ge=0)]
    planned_epochs: Annotated[float, Field(ge=0)]
    steps: Count
    planned_steps: Count = 0
    skipped_steps: Count
    seconds: Seconds
    loss: float
    ended: TrainingEnd = Field(
        default_factory=lambda data: "time box" if data["epochs"] < 0.99 * data["planned_epochs"] else "schedule"
    )

    @property
    def share(self) -> float:
        """Its steps, as a share of the recipe's; 1 where these are not known."""
        return self.steps / self.planned_steps if self.planned_steps else 1.0

    @property
    def repeated_epochs(self) -> float:
        """Its epochs, so rounded that a training for so many has its steps again."""
        if not self.epochs:
            return self.epochs
        per_epoch = max(1, round(self.steps / self.epochs))
        return math.floor(10_000 * self.steps / per_epoch) / 10_000

    @property
    def stretched(self) -> bool:
        """Whether a time box gave it more steps than the recipe."""
        return self.steps > self.planned_steps > 0


class ParentMetadata(Record):
    """The parent of a transplanted supernet: where its weights are from, its accuracy on the test split, its costs.

    Args:
        saw_search_images: it was trained before, also on those that the search goes by.
    """

    arch: ArchId
    origin: str | None = Field(default=None, validation_alias="from", serialization_alias="from")
    test_accuracy: Share
    macs: Count
    params: Count
    saw_search_images: bool = False


FittingImages = Annotated[int, Field(ge=1, le=MOST_FITTING_IMAGES)]


class Fitting(Record):
    """How the networks of a transplanted supernet are fitted to its parent: keys of a recipe's `[supernet]`, which
    `supernet.json` has, too, and which tell one supernet from another. One that has its default says nothing, so that
    supernets stay what they are when a key is added."""

    images: FittingImages

    @classmethod
    def from_keys(cls, source: object) -> "Fitting":
        """What a recipe's part, or a supernet's metadata, says."""
        return cls(**{key: getattr(source, key) for key in cls.model_fields})

    @property
    def identity(self) -> dict[str, object]:
        """The keys that differ from their defaults."""
        return self.model_dump(exclude_defaults=True)


class SupernetMetadata(Record):
    """`supernet.json`: the space and the data that a finished supernet is of, and its training."""

    model_config = ConfigDict(extra="allow")
    schema_: Literal["ghostnas.supernet/2"] = Field(alias="schema")
    kind: Literal["elastic", "transplant"] = "elastic"
    space: SpaceRecord
    space_id: ArchId
    num_classes: Classes
    in_chs: Channels
    data: str
    chance: Share | None = None  # of the most frequent class among the images held out for the search
    seed: Count
    identity: Identity | None = None
    images: FittingImages | None = None  # of a transplanted one, as all keys of `Fitting`
    parent: ParentMetadata | None = None  # of a transplanted one
    config: Mapping[str, object] | None = None
    training: Outcome
    warnings: list[str] = Field(default_factory=list)


class TrainedMetadata(Record):
    """`trained.json`: a network's full training, and its accuracy on the test split.

    Args:
        loaded_at: the side at which images were loaded, so cropped, before they were scaled to `resolution`; None where
            that is its own, and in files of earlier versions.
        weights_sha256: of `weights.safetensors` beside it; files of earlier versions have none.
    """

    model_config = ConfigDict(extra="allow")
    schema_: Literal["ghostnas.trained/1"] = Field(alias="schema")
    arch: ArchId
    macs: Count
    params: Count
    resolution: Annotated[int, Field(ge=1)]
    loaded_at: Annotated[int, Field(ge=1)] | None = None
    num_classes: Classes
    in_chs: Channels
    data: str
    mean: list[float]
    std: list[float]
    classes: list[str]
    seed: Count
    init: str | None = None
    teacher: str | None = None
    config: Mapping[str, object]
    identity: Identity | None = None
    test_accuracy: Share
    test_images: Annotated[int, Field(ge=1)]
    weights_sha256: Sha256 | None = None
    training: Outcome
    warnings: list[str] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _with_the_side_in_its_identity(cls, values: Any) -> Any:
        """Earlier versions had it beside it alone."""
        identity = values.get("identity") if isinstance(values, dict) else None
        if isinstance(identity, dict) and (side := values.get("loaded_at")):
            return {**values, "identity": {"loaded_at": side, **identity}}
        return values

    def saw_held_out(self, fingerprint: str) -> bool:
        """Whether it was trained on images that a search of the data set of that fingerprint holds out."""
        return bool(self.config.get("use_held_out")) and (self.identity or {}).get("data") == fingerprint


def read_trained(file: Path) -> TrainedMetadata:
    """The metadata of a finished full training.

    Raises:
        UserError: there is none, or it breaks a rule.
    """
    return read_record(file, TrainedMetadata)


def metadata_of_weights(weights: Path) -> TrainedMetadata | None:
    """The metadata of the full training that a file of weights is of; None where none lies beside it, or it is of other
    weights than these.

    Raises:
        UserError: it breaks a rule.
    """
    file = weights.with_name(TRAINED_FILE)
    if weights.name != WEIGHTS_FILE or not file.exists():
        return None
    trained = read_trained(file)
    return trained if trained.weights_sha256 in (None, file_digest(weights)) else None


def check_unchanged(weights: Path) -> None:
    """Raises:
    UserError: these weights are not those that the full training left whose metadata lie beside them.
    """
    if weights.with_name(TRAINED_FILE).exists() and metadata_of_weights(weights) is None:
        raise UserError(f"{weights} was changed: {TRAINED_FILE} beside it is of weights with another SHA-256")
