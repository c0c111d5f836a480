"""The augmentation of training images, the same for every data set, in memory or decoded by worker processes.

Image by image, from the number of the image and a seed: RandAugment (timm), and random resized crops (torchvision) of
what is decoded, which may be larger than what is trained on. On whole batches: random resized crops of what there is in
memory alone, shifts, mirror images, normalisation, erasing (timm). What is drawn for crops, shifts and mirror images is
our own, because torchvision's transforms draw once for a whole batch, and one image at a time takes longer than a small
network's step.

torchvision and timm draw from the global generators of torch, numpy and Python: see `search.data.generators`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import roi_align
from torchvision.transforms.v2 import RandomResizedCrop

from search.data.crop import LARGE
from search.data.datasets import Data, parts
from search.data.encoded import EncodedSplit
from search.data.generators import seed_generators, temporary_seed
from search.data.images import GROUND
from search.data.splits import Split
from search.recipes.schema import Training

CROP_TRIES = 10  # torchvision's, after which the whole image is taken


class Augment:
    """uint8 images [B, C, H, W] of `split()` -> normalised float32 ones to train on."""

    def __init__(self, data: Data, config: Training) -> None:
        self.data = data
        side = data.train.resolution
        crop = ("resized" if side >= LARGE else "shift") if config.crop == "auto" else config.crop
        self.pad = int(config.shift * side) if crop == "shift" else 0
        self.flip = data.flip if config.flip is None else config.flip
        scale = config.crop_scale if crop == "resized" else None
        by_batch = isinstance(data.train, Split) and not data.train.encoded and not config.rand_augment
        self.crop_scale = scale if by_batch else None
        self.transform = Transform(side, None if by_batch else scale, config.rand_augment)
        self.erasing: Any = None
        if config.erasing:
            from timm.data.random_erasing import RandomErasing

            self.erasing = RandomErasing(config.erasing, mode="pixel", device="cpu")

    def split(self) -> Split | EncodedSplit:
        """The training split, with what is done image by image. Then images are decoded by workers, if they can be."""
        train = self.data.train
        if not self.transform:
            return train
        return replace((isinstance(train, Split) and train.encoded) or train, transform=self.transform)

    def __call__(self, images: Tensor, seed: int) -> Tensor:
        rng = np.random.default_rng(seed)
        if self.crop_scale is not None:
            images = crop_images(images, self.crop_scale, rng)
        images = shift_images(images, self.pad, self.flip, rng)
        images = self.data.normalise(images)
        if self.erasing:
            self.erasing.device = images.device
            with temporary_seed(seed, images.device):
                images = self.erasing(images)
        return images

    def fixed(self, split: Split, seed: int) -> Split:
        """A split with what is done image by image done once, from the encoded images where there are such."""
        if not self.transform:
            return split
        source = replace(split.encoded or split, transform=self.transform)
        images = [images for images, _, _ in source.stream(_seeded(split, seed))]
        return Split(torch.cat(images).to(split.images.device), split.labels)

    def batches(self, split: Split, seed: int) -> Iterator[Tensor]:
        """Batches of a `fixed` split, in order, as training would show them; the same ones for the same seed."""
        for images, _, batch_seed in split.stream(_seeded(split, seed)):
            yield self(images, batch_seed)


def _seeded(split: Split, seed: int) -> Iterator[tuple[Tensor, int]]:
    """Numbers of a split's images, batch by batch, and a seed for each batch."""
    order = parts(len(split))
    yield from zip(order, np.random.SeedSequence(seed).generate_state(len(order)).tolist(), strict=True)


def shift_images(images: Tensor, pad: int, flip: bool, rng: np.random.Generator) -> Tensor:
    """[B, C, H, W] -> each image shifted at random by up to `pad` pixels, zeros moving in, and mirrored or not."""
    count, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (pad,) * 4)
    dy, dx = (torch.from_numpy(rng.integers(2 * pad + 1, size=count)).to(images.device) for _ in range(2))
    flips = torch.from_numpy(rng.random(count) < 0.5 * flip).to(images.device)
    rows = torch.arange(height, device=images.device) + dy[:, None]  # [B, H]
    columns = torch.arange(width, device=images.device).expand(count, -1)
    columns = torch.where(flips[:, None], columns.flip(1), columns) + dx[:, None]  # [B, W]
    index = torch.arange(count, device=images.device)[:, None, None]
    return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def crop_images(images: Tensor, scale: float, rng: np.random.Generator) -> Tensor:
    """[B, C, H, W] -> of each image a random part, resized to the whole, float32; torchvision's resized crop, but
    each image draws for itself, and a part's border reads the pixels beside it.

    Args:
        scale: the smallest share of the area.
    """
    count, _, height, width = images.shape
    area = height * width * rng.uniform(scale, 1, (CROP_TRIES, count))
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), (CROP_TRIES, count)))
    tried = np.stack([np.sqrt(area / ratio), np.sqrt(area * ratio)]).round().clip(1)  # heights and widths
    whole = np.array([height, width], float)
    fits = (tried <= whole[:, None, None]).all(0)
    sides = np.where(fits.any(0), tried[:, fits.argmax(0), np.arange(count)], whole[:, None])
    top, left = rng.integers((whole[:, None] - sides).astype(int) + 1)
    boxes = np.stack([np.arange(count), left, top, left + sides[1], top + sides[0]], 1)
    places = torch.from_numpy(boxes).to(images.device, torch.float32)
    return roi_align(images.float(), places, (height, width), aligned=True)


@dataclass(frozen=True, slots=True)
class Transform:
    """What is done to one image of Pillow's, RGB or grey; false if nothing is. It seeds the global generators; callers
    keep them (`kept_generators`) where they matter.

    Args:
        crop_scale: the smallest share of the area that a random resized crop takes; None crops nothing.
        rand_augment: timm's name of it, such as `rand-m9-mstd0.5`; none where empty.
    """

    resolution: int
    crop_scale: float | None = None
    rand_augment: str = ""

    @property
    def crops(self) -> bool:
        return self.crop_scale is not None

    def __bool__(self) -> bool:
        return self.crops or bool(self.rand_augment)

    def __call__(self, image: Any, seed: int) -> Any:
        seed_generators(seed)
        if self.crop_scale is not None:
            image = _random_crop(self.resolution, self.crop_scale)(image)
        if self.rand_augment:
            changed = _rand_augment(self.rand_augment, self.resolution)(image.convert("RGB"))
            image = changed.getchannel(0) if image.mode == "L" else changed
        return image


@lru_cache(maxsize=4)
def _random_crop(side: int, scale: float) -> Any:
    return RandomResizedCrop(side, (scale, 1.0), antialias=True)


@lru_cache(maxsize=4)
def _rand_augment(spec: str, side: int) -> Any:
    from timm.data.auto_augment import rand_augment_transform

    augment = rand_augment_transform(spec, {"translate_const": round(side * 0.45), "img_mean": GROUND})
    for op in augment.ops:
        if op.name.startswith("Posterize"):  # timm keeps 0 bits at one end of its scale, which Pillow refuses
            op.level_fn = _at_least_one_bit(op.level_fn)
    return augment


def _at_least_one_bit(level: Any) -> Any:
    return lambda magnitude, params: (max(1, *level(magnitude, params)),)
