"""Weights to begin with: a supernet's slice, or a network's that was trained before."""

from pathlib import Path

from ghostnet.arch import Arch
from ghostnet.network import GhostNet
from search.data.datasets import Data
from search.errors import UserError
from spaces.errors import SpaceError


def inherit(net: GhostNet, arch: Arch, folder: Path, data: Data) -> None:
    """Fills `net`, in place, from a folder with a finished supernet, its norms recalibrated, or with
    `weights.safetensors`.

    Raises:
        UserError: the folder has neither, or what it has is of another architecture, space or data.
        WeightsError: the weights are of another architecture.
    """
    from ghostnet.weights import load
    from search.training import supernet as sandwich

    if (folder / sandwich.CARD).exists():
        _, space = sandwich.read_card(folder)
        if (space.num_classes, space.in_chs) != (data.num_classes, data.in_chs):
            raise UserError(
                f"the supernet in {folder} has {space.num_classes} classes and {space.in_chs} channels, the data "
                f"{data.num_classes} and {data.in_chs}"
            )
        try:
            space.encode(arch)
        except SpaceError as error:
            raise UserError(f"the supernet in {folder} has no architecture {arch.id}: {error}") from None
        found = sandwich.load_inherited(folder, data).network(arch)
        net.load_state_dict(found.state_dict())
    elif (folder / "weights.safetensors").exists():
        load(net, folder / "weights.safetensors")
    else:
        raise UserError(f"{folder} has no weights to begin with: neither {sandwich.CARD} nor weights.safetensors")
