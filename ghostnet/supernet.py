"""One set of weights for every architecture of a space.

The whole theory of sharing is one line: *a sub-network's tensor is the leading corner of the supernet's tensor of the
same name, and its kernel is the centre*. So `slice` is a table of views under `GhostNet`'s own names; `forward` runs
the standalone network's code on that table, and `extract` copies the table into a standalone network. The three can't
disagree, because there is one definition of the network and one of the slice.

There is one exception. A sum over c of C channels is about c / C of the whole one. Behind most convolutions stands a
norm that makes up for it; where none does (`UNNORMED`), the slice is multiplied by C / c. Without that, networks of
different widths ask the same weights for outputs of different size, and one width alone, the tail's, slows the training
of all others (measured in `results/fidelity/`).

Channels are shared by position, kernels by centre crop, as in once-for-all networks (Cai et al., ICLR 2020) without
the learned transform. While training, batch norm uses batch statistics and learns none: they belong to a sub-network,
not to the supernet, and are recalibrated for every network that is evaluated (Yu and Huang, ICCV 2019).
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ghostnet.arch import Arch, ArchError, check_rate
from ghostnet.network import GhostNet, initialise

CACHED_NETS = 64
UNNORMED = ("conv_head.weight", "se.conv_reduce.weight", "se.conv_expand.weight")
BUFFERS = ("running_mean", "running_var")


class ParameterlessNet:
    """A network without parameters of its own, which computes with the tensors that each call passes.

    `torch.func.functional_call` does the same, but looks up all names in every call, which takes milliseconds.
    """

    def __init__(self, net: GhostNet) -> None:
        self.net, self.shapes = net, _shapes(net)
        self.learned = {name: shape for name, shape in self.shapes.items() if not name.endswith(BUFFERS)}
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats = False  # batch statistics in training, and none kept
        slots = _parameter_slots(net)
        self._slots = {name: (*slots[name], slots[name][0][slots[name][1]]) for name in self.shapes}

    def run(self, tensors: dict[str, Tensor], x: Tensor, training: bool) -> Tensor:
        """The network's outputs for `x`, with tensors for all of `shapes`; while training, those `learned` will do."""
        if self.net.training != training:
            self.net.train(training)
        try:
            for name, tensor in tensors.items():
                held, leaf, _ = self._slots[name]
                held[leaf] = tensor
            return self.net(x)
        finally:
            for held, leaf, empty in self._slots.values():
                held[leaf] = empty


class Supernet(nn.Module):
    """Elastic GhostNet; the architecture is an argument of `forward`.

    Args:
        bounds: architectures that between them reach the largest shape of every tensor (`Space.bounds`).
        drop_rate, drop_path: as `GhostNet`'s; `forward` uses them where it is told `regularise=True`.
        generator: source of the initial weights; torch's global one where None.

    Raises:
        ArchError: as `GhostNet`'s, or bounds that are no architectures.
    """

    def __init__(
        self,
        bounds: Sequence[Arch],
        num_classes: int = 1000,
        in_chs: int = 3,
        drop_rate: float = 0.0,
        drop_path: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_rate("drop_rate", drop_rate)
        check_rate("drop_path", drop_path)
        if not isinstance(bounds, Sequence) or not bounds or not all(isinstance(arch, Arch) for arch in bounds):
            raise ArchError(f"`bounds` must be one Arch or more, such as a space's `bounds`, but got {bounds!r:.80}")
        self.num_classes, self.in_chs = num_classes, in_chs
        self.drop_rate, self.drop_path = drop_rate, drop_path
        self._nets: OrderedDict[tuple[Arch, bool], ParameterlessNet] = OrderedDict()
        self._table: dict[str, Tensor] | None = None
        for name, shape in _largest(self._new_parameterless(arch).shapes for arch in bounds).items():
            if name.endswith(BUFFERS):
                _register(self, name, torch.full(shape, 1.0 if name.endswith("var") else 0.0))
            else:
                _register(self, name, nn.Parameter(torch.empty(shape)))
        initialise(self.named_parameters(), generator)

    def forward(self, x: Tensor, arch: Arch, regularise: bool = False) -> Tensor:
        """Images [B, in_chs, H, W] through the sub-network `arch` -> logits [B, num_classes]

        Raises:
            ArchError: the architecture reaches beyond the supernet's bounds.
        """
        net = self._parameterless(arch, regularise)
        shapes = net.learned if self.training else net.shapes
        return net.run(self._slices(arch, shapes), x, self.training)

    def slice(self, arch: Arch) -> dict[str, Tensor]:
        """The parts of the shared tensors that make up `arch`, under `GhostNet`'s names: views, but for those that are
        scaled. Gradients flow through them.

        Raises:
            ArchError: the architecture reaches beyond the supernet's bounds.
        """
        return self._slices(arch, self._parameterless(arch, False).shapes)

    def extract(self, arch: Arch) -> GhostNet:
        """A standalone copy of the sub-network `arch`, on the supernet's device and in its dtype.

        Raises:
            ArchError: the architecture reaches beyond the supernet's bounds.
        """
        with torch.device("meta"):
            net = GhostNet(arch, self.num_classes, self.in_chs)
        slices = self._slices(arch, _shapes(net))
        shared = {_memory(tensor) for tensor in self._tensors().values()}
        own = {name: part.detach() for name, part in slices.items()}
        own |= {name: part.clone() for name, part in own.items() if _memory(part) in shared}  # scaled ones are copies
        device = own["conv_stem.weight"].device
        for name, (held, leaf) in _parameter_slots(net).items():  # `load_state_dict` would take as long as all the rest
            if name not in own:  # the norms' step counters, which the supernet doesn't keep
                held[leaf] = torch.zeros_like(held[leaf], device=device)
            else:
                held[leaf] = nn.Parameter(own[name]) if isinstance(held[leaf], nn.Parameter) else own[name]
        return net.train(self.training)

    def _slices(self, arch: Arch, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
        table = self._tensors()
        try:
            parts = self._parts(arch, {name: table[name] for name in shapes}, shapes)
        except (KeyError, ArchError) as error:
            raise ArchError(f"architecture {arch.id} is outside the supernet's bounds: {error}") from None
        return dict(zip(shapes, parts, strict=True))

    def _parts(self, arch: Arch, tensors: dict[str, Tensor], shapes: dict[str, torch.Size]) -> Iterable[Tensor]:
        """How weights are shared: the part of each shared tensor that is the sub-network's."""
        scales = (scale(name, tensor, shapes[name]) for name, tensor in tensors.items())
        return _Slices.apply(tuple(shapes.values()), tuple(scales), *tensors.values())

    def _tensors(self) -> dict[str, Tensor]:
        """Every shared tensor by name; looked up once, and again after `.to()` replaced a tensor."""
        if self._table is None:
            self._table = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return self._table

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        self._table = None  # `assign=True` replaces tensors
        return super().load_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_table": None}  # a copy has tensors of its own

    def _apply(self, fn, recurse: bool = True):
        self._table = None
        return super()._apply(fn, recurse)

    def _parameterless(self, arch: Arch, regularise: bool) -> ParameterlessNet:
        key = (arch, regularise)
        if key not in self._nets:
            self._nets[key] = self._new_parameterless(arch, regularise)
            if len(self._nets) > CACHED_NETS:
                self._nets.popitem(last=False)
        self._nets.move_to_end(key)
        return self._nets[key]

    def _new_parameterless(self, arch: Arch, regularise: bool = False) -> ParameterlessNet:
        rates = (self.drop_rate, self.drop_path) if regularise else (0.0, 0.0)
        with torch.device("meta"):
            net = GhostNet(arch, self.num_classes, self.in_chs, *rates)
        return ParameterlessNet(net)


class _Slices(torch.autograd.Function):
    """`leading_slice` times `scale` of many tensors as one node of the graph: a node for each would cost a tenth of a
    step."""

    @staticmethod
    def forward(
        ctx: Any, shapes: tuple[torch.Size, ...], scales: tuple[float, ...], *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.shapes, ctx.scales, ctx.whole = shapes, scales, [tensor.shape for tensor in tensors]
        ctx.set_materialize_grads(False)
        parts = tuple(
            part if times == 1 else part * times
            for part, times in zip(map(leading_slice, tensors, shapes), scales, strict=True)
        )
        buffers = [part for part, needed in zip(parts, ctx.needs_input_grad[2:], strict=True) if not needed]
        ctx.mark_non_differentiable(*buffers)
        return parts

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        padded: list[Tensor | None] = [None, None]
        for gradient, shape, times, whole in zip(gradients, ctx.shapes, ctx.scales, ctx.whole, strict=True):
            if gradient is not None and shape != whole:
                gradient = gradient if times == 1 else gradient * times
                gradient = torch.constant_pad_nd(gradient, margins(shape, whole))
            padded.append(gradient)
        return tuple(padded)


def leading_slice(tensor: Tensor, shape: torch.Size) -> Tensor:
    """The leading channels and the central taps of `tensor`: a view of the given shape.

    Raises:
        ArchError: the shape doesn't fit.
    """
    if tensor.shape == shape:
        return tensor
    view = tensor
    for dim, (have, want) in enumerate(zip(tensor.shape, shape, strict=True)):
        if want > have:
            raise ArchError(f"a tensor of shape {tuple(shape)} where the largest is {tuple(tensor.shape)}")
        if want < have:
            view = view.narrow(dim, (have - want) // 2 if dim >= 2 else 0, want)
    return view


def margins(shape: torch.Size, whole: torch.Size) -> list[int]:
    """The padding around a `leading_slice` of that shape, before and after it in each dimension, the last one first."""
    around = []
    for dim in reversed(range(len(shape))):
        missing = whole[dim] - shape[dim]
        before = missing // 2 if dim >= 2 else 0
        around += [before, missing - before]
    return around


def scale(name: str, tensor: Tensor, shape: torch.Size) -> float:
    """The factor for a slice of `shape` of the tensor of that name, so that its sums are as large as the whole
    one's."""
    return tensor.shape[1] / shape[1] if name.endswith(UNNORMED) else 1.0


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _parameter_slots(net: nn.Module) -> dict[str, tuple[dict[str, Any], str]]:
    """Where a network keeps each of its tensors: the module's dictionary, and the name there."""
    return {
        f"{path}.{leaf}".removeprefix("."): (held, leaf)
        for path, module in net.named_modules()
        for held in (module._parameters, module._buffers)
        for leaf, tensor in held.items()
        if tensor is not None
    }


def _shapes(net: GhostNet) -> dict[str, torch.Size]:
    """Shapes of all that is shared: every parameter, and the norms' statistics."""
    buffers = ((name, tensor) for name, tensor in net.named_buffers() if name.endswith(BUFFERS))
    return {name: tensor.shape for name, tensor in (*net.named_parameters(), *buffers)}


def _largest(tables: Iterable[dict[str, torch.Size]]) -> dict[str, torch.Size]:
    largest: dict[str, torch.Size] = {}
    for shapes in tables:
        for name, shape in shapes.items():
            largest[name] = torch.Size(map(max, largest.get(name, shape), shape))
    return largest


def _register(root: nn.Module, name: str, tensor: Tensor) -> None:
    """Puts a tensor at a dotted name, so that the supernet's state has `GhostNet`'s names."""
    *path, leaf = name.split(".")
    for part in path:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root._modules[part]  # type: ignore[assignment]
    if isinstance(tensor, nn.Parameter):
        root.register_parameter(leaf, tensor)
    else:
        root.register_buffer(leaf, tensor)
