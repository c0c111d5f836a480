"""Splits of images that are decoded when they are needed, by worker processes, a few batches ahead of the training."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2.functional import pil_to_tensor

from search.data.generators import kept_generators
from search.data.images import ImageSource, centre_crop, decode, workers
from search.errors import UserError

AHEAD = 3  # batches a worker


class ImageTransform(Protocol):
    """What a training does to one image of Pillow's before batches are made; all randomness comes from the seed."""

    @property
    def crops(self) -> bool:
        """Whether it takes a part of the image itself; it is given the image's middle otherwise."""

    def __call__(self, image: Any, seed: int) -> Any: ...


@dataclass(frozen=True, slots=True)
class EncodedSplit:
    """Encoded images and labels [N], int64; `search.data.datasets.Split`'s like.

    Args:
        transform: of each image; its middle is taken where None.
    """

    sources: tuple[ImageSource, ...]
    labels: Tensor
    resolution: int
    device: str = "cpu"
    in_chs: int = 3
    transform: ImageTransform | None = None

    def __len__(self) -> int:
        return len(self.sources)

    def to(self, device: torch.device | str) -> "EncodedSplit":
        """The same split, with batches on a device."""
        return replace(self, device=str(device))

    def take(self, index: Tensor) -> "EncodedSplit":
        """The split of some of its images."""
        return replace(self, sources=tuple(self.sources[i] for i in index.tolist()), labels=self.labels[index])

    def joined(self, other: "EncodedSplit") -> "EncodedSplit":
        """The split of its images and another's."""
        return replace(self, sources=self.sources + other.sources, labels=torch.cat([self.labels, other.labels]))

    def stream(self, batches: Iterable[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Indices and a seed, batch by batch -> images [B, 3, H, W] as uint8, labels [B], and the seed

        Raises:
            UserError: an image can't be decoded.
        """
        loader = DataLoader(
            _Decoded(self),
            batch_sampler=([(int(i), seed) for i in index] for index, seed in batches),
            num_workers=workers(),
            prefetch_factor=AHEAD,
            pin_memory=self.device.startswith("cuda"),
            collate_fn=_collate,
        )
        for batch in loader:
            if isinstance(batch, str):
                raise UserError(batch)
            images, labels, seed = batch
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True), seed


class _Decoded(Dataset):
    """Images as tensors, by number and seed. An image that can't be decoded is its message: a worker's exception would
    come with the worker's traceback."""

    def __init__(self, split: EncodedSplit) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor, int] | str:
        i, seed = key
        split = self.split
        try:
            image = decode(split.sources[i])
        except UserError as error:
            return str(error)
        if split.transform is None or not split.transform.crops:
            image = centre_crop(image, split.resolution)
        with kept_generators():
            return apply_transform(image, split.transform, seed + i), split.labels[i], seed


def apply_transform(image: Any, transform: Callable[[Any, int], Any] | None, seed: int) -> Tensor:
    """An image of Pillow's, transformed, as uint8 [C, H, W]"""
    return pil_to_tensor(transform(image, seed) if transform else image)


def _collate(items: list[tuple[Tensor, Tensor, int] | str]) -> tuple[Tensor, Tensor, int] | str:
    for item in items:
        if isinstance(item, str):
            return item
    images, labels, seeds = zip(*items, strict=True)
    return torch.stack(images), torch.stack(labels), seeds[0]
