"""The named spaces. Each searches the ghost ratio s, the cheap kernel d, SE placement and widths."""

from ghostnet.published import HEAD_CHS, STEM_CHS, TABLE_1, TAIL_CHS, Row
from spaces.space import Space, SpaceError

# The first five rows of table 1 for 8 x 8 digits shown at 16 x 16; a head in proportion.
DIGITS = Space(
    name="digits",
    rows=(
        (Row(3, 16, 16, 0, 1),),
        (Row(3, 48, 24, 0, 2), Row(3, 72, 24, 0, 1)),
        (Row(5, 72, 40, 0.25, 2), Row(5, 120, 40, 0.25, 1)),
    ),
    stem_chs=STEM_CHS,
    stem_stride=1,
    tail_chs=240,
    head_chs=128,
    resolution=16,
    widths=(0.25, 0.5, 0.75, 1.0),
    cheap_kernels=(3, 5),
    num_classes=10,
    in_chs=1,
)

# Table 1 at 32 x 32 with a stem of stride 1, as ImageNet networks are usually fitted to CIFAR.
CIFAR = Space(
    name="cifar",
    rows=TABLE_1,
    stem_chs=STEM_CHS,
    stem_stride=1,
    tail_chs=TAIL_CHS,
    head_chs=HEAD_CHS,
    resolution=32,
    widths=(0.25, 0.5, 0.75, 1.0),
    num_classes=10,
)

# The paper's own family; ghostnet-0.5, -1.0 and -1.3 are members.
IMAGENET = Space(
    name="imagenet",
    rows=TABLE_1,
    stem_chs=STEM_CHS,
    stem_stride=2,
    tail_chs=TAIL_CHS,
    head_chs=HEAD_CHS,
    resolution=224,
    widths=(0.5, 0.75, 1.0, 1.3),
)

PRESETS = {space.name: space for space in (DIGITS, CIFAR, IMAGENET)}


def named_space(name: str) -> Space:
    """The space of that name.

    Raises:
        SpaceError: there is none.
    """
    if name not in PRESETS:
        raise SpaceError(f"a space is one of {', '.join(PRESETS)}, not {name!r}")
    return PRESETS[name]
