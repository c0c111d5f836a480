"""Checks an export's folder again, on this machine or another: every file there, unchanged, and still the network."""

from pathlib import Path
from typing import Any

from ghostnet.arch import Arch
from ghostnet.cost import cost
from search.errors import UserError
from search.export import formats as known
from search.export.export import checked_macs, fingerprint
from search.export.formats import check_formats
from search.export.manifest import ARCH, MANIFEST, read_manifest
from search.export.proof import Proof

AGREEMENT = 0.05  # how far a quantised network's answers may be from what its manifest says, as a share of images


def verify(folder: Path) -> dict[str, Any]:
    """Runs and counts every file of an export; the differences and agreements found, by file.

    Raises:
        UserError: no export, a file that is missing or changed, other outputs or multiply-adds than it should have.
        ArchError: its architecture can't be read.
    """
    manifest = read_manifest(folder)
    files = manifest["files"]
    for name, said in files.items():
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing: {MANIFEST} lists it")
        found = fingerprint(folder / name)
        if found["sha256"] != said["sha256"]:
            raise UserError(f"{folder / name} was changed: its SHA-256 is {found['sha256']}, not {said['sha256']}")
    arch = Arch.load(folder / ARCH)
    if arch.id != manifest["arch"]:
        raise UserError(f"{folder / ARCH} is architecture {arch.id}, but {MANIFEST} says {manifest['arch']}")
    total = cost(arch, manifest["num_classes"], manifest["in_chs"])
    if total.macs != manifest["macs"]:
        raise UserError(f"{MANIFEST} says {manifest['macs']:,} multiply-adds, but {arch.id} has {total.macs:,}")
    mains = {name: said for name, said in files.items() if "format" in said}
    check_formats([said["format"] for said in mains.values()])
    proof = Proof.load(folder, manifest["in_chs"], arch.resolution)
    return {name: _again(folder, name, said, proof, total.macs) for name, said in mains.items()}


def _again(folder: Path, name: str, said: dict[str, Any], proof: Proof, macs: int) -> dict[str, Any]:
    kind = known.get(said["format"])
    if kind.FILES[0] != name:
        raise UserError(f"{MANIFEST} says that {name} is {said['format']}, which is {kind.FILES[0]}")
    found = proof.try_on(name, kind.load(folder)(proof.images), kind.EXACT)
    checked_macs(name, kind.macs(folder), macs)
    if not kind.EXACT and found["top1_agreement"] < said["top1_agreement"] - AGREEMENT:
        raise UserError(
            f"{name} keeps the network's answer on {found['top1_agreement']:.1%} of the images here, but on "
            f"{said['top1_agreement']:.1%} where it was exported"
        )
    return {"sha256": said["sha256"], **found}
