"""Data sets as three held-out splits and a training set, in memory.

`train` trains; `calibration` re-estimates batch norm; `search` ranks architectures; `test` is looked at once, by final
evaluation. All are drawn from the training set but `test`, by class, with a seed of their own.
`search.data.names` says how a data set is named.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torchvision.datasets
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from search.data.encoded import EncodedSplit, ImageTransform, apply_transform
from search.data.fingerprint import fingerprint
from search.data.image_folder import Labelled, read_image_folder
from search.data.images import centre_crop, check_headers, decode_all
from search.data.labels import check_names, check_sizes
from search.data.names import TORCHVISION, ImagePath, check_data_name, image_path
from search.data.parquet import read_parquet
from search.errors import UserError

SPLIT_SEED = 20200614
AT_A_TIME = 1000  # images
IN_MEMORY = 2_000_000_000  # bytes of decoded images; more are decoded whenever they are needed
# Images to train with and to test with, classes, channels.
DIGITS = (1438, 359, 10, 1)
TORCHVISION_SIZES = {
    "cifar10": (50_000, 10_000, 10, 3),
    "cifar100": (50_000, 10_000, 100, 3),
    "mnist": (60_000, 10_000, 10, 1),
    "fashionmnist": (60_000, 10_000, 10, 1),
}
LEAST_STD = 1 / 255  # of all pixels, of 1; below that there is nothing to see


@dataclass(frozen=True, slots=True)
class Split:
    """Images [N, C, H, W] as uint8 and labels [N] as int64.

    Args:
        encoded: what the images were decoded from, if they were.
        transform: of each image.
    """

    images: Tensor
    labels: Tensor
    encoded: EncodedSplit | None = None
    transform: ImageTransform | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_chs(self) -> int:
        return self.images.shape[1]

    @property
    def resolution(self) -> int:
        return self.images.shape[-1]

    def to(self, device: torch.device | str) -> "Split":
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def take(self, index: Tensor) -> "Split":
        """The split of some of its images."""
        encoded = self.encoded and self.encoded.take(index)
        return replace(self, images=self.images[index].contiguous(), labels=self.labels[index], encoded=encoded)

    def stream(self, batches: Iterable[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Indices and a seed, batch by batch -> images [B, C, H, W], labels [B], and the seed"""
        for index, seed in batches:
            here = index.to(self.labels.device)
            images = self.images[here]
            if self.transform:
                changed = [
                    apply_transform(to_pil_image(image), self.transform, seed + i)
                    for image, i in zip(images.cpu(), index.tolist(), strict=True)
                ]
                images = torch.stack(changed).to(images.device)
            yield images, self.labels[here], seed


@dataclass(frozen=True, slots=True)
class Data:
    """The four splits of a data set, and how its pixels are normalised (by the whole training split's statistics).

    Args:
        flip: whether a mirror image keeps its class, as far as the name of the data set tells: what a training does
            unless its recipe says otherwise.
        fingerprint: of the data set that the splits are from, wherever it lies.
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

    @property
    def in_chs(self) -> int:
        return self.train.in_chs

    @property
    def num_classes(self) -> int:
        return len(self.classes)

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


def resized(images: Tensor, side: int | None) -> Tensor:
    """[B, C, H, W] -> [B, C, side, side], bilinear with antialiasing; as they are where they are of that size."""
    if side is None or images.shape[-2:] == (side, side):
        return images
    return torch.nn.functional.interpolate(images, (side, side), mode="bilinear", antialias=True)


def load_data(name: str, resolution: int, limit: int | None = None) -> Data:
    """Loads a data set at a resolution.

    Args:
        limit: at most so many training images, the first of the shuffled split; None takes all.

    Raises:
        UserError: it can't be had, or is not what it should be.
    """
    check_data_name(name)
    train: Split | EncodedSplit
    test: Split | EncodedSplit
    if source := image_path(name):
        train, test, classes = _encoded(source, resolution)
    elif name == "digits":
        train, test, classes = _digits()
    else:
        train, test, classes = _torchvision(name)
    flip = name not in ("digits", "mnist")
    return split_up(name, train, test, classes, resolution, limit, flip=flip, identity=fingerprint(name))


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
        limit: as for `load`.
        flip, identity: `Data.flip` and `Data.fingerprint`.

    Raises:
        UserError: too few images or classes, or images that show nothing.
    """
    check_sizes(name, classes, train.labels, test.labels)
    search, calibration, rest = _parts(train.labels)
    shown = train.take(rest)
    whole = _load_split(shown, resolution)
    calibrated, searched = (_decode_split(train.take(part), resolution) for part in (calibration, search))
    if isinstance(whole, Split):
        mean, std = statistics(whole.images)
        whole = replace(whole, encoded=shown if isinstance(shown, EncodedSplit) else None)
    else:
        mean, std = statistics(torch.cat([calibrated.images, searched.images]))  # a fair sample of the rest
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
        test=_load_split(test, resolution),
        mean=mean,
        std=std,
        flip=flip,
    )


def _encoded(source: ImagePath, resolution: int) -> tuple[EncodedSplit, EncodedSplit, tuple[str, ...]]:
    """The training part and the test part of data in files, and the names of the classes."""
    labelled, classes = read_images(source)
    train, *rest = (EncodedSplit(sources, labels, resolution) for sources, labels in labelled)
    if source.test_share is None:
        return train, rest[0], classes
    kept, held_out = stratified(train.labels, source.test_share)
    return train.take(kept), train.take(held_out), classes


def read_images(source: ImagePath) -> tuple[list[Labelled], tuple[str, ...]]:
    """The encoded images and labels of the training part and, where there is one, of the test part; and the classes.

    Raises:
        UserError: they are not of their layout, or labels that no class has.
    """
    read = read_image_folder if source.kind == "imagefolder" else read_parquet
    return read(source.folder, one_part=source.test_share is not None)


def stratified(labels: Tensor, test_share: float) -> tuple[Tensor, Tensor]:
    """Numbers of the images to train with and of those to test with, in order; always the same for the same labels.
    Every class is divided alike, up to a whole image; of a class with a single image none is for testing.

    Raises:
        UserError: too few images to divide.
    """
    from sklearn.model_selection import train_test_split

    index = np.arange(len(labels))
    several = np.flatnonzero(np.bincount(labels.numpy())[labels.numpy()] > 1)
    classes = len(np.unique(labels.numpy()[several]))
    count = max(round(test_share * len(several)), classes)
    if not classes or len(several) - count < classes:
        raise UserError(f"{len(labels)} images are too few to hold out {test_share:g} of every class for testing")
    _, test = train_test_split(several, test_size=count, stratify=labels.numpy()[several], random_state=SPLIT_SEED)
    return torch.from_numpy(np.setdiff1d(index, test)), torch.from_numpy(np.sort(test))


@dataclass(frozen=True, slots=True)
class SplitSizes:
    """How many images each split has, of how many classes and channels."""

    train: int
    calibration: int
    search: int
    test: int
    num_classes: int
    in_chs: int


def split_sizes(name: str, limit: int | None = None) -> SplitSizes:
    """What `load` will give, without decoding or downloading an image.

    Args:
        limit: as `load` takes it.

    Raises:
        UserError: the data set can't be had, or is not what it should be.
    """
    check_data_name(name)
    if source := image_path(name):
        train, test, classes = _encoded(source, 1)
        check_sizes(name, classes, train.labels, test.labels)
        counts = len(train), len(test), len(classes), train.in_chs
    elif name == "digits":
        counts = DIGITS
    else:
        counts = TORCHVISION_SIZES[name]
    images, tested, num_classes, in_chs = counts
    to_search, to_calibrate = _held_out(images)
    rest = images - to_search - to_calibrate
    return SplitSizes(min(rest, limit or rest), to_calibrate, to_search, tested, num_classes, in_chs)


def _held_out(images: int) -> tuple[int, int]:
    """Of so many training images, how many are held out for the search and for norms."""
    return min(2500, images // 5), min(2500, images // 10)


def _parts(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Numbers of the images that are held out for the search and for norms, and of the rest."""
    to_search, to_calibrate = _held_out(len(labels))
    order = _by_class(labels)
    return order[:to_search], order[to_search:][:to_calibrate], order[to_search + to_calibrate :]


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


def _by_class(labels: Tensor) -> Tensor:
    """A shuffled order in which every stretch has the classes in proportion."""
    rng = np.random.default_rng(SPLIT_SEED)
    rank = np.empty(len(labels))
    for label in np.unique(labels.numpy()):
        members = np.flatnonzero(labels.numpy() == label)
        rank[rng.permutation(members)] = (np.arange(len(members)) + rng.random(len(members))) / len(members)
    return torch.from_numpy(np.argsort(rank, kind="stable"))


def _digits() -> tuple[Split, Split, tuple[str, ...]]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(np.round(digits.images * (255 / 16)).astype(np.uint8))[:, None]
    both = Split(images, torch.from_numpy(digits.target).long())
    order = _by_class(both.labels)
    test = len(order) // 5
    return both.take(order[test:]), both.take(order[:test]), tuple(map(str, digits.target_names))


def _torchvision(name: str) -> tuple[Split, Split, tuple[str, ...]]:
    root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ghostnas" / name
    kind = getattr(torchvision.datasets, TORCHVISION[name])
    try:
        sets = [kind(str(root), train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            root.rmdir()  # which torchvision made before it tried
        raise UserError(
            f"{name} could not be downloaded ({str(error).splitlines()[0]}); "
            "data that is here already: --data parquet:PATH"
        ) from None
    splits = []
    for each in sets:
        images = torch.as_tensor(np.asarray(each.data))
        images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
        splits.append(Split(images.contiguous(), torch.as_tensor(np.asarray(each.targets)).long()))
    return splits[0], splits[1], check_names(sets[0].classes)
