"""Ghost modules for any network: ordinary convolutions replaced in place (the paper's "plug-and-play", section 3.1).

What a convolution had (kernel, stride, padding, dilation, groups, bias, its class, device and dtype) its primary
convolution keeps; only the number of filters falls to m = n / s. What followed the convolution still follows: nothing
stands between primary and cheap operation but what `between` puts there, as in equations 2 and 3.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ghostnet.approximate import Approximation, solve, white_moments
from ghostnet.arch import ArchError, check_ghost
from ghostnet.inference import evaluating
from ghostnet.least_squares import seen_moments
from ghostnet.modules import CheapConv
from ghostnet.units import intrinsic_chs

Where = Callable[[str, nn.Conv2d], bool]


class GhostConv2d(nn.Module):
    """An ordinary convolution's Ghost module: the m primary maps, and n - m cheap ones of them.

    Args:
        conv: what it stands for; taken as a pattern, never changed.
        between: makes what primary maps go through before they are put out and made ghosts of, from their number.
        generator: source of the fresh weights; torch's global one where None.

    Raises:
        ArchError: there is no number of primaries under n that the groups divide.
    """

    order: Tensor | None

    def __init__(
        self,
        conv: nn.Conv2d,
        ratio: int = 2,
        cheap_kernel: int = 3,
        between: Callable[[int], nn.Module] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_ghost(ratio, cheap_kernel)
        out_chs = conv.out_channels
        primary = intrinsic_chs(out_chs, ratio, align=conv.groups)
        if primary == out_chs:
            raise ArchError(f"no ghosts at ratio {ratio} in {out_chs} channels of {conv.groups} groups")
        self.in_channels, self.out_channels = conv.in_channels, out_chs
        self.kernel_size, self.stride, self.padding = conv.kernel_size, conv.stride, conv.padding
        self.dilation, self.groups = conv.dilation, conv.groups
        self.primary_conv = _narrowed(conv, primary)
        self.between = between(primary) if between else nn.Identity()
        self.cheap_operation = CheapConv(primary, out_chs - primary, cheap_kernel, bias=conv.bias is not None)
        self.register_buffer("order", None)
        self._fresh(generator)
        self.to(conv.weight.device, conv.weight.dtype).train(conv.training)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_chs, H, W] -> what the convolution gives: [B, out_chs, h, w]"""
        y = self.between(self.primary_conv(x))
        y = torch.cat([y, self.cheap_operation(y)], 1)
        return y if self.order is None else y.index_select(1, self.order)

    @torch.no_grad()
    def imitate(self, conv: nn.Conv2d, approximation: Approximation) -> None:
        """Takes filters from the convolution replaced: primaries as they were, ghosts fitted, channels in its order."""
        for name, tensor in conv.named_parameters(recurse=False):
            if tensor.shape[0] == conv.out_channels:
                self.primary_conv.get_parameter(name).copy_(tensor[approximation.primaries])
        self.cheap_operation.weight.copy_(approximation.filters[:, None])
        if self.cheap_operation.bias is not None:
            self.cheap_operation.bias.copy_(approximation.bias)
        channels = torch.cat([approximation.primaries, approximation.ghosts])
        self.order = channels.argsort().to(conv.weight.device)

    @torch.no_grad()
    def _fresh(self, generator: torch.Generator | None) -> None:
        """He-normal primaries; cheap filters that keep the variance of what they read."""
        if self.primary_conv.weight.is_meta:
            return
        for tensor in self.primary_conv.parameters():
            if tensor.ndim == 4:
                nn.init.kaiming_normal_(tensor, nonlinearity="relu", generator=generator)
        if self.primary_conv.bias is not None:
            nn.init.zeros_(self.primary_conv.bias)
        nn.init.normal_(self.cheap_operation.weight, std=1 / self.cheap_operation.kernel, generator=generator)


@dataclass(frozen=True)
class Replacement:
    """What `ghostify` put in place of what, and where."""

    name: str
    conv: nn.Conv2d
    ghost: GhostConv2d


def ordinary(name: str, conv: nn.Conv2d) -> bool:
    """The convolutions that `ghostify` replaces unless told otherwise: one group, and two filters or more."""
    return conv.groups == 1 and conv.out_channels > 1


def ghostify(
    model: nn.Module,
    ratio: int = 2,
    cheap_kernel: int = 3,
    *,
    where: Where = ordinary,
    init: Literal["fresh", "trained"] = "fresh",
    images: Tensor | None = None,
    between: Callable[[int], nn.Module] | None = None,
    generator: torch.Generator | None = None,
) -> list[Replacement]:
    """Replaces convolutions of `model` by Ghost modules, in place, and returns what was replaced.

    Args:
        ratio: s, the maps that one primary map stands for.
        cheap_kernel: d, the side of the cheap operations' filters.
        where: tells by name and module which convolutions; by default all with one group, so depthwise and grouped
            ones stay. A grouped one is replaced where asked if fewer filters can still be dealt to its groups.
        init: `fresh` weights, or `trained`: primaries are filters of the convolution, chosen so that the others are
            closest to cheap operations of them, and those are fitted by least squares (`ghostnet.approximate`). The
            original order of channels is kept by an index selection.
        images: with `trained`, inputs of the model that are run through it once: ghosts are fitted to what the
            convolutions put out there, instead of to uncorrelated inputs of equal variance.
        between: what follows each primary convolution inside, from its number of channels; the authors' code has a
            norm and a ReLU there. Not with `trained`, which has no values for it.

    Raises:
        ArchError: a ratio or kernel that can't be, a convolution that can't be replaced, or options that don't fit.
    """
    check_ghost(ratio, cheap_kernel)
    if init not in ("fresh", "trained"):
        raise ArchError(f"`init` must be 'fresh' or 'trained', but got {init!r}")
    if init == "fresh" and images is not None:
        raise ArchError("`images` are for init='trained'")
    if init == "trained" and between is not None:
        raise ArchError("`between` must be None with init='trained'")
    if isinstance(model, nn.Conv2d):
        raise ArchError("`model` must hold its convolutions, but got one itself: put it into an nn.Sequential")
    chosen: dict[nn.Conv2d, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and where(name, module):
            chosen[module] = name
    if images is not None:
        _check_images(images)
    ghosts = {}
    if ratio > 1:
        for conv, name in chosen.items():
            try:
                ghosts[conv] = GhostConv2d(conv, ratio, cheap_kernel, between, generator)
            except ArchError as error:
                raise ArchError(f"{name}: {error}") from None
    if init == "trained":
        for conv, approximation in _approximations(model, ghosts, images).items():
            ghosts[conv].imitate(conv, approximation)
    for parent in list(model.modules()):
        # A convolution may stand in several places, also of one parent, where `named_children` tells one of them.
        for leaf, child in list(parent._modules.items()):
            if isinstance(child, nn.Conv2d) and child in ghosts:
                setattr(parent, leaf, ghosts[child])
    return [Replacement(chosen[conv], conv, ghost) for conv, ghost in ghosts.items()]


def _check_images(images: Tensor) -> None:
    """Raises:
    ArchError: nothing can be fitted to what such images make.
    """
    if not isinstance(images, Tensor) or not images.numel():
        shape = list(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ArchError(f"`images` must be a tensor of one image or more, but got {shape}")
    if not bool(images.isfinite().all()):
        raise ArchError("`images` must be finite, but some values are not")


def _narrowed(conv: nn.Conv2d, out_chs: int) -> nn.Conv2d:
    """The same kind of convolution with fewer filters, which are still to be drawn."""
    if "weight" not in conv._parameters or isinstance(conv.weight, nn.UninitializedParameter):
        raise ArchError("its weight is not a plain parameter")
    narrow = copy.copy(conv)
    narrow._parameters = dict(conv._parameters)
    narrow.out_channels = out_chs
    for name, tensor in conv.named_parameters(recurse=False):
        rows = out_chs if tensor.shape[0] == conv.out_channels else len(tensor)
        narrow._parameters[name] = nn.Parameter(tensor.detach()[:rows].clone(), tensor.requires_grad)
    return narrow


@torch.no_grad()
def _approximations(
    model: nn.Module, ghosts: dict[nn.Conv2d, GhostConv2d], images: Tensor | None
) -> dict[nn.Conv2d, Approximation]:
    """Primaries and ghosts for every convolution, from its filters or from what it puts out for `images`."""
    approximations: dict[nn.Conv2d, Approximation] = {}

    def sizes(conv: nn.Conv2d) -> tuple[int, int]:
        return ghosts[conv].primary_conv.out_channels, conv.groups

    if images is None:
        for conv, ghost in ghosts.items():
            approximations[conv] = solve(white_moments(conv, ghost.cheap_operation.kernel), *sizes(conv))
        return approximations

    def look(conv: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        if conv not in approximations:
            moments = seen_moments(output, ghosts[conv].cheap_operation.kernel, centred=conv.bias is not None)
            approximations[conv] = solve(moments, *sizes(conv))

    def check(conv: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(conv, nn.Conv2d)
        x, chs = inputs[0] if inputs else None, conv.in_channels
        if isinstance(x, Tensor) and x.ndim in (3, 4) and x.shape[-3] != chs:
            raise ArchError(f"`images` must bring a convolution {chs} channels, but got {x.shape[-3]}")

    hooks = [conv.register_forward_hook(look) for conv in ghosts]
    hooks += [conv.register_forward_pre_hook(check) for conv in model.modules() if isinstance(conv, nn.Conv2d)]
    try:
        with evaluating(model):
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    if missed := [conv for conv in ghosts if conv not in approximations]:
        raise ArchError(f"`images` must reach every convolution, but {len(missed)} of {len(ghosts)} were not run")
    return approximations
