"""The global generators of Python, numpy and torch, from which torchvision and timm draw.

They are seeded for every image or batch, so that what a training draws is the same in whichever process, and after a
kill; outside they stay as they were.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_generators(seed: int, device: torch.device | None = None) -> None:
    """Seeds the generators of Python and numpy, torch's of the host, and a GPU's if it is given."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    for generator in _generators(device):  # `torch.manual_seed` takes longer than a small image's crop
        generator.manual_seed(seed)


@contextmanager
def kept_generators(device: torch.device | None = None) -> Iterator[None]:
    """Whatever happens to the generators inside, outside they are untouched."""
    python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    states = [generator.get_state() for generator in _generators(device)]
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(of_numpy)  # noqa: NPY002
        for generator, state in zip(_generators(device), states, strict=True):
            generator.set_state(state)


@contextmanager
def temporary_seed(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """The generators seeded inside and untouched outside."""
    with kept_generators(device):
        seed_generators(seed, device)
        yield


def _generators(device: torch.device | None) -> list[torch.Generator]:
    if device is None or device.type != "cuda":
        return [torch.default_generator]
    torch.cuda.init()
    index = torch.cuda.current_device() if device.index is None else device.index
    return [torch.default_generator, torch.cuda.default_generators[index]]
