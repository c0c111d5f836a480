"""Image folders too large for memory: images are decoded by worker processes, a few batches ahead of the training."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from search.data.rand_augment import lent, transform

AHEAD = 3  # batches a worker


@dataclass(frozen=True, slots=True)
class Folder:
    """A split whose images lie in files; `search.data.datasets.Split`'s like.

    Args:
        labels: [N], int64.
        cropped: a random part of the image is taken (a tenth at least, as for ImageNet), rather than the middle.
        rand_augment: timm's name of it, for cropped images; none where empty.
    """

    paths: tuple[Path, ...]
    labels: Tensor
    resolution: int
    cropped: bool
    device: str = "cpu"
    in_chs: int = 3
    rand_augment: str = ""

    def __len__(self) -> int:
        return len(self.paths)

    def to(self, device: torch.device | str) -> "Folder":
        """The same split, with batches on a device."""
        return replace(self, device=str(device))

    def stream(self, batches: Iterable[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Indices and a seed, batch by batch -> images [B, 3, H, W] as uint8, labels [B], and the seed"""
        keys = ([(int(i), seed) for i in index] for index, seed in batches)
        workers = min(16, max(1, (os.cpu_count() or 1) - 1))
        loader = DataLoader(
            _Decoded(self),
            batch_sampler=keys,
            num_workers=workers,
            prefetch_factor=AHEAD,
            pin_memory=self.device.startswith("cuda"),
            collate_fn=_collate,
        )
        for images, labels, seed in loader:
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True), seed

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Some images, from their middles, all at once: [n, 3, H, W] and their labels [n]."""
        found = [_decode(self.paths[i], self.resolution, None) for i in index.tolist()]
        return torch.stack(found), self.labels[index]


class _Decoded(Dataset):
    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor, int]:
        i, seed = key
        folder = self.folder
        own = seed + i if folder.cropped else None
        return _decode(folder.paths[i], folder.resolution, own, folder.rand_augment), folder.labels[i], seed


def _collate(items: list[tuple[Tensor, Tensor, int]]) -> tuple[Tensor, Tensor, int]:
    return torch.stack([item[0] for item in items]), torch.stack([item[1] for item in items]), items[0][2]


def _decode(path: Path, resolution: int, seed: int | None, rand_augment: str = "") -> Tensor:
    """One image, uint8 [3, H, W]: a random part where there is a seed, its middle otherwise."""
    from PIL import Image
    from torchvision.transforms import v2

    with Image.open(path) as opened:
        image = opened.convert("RGB")
    if seed is None:
        side = round(resolution * 8 / 7) if resolution >= 96 else resolution  # 256 for 224; small images whole
        middle = v2.Compose([v2.Resize(side, antialias=True), v2.CenterCrop(resolution)])
        return v2.functional.pil_to_tensor(middle(image))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        image = v2.RandomResizedCrop(resolution, (0.1, 1.0), antialias=True)(image)
    if rand_augment:
        with lent(seed):
            image = transform(rand_augment, resolution)(image)
    return v2.functional.pil_to_tensor(image)
