"""A data set of the user's own: two of `torch.utils.data.Dataset`, read into memory once."""

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_image

from ghostnet.arch import MAX_SIDE
from search.data.datasets import Data, split_up
from search.data.images import centre_crop, to_rgb
from search.data.labels import MAX_CLASSES, check_names, check_same
from search.data.splits import Split
from search.errors import UserError, check_whole


@runtime_checkable
class ImageDataset(Protocol):
    """What `torch.utils.data.Dataset` is for a map of numbers to (image, label)."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


def from_datasets(
    train: ImageDataset,
    test: ImageDataset,
    *,
    name: str = "dataset",
    classes: Sequence[str] | None = None,
    resolution: int | None = None,
    flip: bool = True,
) -> Data:
    """The four splits of a data set from a training and a test part, such as `torch.utils.data.Dataset`.

    Parts of the training images are held out for the search and for batch norm; the test images are looked at by final
    evaluation alone. So the parts must come without augmentation and normalisation: trainings see to these.

    Args:
        train, test: have a length and, by number, (image, label). An image is a PIL image, an array or tensor of uint8,
            or a float tensor with values from 0 to 1; as tensors [C, H, W]. PIL images that are neither L nor RGB
            become RGB. A label is a number from 0.
        name: what metadata and reports call it.
        classes: their names; those of `train.classes` where it has them, else the numbers. Where both parts have them
            and they are not given here, they must be the same.
        resolution: side of the images in pixels; larger ones are scaled and cropped to their middle. None: as they are.
        flip: whether a mirror image keeps its class.

    Raises:
        UserError: what is no image or label, images of different sizes without a `resolution`, too few images or
            classes, too many classes, or parts of different classes.
    """
    if resolution is not None:
        resolution = check_whole(f"{name}: `resolution`", resolution, 1, MAX_SIDE)
    parts = [_read(part, f"{name}, {word} image", resolution) for word, part in (("training", train), ("test", test))]
    if parts[0].images.shape[1:] != parts[1].images.shape[1:]:
        raise UserError(f"{name}: training images are {_shape(parts[0])}, test images {_shape(parts[1])}")
    most = 1 + max(int(part.labels.max()) for part in parts)
    given = classes
    if given is None:
        given, tested = _names(train), _names(test)
        if given is not None and tested is not None:
            check_same(given, tested, (f"{name}'s training part", f"{name}'s test part"))
    if given is None and most > MAX_CLASSES:
        raise UserError(f"{name}: at most {MAX_CLASSES} classes, but a label is {most - 1}")
    names = check_names([str(each) for each in (range(most) if given is None else given)])
    if most > len(names):
        raise UserError(f"{name}: labels of {len(names)} classes go from 0 to {len(names) - 1}, but one is {most - 1}")
    content = hashlib.sha256()
    for part in parts:
        content.update(repr(tuple(part.images.shape)).encode())
        content.update(part.images.numpy().tobytes() + part.labels.numpy().tobytes())
    identity = content.hexdigest()[:12]
    return split_up(name, parts[0], parts[1], names, parts[0].resolution, flip=flip, identity=identity)


def _names(part: ImageDataset) -> list[str] | None:
    """What a part calls its classes; None where its `classes` are no names but their number, say."""
    known = getattr(part, "classes", None)
    if isinstance(known, str) or not isinstance(known, Sequence | np.ndarray):
        return None
    return [str(each) for each in known]


def _read(part: ImageDataset, what: str, resolution: int | None) -> Split:
    images, labels = [], []
    try:
        count = len(part)
    except TypeError:
        raise UserError(f"{what}s: the data set must have a length and give (image, label) by number") from None
    if not count:
        raise UserError(f"{what}s: there are none")
    for number in range(count):
        item = part[number]  # what this raises is the user's own
        try:
            image, label = item
        except (TypeError, ValueError):
            given = type(item).__name__
            raise UserError(f"{what} {number}: the data set must give (image, label), not a {given}") from None
        images.append(_image(image, f"{what} {number}", resolution))
        labels.append(_label(label, f"{what} {number}"))
        if images[-1].shape != images[0].shape:
            shapes = " and ".join(" x ".join(map(str, each.shape)) for each in (images[0], images[-1]))
            how = "; `resolution` makes one side" if resolution is None else ""
            raise UserError(
                f"{what} {number}: images must be of one shape, channels x height x width, not {shapes}{how}"
            )
    return Split(torch.stack(images), torch.tensor(labels, dtype=torch.int64))


def _image(image: Any, what: str, resolution: int | None) -> Tensor:
    """[C, H, W], uint8"""
    if isinstance(image, Image.Image) and image.mode not in ("L", "RGB"):
        image = to_rgb(image, what)
    try:
        pixels = to_image(image) if not isinstance(image, Tensor) else image
    except TypeError:
        raise UserError(f"{what} must be a PIL image, an array or a tensor, not {type(image).__name__}") from None
    pixels = torch.as_tensor(pixels)
    if pixels.layout != torch.strided:
        raise UserError(f"{what} must be a dense tensor, not {pixels.layout}")
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or not pixels.numel():
        raise UserError(
            f"{what} must have pixels of 1 or 3 channels, as [C, H, W], not the shape {tuple(pixels.shape)}"
        )
    if pixels.is_floating_point():
        low, high = float(pixels.min()), float(pixels.max())
        if not 0 <= low <= high <= 1:
            raise UserError(f"{what} must have values from 0 to 1, without normalisation, not {low:.3g} to {high:.3g}")
        pixels = (pixels * 255).round().to(torch.uint8)
    if pixels.dtype != torch.uint8:
        raise UserError(f"{what} must be uint8, or floats from 0 to 1, not {pixels.dtype}")
    if resolution is None and pixels.shape[1] != pixels.shape[2]:
        raise UserError(f"{what} is {pixels.shape[2]} x {pixels.shape[1]}: `resolution` makes squares of such images")
    pixels = pixels.detach().clone(memory_format=torch.contiguous_format)  # a data set may use its memory again
    return pixels if resolution is None else centre_crop(pixels[None], resolution)[0]


def _label(label: Any, what: str) -> int:
    try:
        number = np.asarray(label)
    except ValueError:  # lists of different lengths
        number = np.array(label, dtype=object)
    if number.shape != () or not np.issubdtype(number.dtype, np.integer) or not 0 <= int(number) < 1 << 31:
        raise UserError(f"{what} must have a label that is a whole number from 0, not {label!r}")
    return int(number)


def _shape(split: Split) -> str:
    return " x ".join(map(str, split.images.shape[1:]))
