"""Checks an export's folder again, on this machine or another: every file there, unchanged, and still the network. What
needs a package that is not here is not run, and said so."""

import hashlib
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from ghostnet.arch import Arch, ArchError
from ghostnet.cost import cost
from ghostnet.files import ARCH_FILE
from search.errors import UserError
from search.export import formats as known
from search.export.agreement import drift
from search.export.consistency import contradiction, embedded_difference
from search.export.formats import check_installed, check_names, in_one_line
from search.export.formats.embedded_metadata import embedded_in
from search.export.manifest import MANIFEST, ExportedFile, Manifest, read_manifest
from search.export.proof import Agreement, Proof
from search.files import read_bytes, write_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedFile(Agreement):
    """How far a file's outputs are from the network's, here, and the file's SHA-256."""

    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found of an export whose files are all there and unchanged.

    Args:
        files: what was run and is the network, by file.
        not_run: why a file could not be run here, by file.
    """

    files: dict[str, VerifiedFile]
    not_run: dict[str, str]


def verify(folder: Path) -> Verification:
    """Runs and counts every file of an export that can be run here; the differences and agreements found.

    The folder may come from anybody. Each file that the manifest lists is read once; what has the right fingerprint is
    copied to a folder of our own, and only there anything is loaded: no file that isn't listed can be reached.

    Raises:
        UserError: no export, a file that is missing or changed, other outputs or multiply-adds than it should have; or
            none of them can be run here.
        ArchError: its architecture can't be read.
    """
    manifest = read_manifest(folder)
    with tempfile.TemporaryDirectory(prefix="ghostnas-verify-") as scratch:
        for name, recorded in manifest.files.items():
            copy_listed(folder, name, recorded, Path(scratch))
        return _verify(Path(scratch), folder, manifest)


def copy_listed(folder: Path, name: str, recorded: ExportedFile, to: Path) -> None:
    """Copies a file that a manifest lists.

    Raises:
        UserError: it is missing, or was changed, or is larger or smaller than it should be.
    """
    if not (folder / name).is_file():
        raise UserError(f"{folder / name} is missing: {MANIFEST} lists it")
    content = read_bytes(folder / name)
    if (actual := hashlib.sha256(content).hexdigest()) != recorded.sha256:
        raise UserError(f"{folder / name} was changed: its SHA-256 is {actual}, not {recorded.sha256}")
    if recorded.bytes not in (None, len(content)):
        raise UserError(f"{folder / name} has {len(content):,} bytes, but {MANIFEST} says {recorded.bytes:,}")
    write_bytes(to / name, content)


def _verify(copied: Path, folder: Path, manifest: Manifest) -> Verification:
    arch = Arch.load(copied / ARCH_FILE)
    if arch.id != manifest.arch:
        raise UserError(f"{folder / ARCH_FILE} is architecture {arch.id}, but {MANIFEST} says {manifest.arch}")
    total = cost(arch, manifest.num_classes, manifest.in_chs)
    for said, is_so, unit in (
        (manifest.macs, total.macs, "multiply-adds"),
        (manifest.params, total.params, "parameters"),
        (manifest.resolution, arch.resolution, "pixels a side"),
        *((file.macs, total.macs, f"multiply-adds of {name}") for name, file in manifest.files.items()),
    ):
        if said not in (None, is_so):
            raise UserError(f"{MANIFEST} says {said:,} {unit}, but {arch.id} has {is_so:,}")
    about = manifest.model_dump(mode="json")
    if wrong := contradiction(about):
        raise UserError(f"{MANIFEST}: {wrong}")
    mains = {name: recorded for name, recorded in manifest.files.items() if recorded.format is not None}
    check_names([recorded.format or "" for recorded in mains.values()])
    if not mains:
        raise UserError(f"{MANIFEST} lists no file that runs: nothing can be said of {folder}")
    proof = Proof.load(copied, manifest.in_chs, arch.resolution)
    files: dict[str, VerifiedFile] = {}
    not_run: dict[str, str] = {}
    for name, recorded in mains.items():
        try:
            check_installed(recorded.format or "")
        except UserError as error:
            not_run[name] = str(error)
        else:
            files[name] = _verify_file(copied, name, recorded, proof, total.macs)
            if wrong := embedded_difference(embedded_in(copied / name), about):
                raise UserError(f"{name} {wrong}")
    if not_run and not files:
        raise UserError(f"nothing of {folder} can be run here: {'; '.join(dict.fromkeys(not_run.values()))}")
    return Verification(files=files, not_run=not_run)


def _verify_file(folder: Path, name: str, recorded: ExportedFile, proof: Proof, macs: int) -> VerifiedFile:
    kind = known.get(recorded.format or "")
    if kind.FILES[0] != name:
        raise UserError(f"{MANIFEST} says that {name} is {recorded.format}, which is {kind.FILES[0]}")
    try:
        with in_one_line(f"{name} can't be run as {recorded.format}"):
            agreement = proof.try_format(kind, folder, macs).agreement
    except (UserError, ArchError) as error:
        raise UserError(str(error).replace(f"{folder}/", "")) from None
    if not kind.EXACT and (drifted := drift(agreement.top1_agreement, recorded.top1_agreement or 0.0)):
        raise UserError(f"{name} {drifted}")
    return VerifiedFile(sha256=recorded.sha256, **asdict(agreement))
