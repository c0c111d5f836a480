"""The one decoder: an encoded image, in a file or in bytes, becomes 8-bit RGB as a viewer would show it.

16 bits are scaled to 8, transparent pixels lie on `GROUND`, EXIF's orientation is applied, palettes and CMYK are
converted. Whatever is wrong with an image is a `UserError` that names it.
"""

import io
import os
import stat
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar, cast

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from search.data.crop import crop_share
from search.deadlines import deadline_in, has_passed
from search.errors import UserError
from search.progress import bar

T = TypeVar("T")
R = TypeVar("R")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # Pillow reads more, some by running other programs
MAX_PIXELS = 89_478_485  # Pillow's own limit, above which it warns of a decompression bomb
NAMED = 5  # images that a message names
PHOTOMETRIC = 262  # TIFF's tag
CHECKED_AT_ONCE = 1000
TRIED = 16  # images, whose seconds say whether threads pay
# An image. Threads of smaller ones wait for the interpreter and for each other: all of CIFAR-10 took one thread 13.6 s,
# two 12.3, fifteen 22.2, on two cores; on sixteen cores fifteen took over two minutes.
SMALL_SECONDS = 5e-4
GROUND = (124, 116, 104)  # the mean colour of ImageNet's images, on which transparent pixels lie

# Pillow's warnings (damaged EXIF data, large images) would stand between the lines of a progress bar. What matters of
# them is an error here.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True, slots=True)
class ImageSource:
    """An encoded image.

    Args:
        name: what messages call it; the file's path where there are no bytes.
        content: the encoded bytes; None where they lie in the file.
    """

    name: str
    content: bytes | None = None


class UnreadableImages(UserError):
    """Images that can't be read: a few of them with the reason, and how many more there are.

    Args:
        reasons: why an image can't be read, with its name; one or more.
    """

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__(f"{listed(reasons)} (`?unreadable=skip` after the data's path leaves such images out)")


def listed(reasons: Sequence[str]) -> str:
    """Why images can't be read, of some of them, and how many more there are."""
    more = len(reasons) - NAMED
    rest = f"; and {more} more {'image' if more == 1 else 'images'}" if more > 0 else ""
    return "; ".join(sorted(reasons)[:NAMED]) + rest


def decode(source: ImageSource) -> Image.Image:
    """The image as 8-bit RGB.

    Raises:
        UserError: it is none, is damaged or too large; the message names it.
    """
    try:
        with _open_image(source) as image:
            image.load()
            return _rgb(_upright(image), _white_is_zero(image))
    except Exception as error:  # Pillow fails in any way on damaged bytes
        raise _refusal(source.name, error) from None


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """An image of Pillow's of any mode as 8-bit RGB, as those in files become.

    Raises:
        UserError: it can't be converted; the message names it.
    """
    try:
        return _rgb(image, _white_is_zero(image))
    except Exception as error:  # Pillow fails in any way on damaged bytes, which it may read only now
        raise _refusal(name, error) from None


def check_header(source: ImageSource) -> None:
    """Reads the beginning of an image: its format and size.

    Raises:
        UserError: see `decode`; damage further on is not seen.
    """
    try:
        _open_image(source).close()
    except Exception as error:
        raise _refusal(source.name, error) from None


def check_headers(sources: Sequence[ImageSource]) -> None:
    """`check_header` of all.

    Raises:
        UnreadableImages: all that can't be read.
    """
    for _ in _each_readable(sources, check_header, "check images"):
        pass


def unreadable(sources: Sequence[ImageSource]) -> dict[str, str]:
    """Why an image can't be read, by its name, of those that can't. Every image is decoded."""

    def one(source: ImageSource) -> str | None:
        try:
            decode(source)
        except UserError as error:
            return str(error)
        return None

    reasons = for_each(sources, one, "look for unreadable images")
    return {source.name: reason for source, reason in zip(sources, reasons, strict=True) if reason}


def check_some(sources: Sequence[ImageSource], seconds: float) -> None:
    """Decodes images in random order, all of them where so many seconds are enough.

    Raises:
        UnreadableImages: of these, those that can't be read.
    """
    order, deadline = np.random.default_rng(0).permutation(len(sources)), deadline_in(seconds)
    parts = (order[k : k + CHECKED_AT_ONCE] for k in range(0, len(order), CHECKED_AT_ONCE))
    reasons: dict[str, str] = {}
    for part in parts:
        reasons |= unreadable([sources[k] for k in part])
        if has_passed(deadline):
            break
    if reasons:
        raise UnreadableImages(list(reasons.values()))


def for_each(items: Sequence[T], work: Callable[[T], R], title: str) -> Iterator[R]:
    """`work` of each image, in order, with progress; several at a time as soon as some took long enough for that. The
    first that raises ends it."""
    with bar(title, len(items)) as progress, ThreadPoolExecutor(workers()) as pool:
        rest = iter(items)
        while tried := list(islice(rest, TRIED)):
            seconds = []
            for item in tried:
                begun = time.perf_counter()
                done = work(item)
                seconds.append(time.perf_counter() - begun)
                yield done
                progress.advance()
            if sum(seconds) - max(seconds) > SMALL_SECONDS * len(seconds):  # the slowest may have loaded a library
                break
        for done in pool.map(work, rest):
            yield done
            progress.advance()


def _each_readable(sources: Sequence[ImageSource], work: Callable[[ImageSource], R], title: str) -> Iterator[R]:
    """`for_each`, which goes through all images before it refuses those that can't be read: whoever has to mend them
    wants to know all."""
    reasons: list[str] = []

    def one(source: ImageSource) -> R | None:
        try:
            return work(source)
        except UserError as error:
            reasons.append(str(error))
            return None

    for done in for_each(sources, one, title):
        if not reasons:
            yield cast(R, done)
    if reasons:
        raise UnreadableImages(reasons)


def centre_crop(image: Any, resolution: int) -> Any:
    """The middle square of an image of Pillow's, or of uint8 [..., H, W], at a resolution: bilinear, antialiased; of
    the image's side that part which `crop_share` says.

    The part is taken before it is scaled, so that a long strip is never scaled as a whole.
    """
    height, width = F.get_size(image)
    side = max(1, round(min(height, width) * crop_share(resolution)))
    top, left = (height - side) // 2, (width - side) // 2
    return F.resized_crop(image, top, left, side, side, [resolution, resolution], antialias=True)


def decode_all(sources: Sequence[ImageSource], resolution: int) -> Tensor:
    """The middles of images, uint8 [N, 3, resolution, resolution], several decoded at a time.

    Raises:
        UnreadableImages: all that can't be read.
    """

    def one(source: ImageSource) -> Tensor:
        return F.pil_to_tensor(centre_crop(decode(source), resolution))

    images = torch.empty(len(sources), 3, resolution, resolution, dtype=torch.uint8)
    for into, image in zip(images, _each_readable(sources, one, "read images"), strict=True):
        into.copy_(image)
    return images


def workers() -> int:
    """How many images are decoded at a time."""
    return min(16, max(1, (os.cpu_count() or 1) - 1))


def _open_image(source: ImageSource) -> Image.Image:
    content = source.content
    if content is None and not stat.S_ISREG(os.stat(source.name).st_mode):  # opening a pipe would wait for ever
        raise UserError("it is not a file")
    if not (os.stat(source.name).st_size if content is None else len(content)):
        raise UserError("it is empty")
    image = Image.open(source.name if content is None else io.BytesIO(content), formats=FORMATS)
    if (pixels := image.width * image.height) > MAX_PIXELS:
        image.close()
        raise UserError(f"at most {MAX_PIXELS:,} pixels, but it has {image.width:,} x {image.height:,} = {pixels:,}")
    return image


def _upright(image: Image.Image) -> Image.Image:
    """As EXIF says that it was taken; as it is where EXIF data are damaged, as viewers do."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def _white_is_zero(image: Image.Image) -> bool:
    """Whether 0 is white in a TIFF, as scanners and X-rays have it. Pillow inverts such of 8 bits alone."""
    return getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == 0


def _rgb(image: Image.Image, white_is_zero: bool) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise UserError(f"pixels have 8 or 16 bits, but its values go from {values.min()} to {values.max()}")
        grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
        coloured = np.repeat((255 - grey if white_is_zero else grey)[:, :, None], 3, axis=2)
        if isinstance(clear := image.info.get("transparency"), int):
            coloured[values == clear] = GROUND
        return Image.fromarray(coloured)
    if image.mode == "F":
        raise UserError("pixels have 8 or 16 bits, but its are floating-point numbers")
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, (*GROUND, 255))
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _refusal(name: str, error: Exception) -> UserError:
    if isinstance(error, Image.DecompressionBombError):  # raised on opening, at twice the limit
        reason = f"at most {MAX_PIXELS:,} pixels, but {error}"
    elif isinstance(error, UnidentifiedImageError):
        reason = f"it is none of {', '.join(FORMATS)}, or its beginning is damaged"
    elif isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    else:
        reason = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"{name} can't be read as an image: {reason}")
