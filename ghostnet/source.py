"""What gives weights to every network of a space: `Supernet`, which shares them, and `Transplants`, which fits them."""

from typing import Protocol

from ghostnet.arch import Arch
from ghostnet.network import GhostNet


class WeightSource(Protocol):
    """A network with weights for any architecture of a space, on demand."""

    num_classes: int
    in_chs: int

    def extract(self, arch: Arch) -> GhostNet:
        """A standalone network of that architecture, on the source's device and in its dtype.

        Raises:
            ArchError: the source has no weights for it.
        """
        ...
