"""What a training does to its images: shifts and mirrors, RandAugment, normalisation, erasing.

Where images are decoded by worker processes, RandAugment is theirs (image_folder.py); everything else is done to
whole batches.
"""

from typing import Any

import numpy as np
from torch import Tensor

from search.data.datasets import Data
from search.data.image_folder import Folder
from search.data.rand_augment import lent, rand_augmented
from search.recipes.schema import Training


class Augment:
    """uint8 images [B, C, H, W] as they are stored -> normalised float32 ones to train on."""

    def __init__(self, data: Data, config: Training) -> None:
        self.data = data
        self.rand_augment = "" if isinstance(data.train, Folder) else config.rand_augment
        self.erasing: Any = None
        if config.erasing:
            from timm.data.random_erasing import RandomErasing

            self.erasing = RandomErasing(config.erasing, mode="pixel", device="cpu")

    def __call__(self, images: Tensor, seed: int) -> Tensor:
        images = self.data.augment(images, np.random.default_rng(seed))
        if self.rand_augment:
            images = rand_augmented(images, self.rand_augment, seed)
        images = self.data.normalise(images)
        if self.erasing:
            self.erasing.device = images.device
            with lent(seed):
                images = self.erasing(images)
        return images
