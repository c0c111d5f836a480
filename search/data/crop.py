"""Which part of an image a network is shown, and how that is scaled. Known without torch."""

LARGE = 96  # pixels; from this resolution on, an image's border is left out, as 224 of 256 are for ImageNet
CENTRE = 7 / 8  # of the side that stays
INTERPOLATION = "bilinear"  # with antialiasing


def crop_share(resolution: int) -> float:
    """Of an image's side, what is shown at a resolution: all of it below `LARGE`."""
    return CENTRE if resolution >= LARGE else 1.0
