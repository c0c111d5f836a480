"""`manifest.json`: what an export is, and every file of it with its SHA-256."""

from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from search.errors import UserError
from search.files import read_json
from search.records import ArchId, Count, Member, Record, Sha256, parse_record

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
    files: dict[Member, ExportedFile]
    versions: dict[str, str] = Field(default_factory=dict)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export, as the JSON values of a `Manifest`.

    Raises:
        UserError: there is none, or one that this version can't read.
    """
    try:
        manifest = read_json(folder / MANIFEST)
    except OSError as error:
        raise UserError(f"{folder} holds no export: {MANIFEST}: {error.strerror}") from None
    parse_record(Manifest, manifest, str(folder / MANIFEST))
    for name, file in manifest["files"].items():
        if file.get("format") is not None and file.get("top1_agreement") is None:
            raise UserError(f"{folder / MANIFEST} says that {name} runs, but not how its answers agreed")
    return manifest
