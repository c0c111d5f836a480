"""An experiment, and how it was before: nothing is scaled where no norm follows."""

from collections.abc import Iterable

import torch
from per_ratio import PerRatioSupernet
from torch import Tensor

from ghostnet.arch import Arch
from ghostnet.supernet import Supernet, leading_slice


class UnscaledSupernet(Supernet):
    """A supernet whose slices are all plain corners."""

    def _parts(self, arch: Arch, tensors: dict[str, Tensor], shapes: dict[str, torch.Size]) -> Iterable[Tensor]:
        return [leading_slice(tensors[name], shape) for name, shape in shapes.items()]


class UnscaledPerRatioSupernet(UnscaledSupernet, PerRatioSupernet):
    """Plain corners, and Ghost modules with weights of their own for each ratio."""
