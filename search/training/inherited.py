"""The accuracy of a finished supernet's networks, of either kind: opened from its folder."""

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ghostnet.arch import Arch
from ghostnet.network import GhostNet
from ghostnet.transplant import Transplants
from ghostnet.transplant.settings import FitSettings
from ghostnet.weights import load_network
from search.data.datasets import Data
from search.data.transforms import Augment
from search.errors import UserError
from search.recipes.schema import Training
from search.training.distributed import best_device
from search.training.elastic import load_inherited
from search.training.evaluate import InheritedAccuracy
from search.training.known_images import known_images, other_classes
from search.training.metadata import (
    PARENT_ARCH,
    PARENT_WEIGHTS,
    read_fitting,
    read_metadata,
    supernet_config,
    supernet_id,
)
from search.training.records import check_unchanged

FITTING_SEED = 23  # of the images that layers are fitted on, and of their augmentation


def inherited_accuracy(folder: Path, data: Data) -> InheritedAccuracy:
    """Inherited accuracy of the networks of a finished supernet of either kind, on the CPU.

    Args:
        data: on whose images they are judged, and a transplanted supernet's networks are fitted.

    Raises:
        UserError: the folder holds none, or one of other classes or channels than the data's.
    """
    metadata, space = read_metadata(folder)
    if (space.num_classes, space.in_chs) != (data.num_classes, data.in_chs):
        raise UserError(
            f"the supernet in {folder} has {space.num_classes} classes and {space.in_chs} channels, the data "
            f"{data.num_classes} and {data.in_chs}"
        )
    if difference := other_classes(known_images(folder), data):
        raise UserError(f"the supernet in {folder} {difference}")
    if metadata.kind == "elastic":
        return load_inherited(folder, data)
    transplants = _transplants(folder.absolute(), supernet_id(folder), _Same(data))
    return InheritedAccuracy(transplants, data, supernet_config(metadata, Training))


class _Same:
    """A data set as a dictionary key that compares by object identity."""

    def __init__(self, data: Data) -> None:
        self.data = data

    def __hash__(self) -> int:
        return id(self.data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.data is self.data


@lru_cache(maxsize=1)
def _transplants(folder: Path, identity: str, data: _Same) -> Transplants:
    """The transplants, cached: what depends on the parent alone is computed once in a process."""
    return Transplants(*fit_inputs(folder, data.data))


def fit_inputs(folder: Path, data: Data, images: int | None = None) -> tuple[GhostNet, Tensor, FitSettings]:
    """What networks and units are fitted to, and how: the parent of the transplanted supernet in a folder, on the best
    device, training images, and the settings of the fit.

    Args:
        images: how many; as the supernet's networks are fitted where None.

    Raises:
        UserError: the folder holds none.
    """
    metadata, _ = read_metadata(folder)
    count = images or read_fitting(folder, metadata).images
    shown = fitting_images(data, count, supernet_config(metadata, Training))
    return read_parent(folder).to(best_device()), shown, FitSettings()


def read_parent(folder: Path) -> GhostNet:
    """The parent of the transplanted supernet in a folder, in evaluation mode.

    Raises:
        UserError: its weights were changed.
    """
    check_unchanged(folder / PARENT_WEIGHTS)
    return load_network(Arch.load(folder / PARENT_ARCH), folder / PARENT_WEIGHTS)


def fitting_images(data: Data, count: int, config: Training) -> Tensor:
    """Views of training images [count, C, H, W], cropped, shifted and mirrored as a training does, neither erased nor
    with RandAugment; always the same ones. Fewer images are viewed several times: the parent's answers need no labels,
    so that each view says something more of it."""
    rng = np.random.default_rng(FITTING_SEED)
    times = math.ceil(count / len(data.train))
    order = np.concatenate([rng.permutation(len(data.train)) for _ in range(times)])[:count]
    augment = Augment(data, config.model_copy(update={"rand_augment": "", "erasing": 0.0}))
    size = min(250, len(data.train))  # no image is twice in a batch of few, whose views of it would be the same
    batches = ((part, FITTING_SEED + k) for k, part in enumerate(torch.from_numpy(order).split(size)))
    return torch.cat([augment(images, seed) for images, _, seed in augment.split().stream(batches)])
