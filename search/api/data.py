"""Spaces, architectures and data sets."""

from ghostnet.arch import Arch, ArchError
from search.api import Place
from search.data.datasets import Data, load_data
from search.data.torch_dataset import from_datasets
from search.training.metadata import space_for
from spaces.custom import load_space as load_plain_space
from spaces.errors import SpaceError
from spaces.find import find_arch
from spaces.space import Space

__all__ = [
    "Arch",
    "ArchError",
    "Data",
    "Space",
    "SpaceError",
    "find_arch",
    "from_datasets",
    "load_data",
    "load_space",
]


def load_space(name: Place, data: Data | None = None) -> Space:
    """A space by its name (`digits`, `cifar`, `imagenet`, each also with `-plus` or `-aligned`) or from a .toml file.

    Args:
        data: whose classes and channels its networks shall have; None: the space's own.

    Raises:
        SpaceError: there is none, or the file breaks a rule.
    """
    space = load_plain_space(name)
    return space_for(space, data.num_classes, data.in_chs) if data else space
