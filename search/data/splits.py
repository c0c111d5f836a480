"""Labelled images in memory, and how they are divided: always in the same way, every class alike."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from search.data.encoded import EncodedSplit, ImageTransform, apply_transform
from search.data.generators import kept_generators
from search.errors import UserError

SPLIT_SEED = 20200614


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

    def joined(self, *others: "Split") -> "Split":
        """The split of its images and others', in memory."""
        splits = (self, *others)
        images, labels = (torch.cat([getattr(split, part) for split in splits]) for part in ("images", "labels"))
        return replace(self, images=images, labels=labels, encoded=None)

    def stream(self, batches: Iterable[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Indices and a seed, batch by batch -> images [B, C, H, W], labels [B], and the seed"""
        for index, seed in batches:
            here = index.to(self.labels.device)
            images = self.images[here]
            if self.transform:
                with kept_generators():
                    changed = [
                        apply_transform(to_pil_image(image), self.transform, seed + i)
                        for image, i in zip(images.cpu(), index.tolist(), strict=True)
                    ]
                images = torch.stack(changed).to(images.device)
            yield images, self.labels[here], seed


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


def order_by_class(labels: Tensor) -> Tensor:
    """A shuffled order in which every stretch has the classes in proportion."""
    rng = np.random.default_rng(SPLIT_SEED)
    rank = np.empty(len(labels))
    for label in np.unique(labels.numpy()):
        members = np.flatnonzero(labels.numpy() == label)
        rank[rng.permutation(members)] = (np.arange(len(members)) + rng.random(len(members))) / len(members)
    return torch.from_numpy(np.argsort(rank, kind="stable"))
