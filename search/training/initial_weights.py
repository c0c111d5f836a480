"""Weights to begin with: a supernet's slice, or a network's that was trained before."""

from pathlib import Path

from ghostnet.arch import Arch
from ghostnet.network import GhostNet
from search.data.datasets import Data
from search.errors import UserError
from search.training.metadata import CARD, read_card
from spaces.errors import SpaceError


def inherit(net: GhostNet, arch: Arch, folder: Path, data: Data) -> None:
    """Fills `net`, in place, from a folder with a finished supernet, its norms recalibrated, or with
    `weights.safetensors`.

    Raises:
        UserError: the folder has neither, or what it has is of another architecture, space or data.
        WeightsError: the weights are of another architecture.
    """
    from ghostnet.weights import load
    from search.training.inherited import inherited_accuracy

    if (folder / CARD).exists():
        inherited = inherited_accuracy(folder, data)
        try:
            read_card(folder)[1].encode(arch)
        except SpaceError as error:
            raise UserError(f"the supernet in {folder} has no architecture {arch.id}: {error}") from None
        net.load_state_dict(inherited.network(arch).state_dict())
    elif (folder / "weights.safetensors").exists():
        load(net, folder / "weights.safetensors")
    else:
        raise UserError(f"{folder} has no weights to begin with: neither {CARD} nor weights.safetensors")
