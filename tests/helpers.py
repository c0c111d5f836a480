"""What several tests share."""

import torch
from hypothesis import strategies as st
from torch import nn

from ghostnet.arch import Arch, Block


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
