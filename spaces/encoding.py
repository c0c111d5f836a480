"""Codes and architectures: from a code to the network that it means, and back."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ghostnet.arch import Arch, Block
from ghostnet.published import make_divisible
from ghostnet.units import Bottleneck, Stem, Tail, Unit, strided
from spaces.canonical import canonical_codes
from spaces.errors import SpaceError
from spaces.genes import Codes, Gene
from spaces.layout import BlockPosition, Layout, Position, StemPosition, TailPosition
from spaces.spec import SpaceSpec

Values = Mapping[int, Any] | Sequence[Any]  # choices by the number of their gene


def decode(layout: Layout, code: Codes) -> Arch:
    """[genes] -> the architecture, the same for every code with this canonical one.

    Raises:
        SpaceError: the code has another length or an index out of range.
    """
    check_code(layout, code)
    return _decode(layout, canonical_codes(layout).canonical(np.asarray(code)))


def check_code(layout: Layout, code: Codes | Sequence[int]) -> None:
    """Raises:
    SpaceError: it is no code of the space, canonical or not.
    """
    indices, choices = np.asarray(code), layout.choices
    if indices.shape != choices.shape or (indices < 0).any() or (indices >= choices).any():
        raise SpaceError(
            f"{str(indices.tolist())[:60]} is no code of space {layout.spec.name}, which has {len(choices)} indices, "
            "each below its gene's number of choices"
        )


def encode(layout: Layout, arch: Arch) -> Codes:
    """The architecture's canonical code, [genes]: the inverse of `decode`.

    Raises:
        SpaceError: the architecture is not a member.
    """
    try:
        code = _closest_code(layout, arch)
        if _decode(layout, code) == arch:  # which may state a network by other than its canonical ratios
            return canonical_codes(layout).canonical(code)
    except ValueError:
        pass
    raise SpaceError(f"architecture {arch.id} is not in space {layout.spec.name}")


def family_arch(spec: SpaceSpec, width: float) -> Arch:
    """The family's own network at one width: the paper's s = 2, d = 3, SE placement, kernels and depth."""
    depths = spec.baseline_depths or tuple(map(len, spec.rows))
    stages = [[row.block(width) for row in rows[:depth]] for rows, depth in zip(spec.rows, depths, strict=True)]
    return _arch(spec, stages, width, width, spec.resolution)


def unit_at(layout: Layout, position: Position, values: Values) -> Unit | None:
    """What stands at a position, from the values of the genes that it depends on; None where the depth drops it."""
    spec = layout.spec
    side = spec.resolution if position.resolution is None else values[position.resolution]
    size = strided(side, position.reduction)
    match position:
        case StemPosition():
            return Stem(spec.in_chs, make_divisible(spec.stem_chs * values[position.width]), spec.stem_stride, size)
        case BlockPosition():
            block = _block_at(spec, position, values)
            in_chs = make_divisible(position.in_chs * values[position.before])
            return None if block is None else Bottleneck(in_chs, block, spec.align, size)
        case TailPosition():
            in_chs = make_divisible(position.in_chs * values[position.before])
            tail_chs = make_divisible(spec.tail_chs * values[position.width])
            return Tail(in_chs, tail_chs, spec.head_chs, spec.num_classes, size)
    raise TypeError(f"no kind of position: {position!r}")


def _block_at(spec: SpaceSpec, position: BlockPosition, values: Values) -> Block | None:
    """The block at a position. A kernel that nothing in the block uses is the row's own, whatever its gene says."""
    if position.depth is not None and position.index >= values[position.depth]:
        return None
    row, width = position.row, values[position.width]
    ratio, cheap_kernel = values[position.ghost]
    expansion = spec.expansions[0] if position.expansion is None else values[position.expansion]
    kernel = spec.kernel_choices(row)[0] if position.kernel is None else values[position.kernel]
    return row.block(
        width,
        mid_chs=position.mid_chs(width, expansion),
        dw_kernel=kernel if position.uses_kernel(values[position.before], width) else row.dw_kernel,
        se_ratio=values[position.se],
        ratio=ratio,
        cheap_kernel=cheap_kernel,
    )


def _decode(layout: Layout, code: Codes) -> Arch:
    spec = layout.spec
    values = [gene.choices[index] for gene, index in zip(layout.genes, code.tolist(), strict=True)]
    blocks = [[_block_at(spec, position, values) for position in stage.blocks] for stage in layout.stages]
    stages = [[block for block in stage if block is not None] for stage in blocks]
    side = spec.resolution if layout.resolution is None else values[layout.resolution]
    return _arch(spec, stages, values[layout.stem.width], values[layout.tail.width], side)


def _arch(
    spec: SpaceSpec, stages: Sequence[Sequence[Block]], stem_width: float, tail_width: float, resolution: int
) -> Arch:
    return Arch(
        stages=tuple(tuple(stage) for stage in stages),
        stem_chs=make_divisible(spec.stem_chs * stem_width),
        stem_stride=spec.stem_stride,
        tail_chs=make_divisible(spec.tail_chs * tail_width),
        head_chs=spec.head_chs,
        resolution=resolution,
        align=spec.align,
    )


def _closest_code(layout: Layout, arch: Arch) -> Codes:
    """A code of the architecture if it is a member: [genes]. Whether it is one, decoding tells.

    Raises:
        ValueError: a value is none of its gene's choices.
    """
    spec, genes = layout.spec, layout.genes
    code = np.zeros_like(layout.choices)

    def put(gene: int | None, value: Any) -> None:
        if gene is not None:
            code[gene] = genes[gene].choices.index(value)

    stem, tail = layout.stem.width, layout.tail.width
    code[stem] = _first(genes[stem], lambda width: make_divisible(spec.stem_chs * width) == arch.stem_chs)
    code[tail] = _first(genes[tail], lambda width: make_divisible(spec.tail_chs * width) == arch.tail_chs)
    put(layout.resolution, arch.resolution)
    for blocks, stage in zip(arch.stages, layout.stages, strict=True):
        put(stage.depth, len(blocks))
        pairs = list(zip(blocks, stage.blocks, strict=False))  # the depth may drop some
        code[stage.width] = _first(genes[stage.width], partial(_makes, spec, pairs))
        for block, position in pairs:
            before, width = (genes[gene].choices[code[gene]] for gene in (position.before, position.width))
            put(position.ghost, (block.ratio, block.cheap_kernel))
            put(position.se, block.se_ratio)
            if position.expansion is not None:
                mid_chs = [position.mid_chs(width, each) for each in genes[position.expansion].choices]
                code[position.expansion] = mid_chs.index(block.mid_chs)
            if position.uses_kernel(before, width):
                put(position.kernel, block.dw_kernel)
    return code


def _first(gene: Gene, fits: Callable[[Any], bool]) -> int:
    """The first choice that fits.

    Raises:
        ValueError: none does.
    """
    return [fits(choice) for choice in gene.choices].index(True)


def _makes(spec: SpaceSpec, pairs: Sequence[tuple[Block, BlockPosition]], width: float) -> bool:
    """Whether a width makes the channels of a stage's blocks."""
    return all(
        block.out_chs == make_divisible(position.row.out_chs * width)
        and any(block.mid_chs == position.mid_chs(width, each) for each in spec.expansions)
        for block, position in pairs
    )
