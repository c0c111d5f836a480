"""`manifest.json`: what an export is, and every file of it with its SHA-256. Read without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict, Field

from search.errors import UserError
from search.files import read_json
from search.records import ArchId, Count, Member, Record, Sha256, parse_record
from search.training.records import TRAINED_FILE, read_trained

if TYPE_CHECKING:
    from search.identity import Identity
    from search.latency.predictor import Prediction
    from search.latency.table import LatencyTable
    from search.training.records import TrainedMetadata
    from spaces.space import Space

SCHEMA: Literal["ghostnas.manifest/1"] = "ghostnas.manifest/1"
MANIFEST, ARCH = "manifest.json", "arch.json"


class ExportedFile(Record):
    """A file of an export. One that can be run also has its `format` and the results of the comparison."""

    model_config = ConfigDict(extra="allow")
    sha256: Sha256
    bytes: Count | None = None
    format: str | None = None
    macs: Count | None = None
    top1_agreement: float | None = Field(default=None, ge=0, le=1)
    largest_difference: float | None = Field(default=None, ge=0)
    latency_ms: float | None = Field(default=None, ge=0)


class Manifest(Record):
    """What an export is: an architecture, its costs, and every file, by its path in the folder."""

    model_config = ConfigDict(extra="allow")
    schema_: Literal["ghostnas.manifest/1"] = Field(alias="schema")
    arch: ArchId
    macs: Count
    num_classes: Count
    in_chs: int = Field(ge=1)
    space: str | None = None
    space_id: str | None = None
    identity: dict[str, Any] | None = None
    files: dict[Member, ExportedFile]
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


def known_metadata(arch: Path | None, weights: Path) -> dict[str, Any]:
    """What files beside the weights and the architecture say of a network, for its manifest.

    Raises:
        UserError: one of them breaks a rule.
    """
    metadata: dict[str, Any] = {}
    if arch and (arch / MANIFEST).exists():  # the architecture comes from an export of a run
        exported = read_manifest(arch)
        metadata |= exported.model_dump(include={"space", "space_id"}, exclude_none=True)
    if (file := weights.with_name(TRAINED_FILE)).exists():
        trained = read_trained(file)
        accuracy = {"test": trained.test_accuracy, "test_images": trained.test_images}
        metadata |= {"accuracy": accuracy, **trained.for_manifest()}
    return metadata


def searched_metadata(
    trained: TrainedMetadata,
    space: Space,
    table: LatencyTable,
    predicted: Prediction,
    *,
    measured_ms: float,
    inherited: float,
    identity: Identity,
) -> dict[str, Any]:
    """What a run knows of a network that it chose and trained, for its manifest.

    Args:
        predicted: the network's latency by the table.
        measured_ms: its latency, timed as the table was.
        inherited: its accuracy on the search split, with the supernet's weights.
        identity: what makes two exports the same.
    """
    return {
        "accuracy": {
            "test": trained.test_accuracy,
            "test_images": trained.test_images,
            "inherited_on_search_split": inherited,
        },
        "latency": {
            "runtime": table.setting.runtime,
            "runtime_version": table.setting.runtime_version,
            "threads": table.setting.threads,
            "device": table.device.cpu,
            "predicted_ms": float(predicted.latency_ms[0]),
            "predicted_low_ms": float(predicted.low_ms[0]),
            "predicted_high_ms": float(predicted.high_ms[0]),
            "measured_ms": measured_ms,
        },
        **trained.for_manifest(),
        "space": space.name,
        "space_id": space.id,
        "identity": identity,
    }
