"""An experiment: weights of their own for each ghost ratio.

What a primary filter is for depends on s: under s = 2 its channel also feeds a ghost, under s = 1 it stands alone. Here
a Ghost module's weights, or its norms alone, are one set a ratio, shared over widths and cheap kernels as ever. Costs
memory, and a set is trained only when its ratio is drawn.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ghostnet.arch import Arch
from ghostnet.supernet import BUFFERS, Supernet, _register

NORMS = (".primary_conv.1.", ".cheap_operation.1.", ".bn_dw.")


class PerRatioSupernet(Supernet):
    """A set of each Ghost module's weights for each ratio."""

    def __init__(self, bounds: Sequence[Arch], *args: Any, **kwargs: Any) -> None:
        super().__init__(bounds, *args, **kwargs)
        ratios = sorted({block.ratio for arch in bounds for block in arch.blocks} | set(range(1, 5)))
        for name, tensor in list(self.named_parameters()):
            if self._is_split(name):
                ghosts = ".cheap_operation." in name  # which s = 1 has none of
                for ratio in ratios[1:] if ghosts else ratios:
                    fresh = tensor.detach().clone()
                    if tensor.ndim == 4:
                        fresh.normal_(0, float(tensor.detach().std()), generator=kwargs.get("generator"))
                    _register(self, f"{name}_s{ratio}", nn.Parameter(fresh))
        self._table = None

    def _is_split(self, name: str) -> bool:
        return ".ghost1." in name or ".ghost2." in name

    def _slices(self, arch: Arch, shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
        table, ratios = (
            self._tensors(),
            dict(zip(arch.block_names, (block.ratio for block in arch.blocks), strict=True)),
        )
        names = {
            name: f"{name}_s{ratios['.'.join(name.split('.')[:3])]}"
            if self._is_split(name) and not name.endswith(BUFFERS)
            else name
            for name in shapes
        }
        parts = self._parts(arch, {name: table[own] for name, own in names.items()}, shapes)
        return dict(zip(shapes, parts, strict=True))


class PerRatioNormSupernet(PerRatioSupernet):
    """A set of the norms' scales and shifts for each ratio; filters are shared."""

    def _is_split(self, name: str) -> bool:
        return any(part in name for part in NORMS)
