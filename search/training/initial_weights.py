"""Initial weights of a training: from a supernet, or from a network that was trained before."""

from pathlib import Path

from ghostnet.arch import Arch
from ghostnet.files import WEIGHTS_FILE, weights_file
from ghostnet.network import GhostNet
from ghostnet.parent import load_parent
from search.data.datasets import Data
from search.errors import UserError
from search.training.inherited import inherited_accuracy
from search.training.known_images import known_images, other_classes
from search.training.metadata import read_metadata
from search.training.records import SUPERNET_FILE
from spaces.errors import SpaceError


def inherit(net: GhostNet, arch: Arch, source: Path, data: Data) -> None:
    """Fills `net`, in place, from a folder with a finished supernet, its norms recalibrated; or from a trained
    network's folder or checkpoint. Of a network of other classes the classifier is not taken.

    Raises:
        UserError: there is neither, or the supernet is of another space or data.
        WeightsError: the weights are of another architecture.
    """
    if (source / SUPERNET_FILE).exists():
        inherited = inherited_accuracy(source, data)
        try:
            read_metadata(source)[1].encode(arch)
        except SpaceError as error:
            raise UserError(f"the supernet in {source} has no architecture {arch.id}: {error}") from None
        net.load_state_dict(inherited.network(arch).state_dict())
    elif source.is_file() or weights_file(source).exists():
        known = load_parent(source, arch=arch, in_chs=net.in_chs)
        state = known.state_dict()
        if known.num_classes != net.num_classes or other_classes(known_images(source), data):
            state |= {f"classifier.{name}": value for name, value in net.classifier.state_dict().items()}
        net.load_state_dict(state)
    else:
        raise UserError(f"{source} has no weights to begin with: neither {SUPERNET_FILE} nor {WEIGHTS_FILE}")
