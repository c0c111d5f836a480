"""A first look at pictures in files: their classes, how many there are, how large they are, and which can't be read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from search.data.datasets import held_out
from search.data.images import ImageSource, check_header, decode, for_each
from search.data.labels import check_sizes
from search.data.names import folder_source, image_files
from search.data.splits import stratified
from search.errors import UserError

HELD_OUT = 0.2  # of every class, for testing, where the data have no test part
DECODED = 20_000  # images that are read whole; of more, so many and the beginnings of the others
GREY = 4  # by which an image's channels may differ where it is grey, of 255: JPEG rounds


@dataclass(frozen=True, slots=True)
class Survey:
    """What a look at a data set found.

    Args:
        name: the data set's, as recipes and `--data` have it.
        train, test: readable images of each class, in order.
        heights, widths: of the images that were decoded, in pixels.
        grey: how many of these have no colours.
        unreadable: why an image can't be read, by its file.
        unused: folders with classes that are neither trained nor tested on.
    """

    name: str
    classes: tuple[str, ...]
    train: tuple[int, ...]
    test: tuple[int, ...]
    heights: tuple[int, ...]
    widths: tuple[int, ...]
    grey: int
    unreadable: dict[str, str]
    unused: tuple[str, ...] = ()

    @property
    def shorter_sides(self) -> tuple[int, int, int]:
        """The least, the middle and the largest of the images' shorter sides, in pixels."""
        sides = sorted(map(min, self.heights, self.widths))
        return sides[0], sides[len(sides) // 2], sides[-1]

    @property
    def channels(self) -> str:
        """`grey`, `colour` or `grey and colour`."""
        return {0: "colour", len(self.heights): "grey"}.get(self.grey, "grey and colour")

    @property
    def left_to_train(self) -> int:
        """Training images without those that are held out for the search and for norms."""
        images = sum(self.train)
        return images - sum(held_out(images))

    @property
    def test_share(self) -> float | None:
        """Of each class, held out because the data have no test part of their own."""
        source = image_files(self.name)
        return source.test_share if source else None


def survey(place: str) -> Survey:
    """Looks at the pictures of `imagefolder:PATH`, `parquet:PATH` or a PATH that is either. Where they have no test
    part, a fifth of every class is held out; where some can't be read, these are left out. The name says so.

    Raises:
        UserError: there are none, or too few; or they are in neither layout.
    """
    source = folder_source(place)
    if not source.folder.is_dir():
        raise UserError(f"no folder {str(source.folder)!r}")
    if source.test_share is None and not source.has_test_part():
        source = source.at(source.folder, HELD_OUT)
    source.check_parts()
    parts, classes = source.read()
    seen = [_look(sources) for sources, _ in parts]
    labels = [labels[torch.tensor(part.readable)] for (_, labels), part in zip(parts, seen, strict=True)]
    if source.test_share is not None:
        kept, tested = stratified(labels[0], source.test_share)
        labels = [labels[0][kept], labels[0][tested]]
    unreadable = {name: reason for part in seen for name, reason in part.unreadable.items()}
    source = replace(source, skips_unreadable=source.skips_unreadable or bool(unreadable))
    source = source.moved(source.folder.resolve())
    check_sizes(source.name, classes, *labels)
    return Survey(
        name=source.name,
        classes=classes,
        train=_counts(labels[0], classes),
        test=_counts(labels[1], classes),
        heights=tuple(height for part in seen for height, _ in part.sizes),
        widths=tuple(width for part in seen for _, width in part.sizes),
        grey=sum(part.grey for part in seen),
        unreadable=unreadable,
        unused=source.unused_parts(),
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """What is known of some images: whether each is readable, sizes (height, width) of those decoded."""

    readable: list[bool]
    sizes: list[tuple[int, int]]
    grey: int
    unreadable: dict[str, str]


def _look(sources: Sequence[ImageSource]) -> _Look:
    whole = set(np.linspace(0, len(sources) - 1, min(DECODED, len(sources))).astype(int).tolist())

    def one(k: int) -> tuple[tuple[int, int] | None, bool] | UserError:
        try:
            if k not in whole:
                check_header(sources[k])
                return None, False
            image = decode(sources[k])
        except UserError as error:
            return error
        small = np.asarray(image.resize((32, 32)), dtype=np.int16)
        return (image.height, image.width), int(np.ptp(small, axis=2).max()) <= GREY

    seen = list(for_each(range(len(sources)), one, "look at images"))
    known = [each for each in seen if not isinstance(each, UserError)]
    return _Look(
        readable=[not isinstance(each, UserError) for each in seen],
        sizes=[size for size, _ in known if size],
        grey=sum(grey for _, grey in known),
        unreadable={
            source.name: str(each) for source, each in zip(sources, seen, strict=True) if isinstance(each, UserError)
        },
    )


def _counts(labels: Tensor, classes: Sequence[str]) -> tuple[int, ...]:
    return tuple(torch.bincount(labels, minlength=len(classes)).tolist())
