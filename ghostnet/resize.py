"""Images at another resolution."""

import torch.nn.functional as F
from torch import Tensor


def resized(images: Tensor, side: int | None) -> Tensor:
    """[B, C, H, W] -> [B, C, side, side], bilinear with antialiasing; as they are where they are of that size, or it is
    None."""
    if side is None or images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True)
