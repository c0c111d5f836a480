"""Mixup and CutMix: training images and labels are mixed in pairs (timm's)."""

import numpy as np
from timm.data import Mixup
from torch import Tensor

from search.data.generators import temporary_seed
from search.errors import UserError
from search.recipes.schema import Training


class Mixing:
    """What a recipe mixes; nothing where it asks for neither.

    Args:
        processes: that share each batch.

    Raises:
        UserError: batches that can't be mixed in pairs.
    """

    def __init__(self, config: Training, num_classes: int, processes: int = 1) -> None:
        self._mix: Mixup | None = None
        if config.mixup or config.cutmix:
            if config.batch_size % (2 * config.accumulate * processes):
                raise UserError(f"mixup and cutmix mix pairs: `batch_size` {config.batch_size} leaves an image over")
            self._mix = Mixup(config.mixup, config.cutmix, label_smoothing=0.0, num_classes=num_classes)

    def __call__(self, images: Tensor, labels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Images [B, C, H, W] and labels [B] -> mixed images, and labels [B] or their shares [B, classes]"""
        if self._mix is None:
            return images, labels
        even = len(images) // 2 * 2  # a data set smaller than a batch may have one over
        with temporary_seed(int(rng.integers(2**32))):
            return self._mix(images[:even], labels[:even])
