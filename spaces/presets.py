"""The named spaces. Each searches the ghost ratio s, the cheap kernel d, SE placement and widths; its `-plus` form
hidden expansion, block kernels, depth and resolution, too; the family's own networks are members of both. Its
`-aligned` form has intrinsic widths in multiples of 8 only: faster on hardware (`results/latency/widths.md`), but other
networks than the published ones, so it stands beside them and is not the default."""

from dataclasses import replace

from ghostnet.published import HEAD_CHS, STEM_CHS, TABLE_1, TAIL_CHS, Row
from spaces.errors import SpaceError
from spaces.space import Space

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


def _repeated(stage: tuple[Row, ...]) -> tuple[Row, ...]:
    """A stage with its last row once more, at stride 1: room for depth."""
    return (*stage, stage[-1])


DIGITS_PLUS = replace(
    DIGITS,
    name="digits-plus",
    rows=(DIGITS.rows[0], *map(_repeated, DIGITS.rows[1:])),
    expansions=(0.75, 1.0, 1.25),
    dw_kernels=(3, 5),
    depths=((1,), (1, 2, 3), (1, 2, 3)),
    baseline_depths=(1, 2, 2),
    resolutions=(8, 12, 16),
)

# Stages 3, 5 and 7 of table 1 may have a block more, 7 and 9 fewer.
_PLUS_ROWS = tuple(_repeated(stage) if i in (2, 4, 6) else stage for i, stage in enumerate(TABLE_1))
_PLUS_DEPTHS = ((1,), (1,), (1, 2), (1,), (1, 2), (1,), (4, 5, 6), (1,), (2, 3, 4))

CIFAR_PLUS, IMAGENET_PLUS = (
    replace(
        space,
        name=f"{space.name}-plus",
        rows=_PLUS_ROWS,
        expansions=(0.75, 1.0, 1.25),
        dw_kernels=(3, 5, 7),
        depths=_PLUS_DEPTHS,
        baseline_depths=tuple(map(len, TABLE_1)),
        resolutions=resolutions,
    )
    for space, resolutions in ((CIFAR, (24, 28, 32)), (IMAGENET, (160, 192, 224)))
)

ALIGNED = tuple(replace(space, name=f"{space.name}-aligned", align=8) for space in (DIGITS, CIFAR, IMAGENET))

PRESETS = {space.name: space for space in (DIGITS, CIFAR, IMAGENET, DIGITS_PLUS, CIFAR_PLUS, IMAGENET_PLUS, *ALIGNED)}


def named_space(name: str) -> Space:
    """The space of that name.

    Raises:
        SpaceError: there is none.
    """
    if name not in PRESETS:
        raise SpaceError(f"a space is one of {', '.join(PRESETS)}, not {name!r:.80}")
    return PRESETS[name]
