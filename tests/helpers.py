"""What several tests share."""

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import nn

from ghostnet.arch import Arch, Block
from ghostnet.published import Row
from spaces import Space


@torch.no_grad()
def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Draws every weight, norm and buffer anew: default values hide mistakes. Scales keep activations near one."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.dtype)
        if name.endswith("running_var"):
            tensor.copy_(noise.abs() * 0.5 + 0.5)
        elif tensor.ndim > 1:
            tensor.copy_(noise * (2 / tensor[0].numel()) ** 0.5)
        else:
            tensor.copy_(noise * 0.2 + (0 if name.endswith(("bias", "running_mean")) else 1))
    return module


def small_arch(**changes: object) -> Arch:
    """A network with every kind of block: s = 1 to 4, odd widths, strides, SE, both kinds of shortcut."""
    stages = (
        (Block(mid_chs=9, out_chs=8, ratio=3, cheap_kernel=5),),
        (
            Block(mid_chs=17, out_chs=13, stride=2, dw_kernel=5, se_ratio=0.25, ratio=2),
            Block(mid_chs=11, out_chs=13, ratio=4, cheap_kernel=1),
        ),
        (Block(mid_chs=20, out_chs=10, ratio=1, se_ratio=0.25),),
    )
    values: dict = {"stages": stages, "stem_chs": 8, "stem_stride": 1, "tail_chs": 24, "head_chs": 20, "resolution": 15}
    return Arch(**(values | changes))


def plus_space(**changes: object) -> Space:
    """A space with every kind of choice, small enough to enumerate: expansions that are one at the smaller width, a
    depth that drops a block, kernels that are dead at some widths, two resolutions."""
    values: dict = {
        "name": "small-plus",
        "rows": ((Row(3, 16, 8, 0, 1), Row(3, 16, 8, 0, 1)), (Row(5, 16, 12, 0.25, 1),)),
        "stem_chs": 8,
        "stem_stride": 1,
        "tail_chs": 16,
        "head_chs": 8,
        "resolution": 9,
        "widths": (0.5, 1.0),
        "ratios": (2,),
        "cheap_kernels": (3,),
        "num_classes": 3,
        "expansions": (0.75, 1.0),
        "dw_kernels": (3, 5),
        "depths": ((1, 2), (1,)),
        "baseline_depths": (1, 1),
        "resolutions": (7, 9),
    }
    return Space(**(values | changes))


@st.composite
def spaces(draw: st.DrawFn, most: int = 1500) -> Space:
    """Any tiny space of at most so many codes."""

    def some(choices: tuple, most: int = 2) -> tuple:
        return tuple(draw(st.lists(st.sampled_from(choices), min_size=1, max_size=most, unique=True)))

    chs = st.sampled_from((4, 8, 11, 16, 22))
    rows, depths = [], []
    for _ in range(draw(st.integers(1, 2))):
        first = Row(draw(st.sampled_from((3, 5))), draw(chs), draw(chs), 0.25, draw(st.integers(1, 2)))
        again = Row(3, draw(chs), first.out_chs, 0, 1)
        rows.append((first, again) if draw(st.booleans()) else (first,))
        depths.append(some(tuple(range(1, len(rows[-1]) + 1))))
    space = plus_space(
        rows=tuple(rows),
        stem_chs=draw(chs),
        widths=some((0.25, 0.3, 0.5, 1.0)),
        ratios=some((1, 2, 3)),
        cheap_kernels=some((1, 3)),
        expansions=some((0.5, 0.9, 1.0)),
        dw_kernels=some((1, 3, 5)) if draw(st.booleans()) else None,
        depths=tuple(depths),
        baseline_depths=None,
        resolutions=draw(st.sampled_from(((), (7, 9)))),
        align=draw(st.sampled_from((1, 4))),
    )
    assume(space.choices.prod() <= most)
    return space


@st.composite
def archs(draw: st.DrawFn) -> Arch:
    """Any small architecture: odd widths and sizes, every ratio and kernel, SE or not, alignment or not."""
    chs = st.integers(1, 20)
    blocks = st.builds(
        Block,
        mid_chs=chs,
        out_chs=chs,
        dw_kernel=st.sampled_from((1, 3, 5)),
        stride=st.sampled_from((1, 2)),
        se_ratio=st.sampled_from((0.0, 0.25, 1.0)),
        ratio=st.integers(1, 5),
        cheap_kernel=st.sampled_from((1, 3, 5)),
    )
    stages = draw(st.lists(st.lists(blocks, min_size=1, max_size=2).map(tuple), min_size=1, max_size=3).map(tuple))
    return Arch(
        stages=stages,
        stem_chs=draw(chs),
        stem_stride=draw(st.sampled_from((1, 2))),
        tail_chs=draw(chs),
        head_chs=draw(chs),
        resolution=draw(st.integers(5, 20)),
        align=draw(st.sampled_from((1, 1, 4, 8))),
    )
