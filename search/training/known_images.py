"""What the files beside a network's weights say of the images that it was trained on: their classes, and how they are
normalised. Read without torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import Field

from ghostnet.files import network_folder, weights_file
from search.files import read_json
from search.records import Record, parse_record
from search.training.records import metadata_of_weights

if TYPE_CHECKING:
    from search.data.datasets import Data

TIMM_CONFIG = "config.json"
OURS = "ghostnas"  # what timm calls our networks
NAMED = 3  # classes of each side, where they differ


class KnownImages(Protocol):
    """What is known of the images that a network was trained on.

    Args:
        classes: their names.
        mean, std: by which pixels from 0 to 1 are normalised, a channel each.
    """

    @property
    def classes(self) -> Sequence[str] | None: ...
    @property
    def mean(self) -> Sequence[float] | None: ...
    @property
    def std(self) -> Sequence[float] | None: ...


class TimmData(Record):
    """Of timm's configuration of a network, what is of its images."""

    classes: list[str] | None = Field(default=None, alias="label_names")
    mean: list[float] | None = None
    std: list[Annotated[float, Field(gt=0)]] | None = None
    input_size: list[int] | None = Field(default=None, min_length=3, max_length=3)


class TimmConfig(Record):
    """What is read of `config.json`, in a folder for the Hub or of an export."""

    architecture: str = ""
    num_classes: Annotated[int, Field(ge=0)] | None = None
    images: TimmData = Field(default=TimmData(), alias="pretrained_cfg")


def read_timm_config(folder: Path) -> TimmConfig | None:
    """timm's configuration of the network in a folder; None where there is none, or the file is something else's.

    Raises:
        UserError: it breaks a rule.
    """
    file = folder / TIMM_CONFIG
    content = read_json(file) if file.is_file() else None
    of_timm = isinstance(content, dict) and "architecture" in content
    return parse_record(TimmConfig, content, str(file)) if of_timm else None


def known_images(source: str | Path) -> KnownImages | None:
    """What is known of the images of a network: of a file of weights, of a network's folder, of a transplanted
    supernet's parent. By its full training, where that left these weights, or else by timm's configuration beside them.

    Raises:
        UserError: a file breaks a rule.
    """
    weights = Path(source).expanduser()
    if weights.is_dir():
        weights = weights_file(network_folder(weights))
    if not weights.is_file():
        return None
    if trained := metadata_of_weights(weights):
        return trained
    config = read_timm_config(weights.parent)
    if config is None:
        return None
    images = config.images
    if config.architecture == OURS and not any(images.mean or ()) and set(images.std or ()) == {1.0}:
        return images.model_copy(update={"mean": None, "std": None})  # what we write where we don't know
    return images


def other_classes(network: KnownImages | None, data: "Data") -> str | None:
    """How a network's classes differ from the data's, for a message; None where they don't, or where either has numbers
    for names. The same names in another order are other classes, too."""
    known = network.classes if network else None
    if known is None or tuple(known) == data.classes or _numbered(known) or _numbered(data.classes):
        return None
    pairs = zip(known, data.classes, strict=False)
    first = next((k for k, (its, ours) in enumerate(pairs) if its != ours), min(len(known), data.num_classes))
    its, ours = (", ".join(name[:40] for name in names[first : first + NAMED]) for names in (known, data.classes))
    return f"has other classes than {data.name}: from number {first} on {its}; not {ours}"


def _numbered(classes: Sequence[str]) -> bool:
    return all(name.isdecimal() for name in classes)
