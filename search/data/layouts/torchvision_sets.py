"""Data sets that torchvision downloads: into a cache, and once."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Self

from search.data.layouts.base import DataSource, Sizes
from search.errors import UserError, first_line

if TYPE_CHECKING:
    from search.data.layouts.base import Parts

CLASSES = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "mnist": "MNIST", "fashionmnist": "FashionMNIST"}
SIZES = {
    "cifar10": Sizes(50_000, 10_000, 10, 3),
    "cifar100": Sizes(50_000, 10_000, 100, 3),
    "mnist": Sizes(60_000, 10_000, 10, 1),
    "fashionmnist": Sizes(60_000, 10_000, 10, 1),
}


class TorchvisionSet(DataSource):
    """`cifar10`, `cifar100`, `mnist`, `fashionmnist`"""

    known_as = tuple(CLASSES)

    @classmethod
    def parse(cls, name: str) -> Self | None:
        return cls(name) if name in CLASSES else None

    @property
    def flip(self) -> bool:
        return self.name != "mnist"

    def sizes(self) -> Sizes:
        return SIZES[self.name]

    def load(self, resolution: int) -> Parts:
        import torch
        import torchvision.datasets

        from search.data.labels import check_names
        from search.data.splits import Split

        root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ghostnas" / self.name
        kind = getattr(torchvision.datasets, CLASSES[self.name])
        try:
            sets = [kind(str(root), train=train, download=True) for train in (True, False)]
        except (OSError, RuntimeError) as error:
            with contextlib.suppress(OSError):
                root.rmdir()  # which torchvision made before it tried
            raise UserError(
                f"{self.name} could not be downloaded ({first_line(error)}); "
                "data that is here already: --data parquet:PATH"
            ) from None
        splits = []
        for each in sets:
            images = torch.as_tensor(each.data)
            images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
            splits.append(Split(images.contiguous(), torch.as_tensor(each.targets).long()))
        return splits[0], splits[1], check_names(sets[0].classes)
