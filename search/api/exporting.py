"""Exports networks and verifies exports."""

from collections.abc import Sequence
from pathlib import Path

from ghostnet.arch import Arch
from ghostnet.files import weights_file
from search.api import Place
from search.data.datasets import Data
from search.errors import UserError
from search.export.formats import check_formats
from search.export.manifest import MANIFEST, Manifest, known_metadata, read_manifest
from search.export.network import export_trained
from search.export.verify import Verification, verify
from spaces.find import find_arch

__all__ = ["Manifest", "Verification", "export_network", "verify_export"]


def export_network(
    network: Arch | Place,
    out: Place,
    formats: Sequence[str] = ("onnx", "safetensors"),
    *,
    weights: Place | None = None,
    data: Data | None = None,
    timed: bool = True,
) -> Manifest:
    """Exports a trained network into the folder `out`; each file is proven to give the network's outputs.

    Args:
        network: a folder as full training leaves it; or an architecture, its file or name, with `weights`.
        formats: such as onnx, pt2, litert, onnx-int8 or hub; `search.export.formats.FORMATS` has them all.
        weights: a .safetensors or .pth file; None: `weights.safetensors` in the network's folder.
        data: of real images that each file is tried on, beside random ones, which None leaves alone; int8 formats are
            fitted to them.
        timed: whether every file is timed on this machine.

    Raises:
        UserError: an unknown format, a missing package, data of other classes, a file that isn't the network, or a
            folder with another network's export.
        ArchError: weights of another architecture.
    """
    formats = tuple(formats)
    check_formats(formats)
    if weights is None:
        if isinstance(network, Arch) or not Path(network).is_dir():
            raise UserError("`weights` must name a file, where the network is no folder that has them")
        weights = weights_file(Path(network))
    metadata = known_metadata(None if isinstance(network, Arch) else Path(network), Path(weights))
    arch = network if isinstance(network, Arch) else find_arch(network)
    if (Path(out) / MANIFEST).exists() and (there := read_manifest(Path(out)).arch) != arch.id:
        raise UserError(f"{out} holds the export of another network, {there}: `out` names another folder for {arch.id}")
    return export_trained(arch, Path(weights), Path(out), formats, metadata, data=data, timed=timed)


def verify_export(folder: Place) -> Verification:
    """Checks an export again, here: every file there, unchanged, with the outputs and multiply-adds it should have.

    Returns the differences and agreements found, by file, and why a file could not be run here.

    Raises:
        UserError: no export, a file that is missing or changed, or gives something else; or none can be run here.
    """
    return verify(Path(folder))
