"""`manifest.json`: what an export is, and every file of it with its SHA-256. Read without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import ConfigDict, Field

from search.data.crop import INTERPOLATION, crop_share
from search.errors import UserError
from search.files import read_json
from search.identity import Identity, file_digest
from search.progress import best_effort
from search.records import ArchId, Count, Member, Record, Sha256, Share, parse_record
from search.run_folder.source_run import SourceRun, source_run
from search.training.known_images import known_images
from search.training.records import Outcome, TrainedMetadata, metadata_of_weights

if TYPE_CHECKING:
    from search.latency.predictor import Prediction
    from search.latency.table import LatencyTable
    from spaces.space import Space

SCHEMA: Literal["ghostnas.manifest/1"] = "ghostnas.manifest/1"
MANIFEST = "manifest.json"


class Accuracy(Record):
    """Top-1 accuracies of a trained network."""

    model_config = ConfigDict(extra="allow")
    test: Share | None = None
    test_images: Count | None = None
    inherited_on_search_split: Share | None = None


class SearchedLatency(Record):
    """A network's latency on the device that a search was for, in milliseconds: by the table, and timed."""

    model_config = ConfigDict(extra="allow")
    runtime: str | None = None
    runtime_version: str | None = None
    threads: int = 1
    device: str | None = None
    predicted_ms: float | None = None
    predicted_low_ms: float | None = None
    predicted_high_ms: float | None = None
    measured_ms: float | None = None


class NetworkMetadata(Record):
    """What is known of a network before it is exported. A field that is not given is not in the file.

    Args:
        interpolation, crop_pct: how its images were scaled, and of their middle squares the share that it was shown, by
            timm's names.
        saw_search_images: it was trained on those that the search went by, too.
    """

    accuracy: Accuracy | None = None
    latency: SearchedLatency | None = None
    data: str | None = None
    classes: list[str] | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    loaded_at: Annotated[int, Field(ge=1)] | None = None
    interpolation: str | None = None
    crop_pct: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Count | None = None
    training: Outcome | None = None
    saw_search_images: bool | None = None
    space: str | None = None
    space_id: str | None = None
    identity: Identity | None = None
    run: SourceRun | None = None

    @classmethod
    def from_training(cls, trained: TrainedMetadata, accuracy: Accuracy) -> NetworkMetadata:
        """What a full training says of its network."""
        said = ("data", "classes", "mean", "std", "loaded_at", "seed", "training")
        known = {key: value for key in said if (value := getattr(trained, key)) is not None}
        share = crop_share(trained.loaded_at or trained.resolution)
        saw = bool(trained.config.get("use_held_out"))
        return cls(accuracy=accuracy, interpolation=INTERPOLATION, crop_pct=share, saw_search_images=saw, **known)


class QuantisedAccuracy(Record):
    """The accuracy of a network, and of the file that it was quantised to, on the same images."""

    before: Share
    after: Share
    images: Count
    split: str


class ExportedFile(Record):
    """A file of an export. One that can be run also has its `format` and the results of the comparison.

    Args:
        run_with: the setting of its runtime that it was compared under, where that is not the runtime's own default.
    """

    model_config = ConfigDict(extra="allow")
    sha256: Sha256
    bytes: Count | None = None
    format: str | None = None
    largest_difference: float | None = Field(default=None, ge=0)
    top1_agreement: float | None = Field(default=None, ge=0, le=1)
    on_random: Share | None = None
    on_real: Share | None = None
    macs: Count | None = None
    accuracy: QuantisedAccuracy | None = None
    latency_ms: float | None = Field(default=None, ge=0)
    run_with: str | None = None

    @classmethod
    def from_path(cls, path: Path) -> ExportedFile:
        """A file that lies on the disk, by its SHA-256 and size."""
        content = path.read_bytes()
        return cls(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


class ProofSummary(Record):
    """The images on which every file was tried, and how far its outputs may be from the network's."""

    random_images: Count
    random_seed: Count
    real_images: Count
    tolerance: float
    float32_error: float
    allowed_difference: float


class Machine(Record):
    """Where an export was written."""

    system: str
    processor: str


class Manifest(NetworkMetadata):
    """What an export is: an architecture, its costs, what is known of it, and every file, by its path in the folder."""

    model_config = ConfigDict(extra="allow")
    schema_: Literal["ghostnas.manifest/1"] = Field(alias="schema")
    arch: ArchId
    macs: Count
    params: Count | None = None
    resolution: Count | None = None
    num_classes: Count
    in_chs: int = Field(ge=1)
    onnx_opset: Count | None = None
    tried_on: ProofSummary | None = None
    files: Mapping[Member, ExportedFile]
    latency_measured: str | None = None
    machine: Machine | None = None
    versions: dict[str, str] = Field(default_factory=dict)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an export.

    Raises:
        UserError: there is none, or one that this version can't read.
    """
    try:
        content = read_json(folder / MANIFEST)
    except OSError as error:
        raise UserError(f"{folder} holds no export: {MANIFEST}: {error.strerror}") from None
    manifest = parse_record(Manifest, content, str(folder / MANIFEST))
    for name, file in manifest.files.items():
        if file.format is not None and file.top1_agreement is None:
            raise UserError(f"{folder / MANIFEST} says that {name} runs, but not how its answers agreed")
    return manifest


def known_metadata(arch: Path | None, weights: Path) -> NetworkMetadata:
    """What files beside the weights and the architecture say of a network.

    Raises:
        UserError: one of them breaks a rule.
    """
    metadata = NetworkMetadata()
    if trained := metadata_of_weights(weights):
        accuracy = Accuracy(test=trained.test_accuracy, test_images=trained.test_images)
        metadata = NetworkMetadata.from_training(trained, accuracy)
    if arch and (arch / MANIFEST).exists():  # the architecture comes from an export of a run
        exported = read_manifest(arch)
        known = {"space", "space_id", "run"}
        listed = exported.files.get(weights.name)
        if metadata.data is None and listed and listed.sha256 == file_digest(weights):
            known = {*NetworkMetadata.model_fields} - {"identity"}  # which is of the export that a run wrote
        found = {key: value for key in known if (value := getattr(exported, key)) is not None}
        metadata = metadata.model_copy(update=found)
    if metadata.data is None and (images := known_images(weights)):
        known_of = ("classes", "mean", "std")
        metadata = metadata.model_copy(
            update={key: list(value) for key in known_of if (value := getattr(images, key)) is not None}
        )
    with best_effort("the run that the network came from"):
        if run := source_run(weights):
            update = {"run": run, "space": run.space, "space_id": run.space_id}
            metadata = metadata.model_copy(update=update)
    return metadata


def searched_metadata(
    trained: TrainedMetadata,
    space: Space,
    table: LatencyTable,
    predicted: Prediction,
    *,
    measured_ms: float,
    inherited: float | None,
    identity: Identity,
    run: SourceRun | None,
) -> NetworkMetadata:
    """What a run knows of a network that it chose and trained.

    Args:
        predicted: the network's latency by the table.
        measured_ms: its latency, timed as the table was.
        inherited: its accuracy on the search split, with the supernet's weights; None where nobody looked.
        identity: what makes two exports the same.
    """
    accuracy = Accuracy(
        test=trained.test_accuracy, test_images=trained.test_images, inherited_on_search_split=inherited
    )
    latency = SearchedLatency(
        runtime=table.setting.runtime,
        runtime_version=table.setting.runtime_version,
        threads=table.setting.threads,
        device=table.device.cpu,
        predicted_ms=float(predicted.latency_ms[0]),
        predicted_low_ms=float(predicted.low_ms[0]),
        predicted_high_ms=float(predicted.high_ms[0]),
        measured_ms=measured_ms,
    )
    known = NetworkMetadata.from_training(trained, accuracy)
    return known.model_copy(
        update={
            "latency": latency,
            "space": space.name,
            "space_id": space.id,
            "identity": identity,
            "run": run,
        }
    )
