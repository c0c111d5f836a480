"""Data sets as three held-out splits and a training set, in memory.

`train` trains; `calibration` re-estimates batch norm; `search` ranks architectures; `test` is looked at once, by final
evaluation. All are drawn from the training set but `test`, by class, with a seed of their own.
`search.data.names` says how a data set is named.
"""

import contextlib
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from search.data.image_folder import Folder
from search.data.names import TORCHVISION, check, parquet_files, test_folder
from search.errors import UserError
from search.progress import bar

SPLIT_SEED = 20200614
AT_A_TIME = 1000  # images
IN_MEMORY = 2_000_000_000  # bytes of decoded images; a larger folder streams


@dataclass(frozen=True, slots=True)
class Split:
    """Images [N, C, H, W] as uint8 and labels [N] as int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_chs(self) -> int:
        return self.images.shape[1]

    def to(self, device: torch.device | str) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))

    def stream(self, batches: Iterable[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Indices and a seed, batch by batch -> images [B, C, H, W], labels [B], and the seed"""
        for index, seed in batches:
            here = index.to(self.labels.device)
            yield self.images[here], self.labels[here], seed


@dataclass(frozen=True, slots=True)
class Data:
    """The four splits of a data set, and how its pixels are normalised (by the whole training split's statistics)."""

    name: str
    classes: tuple[str, ...]
    train: Split | Folder
    calibration: Split
    search: Split
    test: Split | Folder
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool

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

    def batches(self, split: Split | Folder, size: int = 250) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised batches in order, of `size` images or fewer and as equal as can be: what evaluation reads. A short
        last one would have statistics of its own."""
        parts = torch.arange(len(split)).tensor_split(-(-len(split) // size))
        for images, labels, _ in split.stream((part, 0) for part in parts):
            yield self.normalise(images), labels

    def augment(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Shifts each image at random of up to an eighth of its side (unless that was drawn when it was decoded), and a
        mirror image where that keeps the class."""
        count, _, height, width = images.shape
        pad = 0 if isinstance(self.train, Folder) else height // 8
        padded = torch.nn.functional.pad(images, (pad,) * 4)
        dy, dx = (torch.from_numpy(rng.integers(2 * pad + 1, size=count)).to(images.device) for _ in range(2))
        flips = torch.from_numpy(rng.random(count) < 0.5 * self.flip).to(images.device)
        rows = torch.arange(height, device=images.device) + dy[:, None]  # [B, H]
        columns = torch.arange(width, device=images.device).expand(count, -1)
        columns = torch.where(flips[:, None], columns.flip(1), columns) + dx[:, None]  # [B, W]
        index = torch.arange(count, device=images.device)[:, None, None]
        return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def resized(images: Tensor, side: int | None) -> Tensor:
    """[B, C, H, W] -> [B, C, side, side], bilinear with antialiasing; as they are where they are of that size."""
    if side is None or images.shape[-2:] == (side, side):
        return images
    return torch.nn.functional.interpolate(images, (side, side), mode="bilinear", antialias=True)


def load(name: str, resolution: int, limit: int | None = None) -> Data:
    """Loads a data set at a resolution.

    Args:
        limit: at most so many training images, the first of the shuffled split; None takes all.

    Raises:
        UserError: it can't be had, or is not what it should be.
    """
    check(name)
    kind, _, path = name.partition(":")
    train: Split | Folder
    test: Split | Folder
    if name == "digits":
        train, test, classes = _digits()
    elif kind == "parquet":
        train, test, classes = _parquet(Path(path))
    elif kind == "imagefolder":
        train, test, classes = _imagefolder(Path(path), resolution)
    else:
        train, test, classes = _torchvision(name)
    flip = name not in ("digits", "mnist")
    to_search, to_calibrate = min(2500, len(train) // 5), min(2500, len(train) // 10)
    order = _by_class(train.labels)
    search, calibration = order[:to_search], order[to_search:][:to_calibrate]
    rest = order[to_search + to_calibrate :]
    calibrated, searched = (_take(train, part, resolution) for part in (calibration, search))
    if isinstance(train, Folder):
        kept = rest[:limit]
        shown: Split | Folder = replace(train, paths=tuple(train.paths[i] for i in kept), labels=train.labels[kept])
        mean, std = statistics(torch.cat([calibrated.images, searched.images]))  # a fair sample of the rest
    else:
        whole = _take(train, rest, resolution)
        mean, std = statistics(whole.images)
        shown = whole if limit is None else Split(whole.images[:limit].clone(), whole.labels[:limit])
    return Data(
        name=name,
        classes=classes,
        train=shown,
        calibration=calibrated,
        search=searched,
        test=test if isinstance(test, Folder) else _resized(test, resolution),
        mean=mean,
        std=std,
        flip=flip,
    )


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
    place = np.empty(len(labels))
    for label in np.unique(labels.numpy()):
        members = np.flatnonzero(labels.numpy() == label)
        place[rng.permutation(members)] = (np.arange(len(members)) + rng.random(len(members))) / len(members)
    return torch.from_numpy(np.argsort(place, kind="stable"))


def _take(split: Split | Folder, index: Tensor, resolution: int | None = None) -> Split:
    """Some images in memory, at a resolution or as they are."""
    if isinstance(split, Folder):
        return Split(*split.take(index))
    part = Split(split.images[index].contiguous(), split.labels[index])
    return _resized(part, resolution) if resolution else part


def _resized(split: Split, resolution: int) -> Split:
    if split.images.shape[-1] == resolution and split.images.shape[-2] == resolution:
        return split
    from torchvision.transforms.v2.functional import resize

    images = torch.empty(len(split), split.in_chs, resolution, resolution, dtype=torch.uint8)
    for part, into in zip(split.images.split(AT_A_TIME), images.split(AT_A_TIME), strict=True):
        into.copy_(resize(part, [resolution, resolution], antialias=True))
    return Split(images, split.labels)


def _digits() -> tuple[Split, Split, tuple[str, ...]]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(np.round(digits.images * (255 / 16)).astype(np.uint8))[:, None]
    both = Split(images, torch.from_numpy(digits.target).long())
    order = _by_class(both.labels)
    test = len(order) // 5
    return _take(both, order[test:]), _take(both, order[:test]), tuple(map(str, digits.target_names))


def _torchvision(name: str) -> tuple[Split, Split, tuple[str, ...]]:
    import torchvision.datasets

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
    return splits[0], splits[1], tuple(sets[0].classes)


def _parquet(folder: Path) -> tuple[Split, Split, tuple[str, ...]]:
    import json

    import pyarrow
    import pyarrow.parquet as pq
    from PIL import Image, UnidentifiedImageError

    splits, names = [], None
    for part in ("train", "test"):
        images, labels = [], []
        for file in parquet_files(folder, part):
            try:
                table = pq.read_table(file)
                features = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
                picture = "image" if "image" in table.column_names else "img"
                with bar(f"read {file.name}", len(table)) as progress:
                    for value in table[picture].to_pylist():
                        images.append(np.asarray(Image.open(io.BytesIO(value["bytes"])).convert("RGB")))
                        progress.advance()
                labels += table["label"].to_pylist()
            except (pyarrow.ArrowException, UnidentifiedImageError, KeyError, TypeError, ValueError) as error:
                raise UserError(f"{file} is not in the Hugging Face image layout: {error}") from None
            names = names or features.get("info", {}).get("features", {}).get("label", {}).get("names")
        if len({image.shape for image in images}) > 1:
            raise UserError(f"the images in {folder} differ in size; use imagefolder:PATH for those")
        splits.append(Split(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)))
    count = int(splits[0].labels.max()) + 1
    return splits[0], splits[1], tuple(names or map(str, range(count)))


def _imagefolder(folder: Path, resolution: int) -> tuple[Split | Folder, Split | Folder, tuple[str, ...]]:
    from torchvision.datasets import ImageFolder

    test = test_folder(folder)
    splits: list[Split | Folder] = []
    classes = []
    for part in ("train", test):
        try:
            found = ImageFolder(str(folder / part))
        except FileNotFoundError as error:
            raise UserError(str(error).splitlines()[0]) from None
        classes.append(tuple(found.classes))
        paths = tuple(Path(path) for path, _ in found.samples)
        files = Folder(paths, torch.tensor(found.targets), resolution, cropped=part == "train")
        fits = len(files) * 3 * resolution**2 <= IN_MEMORY
        splits.append(_take(files, torch.arange(len(files))) if fits else files)
    if classes[0] != classes[1]:
        raise UserError(f"the classes of {folder}/train and {folder / test} differ")
    return splits[0], splits[1], classes[0]
