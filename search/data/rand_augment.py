"""timm's RandAugment. It draws from Python's and numpy's global generators, as all of timm's augmentations do: they are
lent a seed and given back as they were."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor


@contextmanager
def lent(seed: int) -> Iterator[None]:
    """Python's and numpy's global generators, seeded inside, untouched outside."""
    kept = random.getstate(), np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002


def rand_augmented(images: Tensor, spec: str, seed: int) -> Tensor:
    """timm's RandAugment on each image, uint8 [B, C, H, W], on the host; of grey images all channels alike."""
    from torchvision.transforms.v2.functional import to_pil_image

    grey = images.shape[1] == 1
    changed = []
    with lent(seed):
        for image in images.cpu():
            after = np.asarray(transform(spec, image.shape[-1])(to_pil_image(image).convert("RGB")))
            changed.append(after[..., :1] if grey else after)
    return torch.from_numpy(np.stack(changed)).permute(0, 3, 1, 2).contiguous().to(images.device)


@lru_cache(maxsize=4)
def transform(spec: str, side: int) -> Any:
    """timm's transform of PIL images by its own name, such as `rand-m9-mstd0.5`."""
    from timm.data.auto_augment import rand_augment_transform

    return rand_augment_transform(spec, {"translate_const": round(side * 0.45), "img_mean": (124, 116, 104)})
