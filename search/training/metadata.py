"""A supernet's metadata, `supernet.json`: its space and data. And the identity of a training. Read without
torch."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from ghostnet.files import ARCH_FILE, HUB_WEIGHTS_FILE, WEIGHTS_FILE
from search.data.names import teacher_source
from search.errors import UserError, first_line
from search.files import read_json
from search.identity import Identity, check_same, digest, file_digest
from search.recipes.schema import Training
from search.records import parse_record, read_record
from search.training.records import (
    PARENT,
    SUPERNET_FILE,
    SUPERNET_SCHEMA,
    Fitting,
    Outcome,
    SupernetMetadata,
    TrainedMetadata,
)
from spaces.custom import parse_space, space_to_dict
from spaces.errors import SpaceError
from spaces.presets import named_space
from spaces.space import Space

if TYPE_CHECKING:
    from search.data.datasets import Data

T = TypeVar("T", bound=Training)
M = TypeVar("M", SupernetMetadata, TrainedMetadata)
SUPERNET_WEIGHTS = "supernet.safetensors"
PARENT_ARCH = f"{PARENT}/{ARCH_FILE}"
PARENT_WEIGHTS = f"{PARENT}/{WEIGHTS_FILE}"  # what a transplanted supernet has in place of SUPERNET_WEIGHTS
WITHOUT_EFFECT = {"checkpoint_seconds", "probes"}  # of a recipe, what leaves the weights as they would be without


def read_metadata(folder: Path) -> tuple[SupernetMetadata, Space]:
    """The metadata and the space of a finished supernet, without its weights.

    Raises:
        UserError: the folder holds none, or one of another space.
    """
    try:
        content = read_json(folder / SUPERNET_FILE)
        if isinstance(content, dict) and content.get("schema") == "ghostnas.supernet/1":
            # Its slices were not scaled where no norm follows.
            raise UserError(
                f"{folder / SUPERNET_FILE} is of an earlier version ({content['schema']}): train the supernet again"
            )
        try:
            metadata = parse_record(SupernetMetadata, content, str(folder / SUPERNET_FILE))
        except UserError as error:
            raise UserError(f"no supernet's metadata: {error}") from None
        space = space_for(parse_space(metadata.space), metadata.num_classes, metadata.in_chs)
    except OSError as error:
        raise UserError(f"{folder} holds no finished supernet: {SUPERNET_FILE}: {error.strerror}") from None
    except SpaceError as error:
        raise UserError(f"{folder / SUPERNET_FILE}: {error}") from None
    if not space.has_id(metadata.space_id):
        raise UserError(
            f"the supernet in {folder} is of another space {space.name}: {metadata.space_id}, not {space.id}"
        )
    return metadata, space


def supernet_metadata(
    space: Space,
    data: "Data",
    seed: int,
    identity: Identity,
    *,
    kind: Literal["elastic", "transplant"],
    config: Mapping[str, object],
    training: Outcome,
    warnings: list[str],
) -> SupernetMetadata:
    """The metadata that a supernet of either kind has."""
    return SupernetMetadata(
        schema=SUPERNET_SCHEMA,
        kind=kind,
        space=space_to_dict(space),
        space_id=space.id,
        num_classes=space.num_classes,
        in_chs=space.in_chs,
        data=data.name,
        chance=data.chance,
        seed=seed,
        identity=identity,
        config=config,
        training=training,
        warnings=warnings,
    )


def space_for(space: Space | str, num_classes: int, in_chs: int) -> Space:
    """A space, or the preset of that name, for data of so many classes and channels.

    Raises:
        SpaceError: no such preset.
    """
    space = named_space(space) if isinstance(space, str) else space
    return replace(space, num_classes=num_classes, in_chs=in_chs)


def supernet_config(metadata: SupernetMetadata, kind: type[T]) -> T:
    """How a supernet, or its parent, was trained, so that norms are recalibrated on the same kind of images; the
    defaults for metadata of an earlier version, which doesn't say.

    Raises:
        UserError: the metadata's recipe is none.
    """
    try:
        return kind.model_validate(metadata.config or {"epochs": 1.0}, strict=False)
    except ValueError as error:
        raise UserError(f"{SUPERNET_FILE}: `config` is no supernet's recipe: {first_line(error)}") from None


def training_identity(what: Identity, data: "Data", config: Training, seed: int) -> Identity:
    """What makes two trainings the same: `what` is trained, on which images, by which recipe and seed."""
    recipe = config.model_dump(mode="json", exclude=WITHOUT_EFFECT)
    return {**what, "data": data.fingerprint, "training_images": len(data.train), "seed": seed, "recipe": recipe}


def read_finished(path: Path, kind: type[M], identity: Identity) -> M | None:
    """The metadata of a finished training; None where there is none.

    Raises:
        UserError: it is of another training.
    """
    if not path.exists():
        return None
    metadata = read_record(path, kind)
    check_same(metadata.identity, identity, f"{path.parent} holds another training")
    return metadata


def check_data(folder: Path, data: "Data") -> None:
    """Raises:
    UserError: the supernet in a folder was trained on another data set.
    """
    if trained_on := read_metadata(folder)[0].identity:  # metadata of an earlier version have none
        what = f"{data.name} is not what the supernet in {folder} was trained on"
        check_same({"data": data.fingerprint}, {"data": trained_on.get("data")}, what)


def read_fitting(folder: Path, metadata: SupernetMetadata) -> Fitting:
    """How the networks of the transplanted supernet in a folder are fitted.

    Raises:
        UserError: its metadata don't say.
    """
    if metadata.images is None:
        raise UserError(f"{folder / SUPERNET_FILE} doesn't say by how many `images` its networks are fitted")
    return Fitting.from_keys(metadata)


def supernet_id(folder: Path) -> str:
    """Ten hex digits of a finished supernet: its space, its weights, and the recipe that says what its norms are shown.

    Raises:
        UserError: the folder holds none.
    """
    metadata, space = read_metadata(folder)
    made_of = read_fitting(folder, metadata).identity.values() if metadata.kind == "transplant" else ()
    return digest([space.id, weights_id(folder), metadata.config, *made_of])


def weights_id(folder: Path) -> str:
    """Ten hex digits of the weights in a folder (a supernet's, a network's, or such as timm reads) or in a file."""
    if folder.is_file():
        return digest([file_digest(folder)])
    names = (SUPERNET_WEIGHTS, PARENT_WEIGHTS, WEIGHTS_FILE, HUB_WEIGHTS_FILE, "pytorch_model.bin")
    return digest([file_digest(folder / name) for name in names if (folder / name).exists()])


def teacher_id(name: str) -> str:
    """A teacher by its weights, where they lie in a folder; by its name otherwise."""
    source = teacher_source(name)
    return f"{source.kind}:{weights_id(source.folder)}" if source.folder else name


def usual_teacher(teacher: str | None, init: Path | None) -> str | None:
    """Who a full training learns from: who is asked for, or the parent where the network begins as its transplant."""
    if teacher is None and init and (init / SUPERNET_FILE).exists() and read_metadata(init)[0].kind == "transplant":
        return f"supernet:{init}"
    return None if teacher == "none" else teacher
