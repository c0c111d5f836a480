"""Data sets as three held-out splits and a training set, in memory.

`train` trains; `calibration` re-estimates batch norm; `search` ranks architectures; `test` is looked at once, by final
evaluation. All are drawn from the training set but `test`, by class, with a seed of their own.
`search.data.names` says how a data set is named.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ghostnet.arch import MAX_SIDE
from search.data.encoded import EncodedSplit
from search.data.images import UnreadableImages, centre_crop, check_headers, decode_all
from search.data.labels import check_sizes, most_frequent_share
from search.data.names import data_source, folder_source
from search.data.splits import Split, order_by_class
from search.errors import UserError, check_whole

__all__ = ["Data", "Split", "SplitSizes", "held_out", "load_data", "parts", "split_sizes", "split_up", "statistics"]

AT_A_TIME = 1000  # images
IN_MEMORY = 2_000_000_000  # bytes of decoded images; more are decoded whenever they are needed
ONE_IN_FOR_SEARCH, ONE_IN_FOR_NORMS = 5, 10  # of the training images, held out
MOST_HELD_OUT = 2500  # images, for either
MOST_IMAGES = (1 << 63) - 1
LEAST_STD = 1 / 255  # of all pixels, of 1; below that there is nothing to see


@dataclass(frozen=True, slots=True)
class Data:
    """The four splits of a data set, and how its pixels are normalised (by the whole training split's statistics).

    Args:
        flip: whether a mirror image keeps its class, as far as the name of the data set tells: what a training does
            unless its recipe says otherwise.
        fingerprint: of the data set that the splits are from, wherever it lies.
        encoded: what the images held out for norms and for the search were decoded from, if they were.
    """

    name: str
    classes: tuple[str, ...]
    train: Split | EncodedSplit
    calibration: Split
    search: Split
    test: Split | EncodedSplit
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    fingerprint: str = ""
    encoded: EncodedSplit | None = None

    @property
    def in_chs(self) -> int:
        return self.train.in_chs

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def chance(self) -> float:
        """The share of the images held out for the search that a guess gets right: that of the most frequent class."""
        return most_frequent_share(self.search.labels)

    def with_held_out(self) -> "Data":
        """With the images that are held out for norms and for the search among those to train on: for trainings that
        no choice depends on. The test split stays what it is."""
        train: Split | EncodedSplit
        if isinstance(self.train, EncodedSplit):
            train = self.train if self.encoded is None else self.train.joined(self.encoded)
        else:
            train = self.train.joined(self.calibration, self.search)
            if self.train.encoded and self.encoded:
                train = replace(train, encoded=self.train.encoded.joined(self.encoded))
        return replace(self, train=train)

    def normalised_as(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> "Data":
        """With the statistics of what a network was trained on, where these are known.

        Raises:
            UserError: they are of other channels, or no deviations.
        """
        if not mean or not std:
            return self
        if not len(mean) == len(std) == self.in_chs or min(std) <= 0:
            raise UserError(
                f"a mean and a deviation above 0 are needed for each of {self.in_chs} channels, but the network was "
                f"trained with {list(mean)} and {list(std)}"
            )
        return replace(self, mean=tuple(mean), std=tuple(std))

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 [B, C, H, W] -> float32, zero mean and unit variance over the training split"""
        mean, std = (torch.tensor(v, device=images.device)[:, None, None] for v in (self.mean, self.std))
        return (images.float() / 255 - mean) / std

    def batches(self, split: Split | EncodedSplit, size: int = 250) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised batches in order: what evaluation reads."""
        for images, labels, _ in split.stream((part, 0) for part in parts(len(split), size)):
            yield self.normalise(images), labels


def parts(count: int, size: int = 250) -> tuple[Tensor, ...]:
    """Numbers of `count` images in order, in batches of `size` or fewer that are as equal as can be: a short last one
    would have statistics of its own."""
    return torch.arange(count).tensor_split(-(-count // size))


def load_data(name: str | Path, resolution: int, limit: int | None = None) -> Data:
    """Loads a data set at a resolution.

    Args:
        name: `digits`, `imagefolder:PATH` or another; or a `Path`, of a folder with images in either layout.
        resolution: side of the images, in pixels.
        limit: at most so many training images, the first of the shuffled split; None takes all.

    Raises:
        UserError: it can't be had, or is not what it should be; or no image would be left.
    """
    resolution = check_whole("`resolution`", resolution, 1, MAX_SIDE)
    if limit is not None:
        limit = check_whole("`limit`", limit, 1, MOST_IMAGES)
    source = data_source(name) if isinstance(name, str) else folder_source(str(name))
    source.check()
    name = source.name
    train, test, classes = source.load(resolution)
    identity = source.fingerprint()
    return split_up(name, train, test, classes, resolution, limit, flip=source.flip, identity=identity)


def split_up(
    name: str,
    train: Split | EncodedSplit,
    test: Split | EncodedSplit,
    classes: tuple[str, ...],
    resolution: int,
    limit: int | None = None,
    *,
    flip: bool,
    identity: str,
) -> Data:
    """A data set's training and test images as the four splits, at a resolution.

    Args:
        limit: as for `load_data`.
        flip, identity: `Data.flip` and `Data.fingerprint`.

    Raises:
        UserError: too few images or classes, or images that show nothing.
    """
    check_sizes(name, classes, train.labels, test.labels)
    search, calibration, rest = _parts(train.labels)
    shown = train.take(rest)
    whole: Split | EncodedSplit
    tested: Split | EncodedSplit
    calibrated: Split
    searched: Split
    whole, calibrated, searched, tested = _read_all(
        (_load_split, shown),
        (_decode_split, train.take(calibration)),
        (_decode_split, train.take(search)),
        (_load_split, test),
        resolution=resolution,
    )
    if isinstance(whole, Split):
        mean, std = statistics(whole.images)
        whole = replace(whole, encoded=shown if isinstance(shown, EncodedSplit) else None)
    else:
        mean, std = statistics(torch.cat([calibrated.images, searched.images]))  # a fair sample of the rest
    if isinstance(train, EncodedSplit):  # norms are for crops of the images themselves, as training has them
        calibrated = replace(calibrated, encoded=train.take(calibration))
    if max(std) < LEAST_STD:
        raise UserError(f"{name}: the images show nothing: their standard deviation is {max(std):.4f} of 1")
    if bool((searched.images == searched.images[0]).all()):
        raise UserError(f"{name}: the images are all the same")
    return Data(
        name=name,
        fingerprint=identity,
        classes=classes,
        train=whole if limit is None else whole.take(torch.arange(min(limit, len(whole)))),
        calibration=calibrated,
        search=searched,
        test=tested,
        mean=mean,
        std=std,
        flip=flip,
        encoded=train.take(torch.cat([calibration, search])) if isinstance(train, EncodedSplit) else None,
    )


@dataclass(frozen=True, slots=True)
class SplitSizes:
    """How many images each split has, of how many classes and channels."""

    train: int
    calibration: int
    search: int
    test: int
    num_classes: int
    in_chs: int

    def bytes_in_memory(self, resolution: int) -> int:
        """Of decoded images, once the data set is loaded; not of those that are decoded whenever they are needed."""
        each = self.in_chs * resolution**2
        whole = [count for count in (self.train, self.test) if count * each <= IN_MEMORY]
        return each * sum((*whole, self.calibration, self.search))


def split_sizes(name: str, limit: int | None = None) -> SplitSizes:
    """What `load_data` will give, without decoding or downloading an image.

    Args:
        limit: as `load_data` takes it.

    Raises:
        UserError: the data set can't be had, or is not what it should be.
    """
    source = data_source(name)
    source.check()
    images, tested, num_classes, in_chs = source.sizes()
    to_search, to_calibrate = held_out(images)
    rest = images - to_search - to_calibrate
    return SplitSizes(min(rest, limit or rest), to_calibrate, to_search, tested, num_classes, in_chs)


def held_out(images: int) -> tuple[int, int]:
    """Of so many training images, how many are held out for the search and for norms."""
    return min(MOST_HELD_OUT, images // ONE_IN_FOR_SEARCH), min(MOST_HELD_OUT, images // ONE_IN_FOR_NORMS)


def _parts(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers of the images that are held out for the search and for norms, and of the rest."""
    to_search, to_calibrate = held_out(len(labels))
    order = order_by_class(labels)
    return order[:to_search], order[to_search:][:to_calibrate], order[to_search + to_calibrate :]


def _read_all(*parts: tuple[Callable[..., Any], Split | EncodedSplit], resolution: int) -> list[Any]:
    """Each split, read by its function. Images that can't be read are refused together, whichever split has them."""
    read: list[Any] = []
    reasons: list[str] = []
    for load, split in parts:
        try:
            read.append(load(split, resolution))
        except UnreadableImages as error:
            reasons += error.reasons
    if reasons:
        raise UnreadableImages(reasons)
    return read


def _load_split(split: Split | EncodedSplit, resolution: int) -> Split | EncodedSplit:
    """A split in memory, at a resolution; one that is too large for it stays encoded, and the beginnings of its images
    are checked."""
    if isinstance(split, EncodedSplit) and len(split) * split.in_chs * resolution**2 > IN_MEMORY:
        check_headers(split.sources)
        return split
    return _decode_split(split, resolution)


def _decode_split(split: Split | EncodedSplit, resolution: int) -> Split:
    """A split in memory, at a resolution."""
    if isinstance(split, EncodedSplit):
        return Split(decode_all(split.sources, resolution), split.labels)
    if split.images.shape[-2:] == (resolution, resolution):
        return split
    images = torch.empty(len(split), split.in_chs, resolution, resolution, dtype=torch.uint8)
    for part, into in zip(split.images.split(AT_A_TIME), images.split(AT_A_TIME), strict=True):
        into.copy_(centre_crop(part, resolution))
    return replace(split, images=images)


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """uint8 [N, C, H, W] -> mean and standard deviation of each channel, of 1; by counting its 256 values, so that
    images which only just fit into memory need no second copy of them."""
    counts = torch.zeros(images.shape[1], 256, dtype=torch.float64)
    for part in images.split(AT_A_TIME):
        for channel in range(images.shape[1]):
            counts[channel] += torch.bincount(part[:, channel].flatten(), minlength=256)
    values, total = torch.arange(256, dtype=torch.float64) / 255, counts.sum(1)
    mean = counts @ values / total
    std = ((counts * (values - mean[:, None]) ** 2).sum(1) / total).sqrt()
    return tuple(round(v, 6) for v in mean.tolist()), tuple(round(max(v, 1e-3), 6) for v in std.tolist())
