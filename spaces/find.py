"""An architecture by what a user calls it."""

import re
from dataclasses import replace
from pathlib import Path

from ghostnet.arch import Arch, ArchError
from ghostnet.files import ARCH_FILE
from ghostnet.published import PUBLISHED, published
from spaces.custom import load_space
from spaces.space import Space

WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt", ".tar")


def find_arch(name: str | Path) -> Arch:
    """An architecture by file, folder, published name, or a space's own family: `cifar:0.75x` is its GhostNet of that
    width, with the space's stem, strides and resolution.

    Raises:
        ArchError: there is none, or a file holds something else; or no name at all.
        SpaceError: no such space.
        OSError: no such file.
    """
    if name == "":  # which `Path` takes for the working directory
        raise ArchError("an architecture is a file, a folder with an arch.json, or a name such as ghostnet-1.0, not ''")
    path = Path(name)
    if (path / ARCH_FILE).exists():
        return Arch.load(path / ARCH_FILE)
    if path.suffix in WEIGHTS_SUFFIXES and path.is_file():
        raise ArchError(
            f"an architecture is read from an arch.json or named, such as ghostnet-1.0, not {path}: weights"
        )
    if path.suffix == ".json" or path.is_file():
        return Arch.load(path)
    if space := find_space(name):  # a folder that holds no architecture hides no name
        return space.uniform(space.widths[0])
    if path.exists() and not PUBLISHED.fullmatch(str(name)):
        return Arch.load(path / ARCH_FILE if path.is_dir() else path)
    if len(path.parts) > 1:  # no name has a slash
        raise ArchError(f"no file or folder {name!s:.200}, which an architecture is read from")
    return published(str(name))


def find_space(name: str | Path) -> Space | None:
    """The space that has a family's network of such a name alone, as `cifar:0.75x`; None of any other name.

    Raises:
        SpaceError: no such space.
    """
    scaled = re.fullmatch(r"(.+):([0-9]+(?:\.[0-9]+)?)x", str(name))
    return replace(load_space(scaled[1]), widths=(float(scaled[2]),)) if scaled and not Path(name).is_file() else None
