"""Exports a trained network and proves that each file is that network.

Every file is run on the same random and real images as the PyTorch network in float64, and its multiply-adds are
counted on its own graph; a difference beyond what float32 explains is an error, and nothing is written. What was found
goes into `manifest.json`, with the SHA-256 of each file. `search.export.verify` checks a folder again.
"""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ghostnet.arch import ArchError
from ghostnet.cost import cost
from ghostnet.files import ARCH_FILE
from ghostnet.network import GhostNet
from search.errors import UserError
from search.export import formats as known
from search.export import proof as proving
from search.export.agreement import RANDOM_IMAGES, SEED, TOLERANCE
from search.export.formats import Session, Source, check_formats, in_one_line, needs_images
from search.export.manifest import (
    MANIFEST,
    SCHEMA,
    ExportedFile,
    Machine,
    Manifest,
    NetworkMetadata,
    ProofSummary,
    QuantisedAccuracy,
)
from search.export.proof import Proof
from search.files import write_text
from search.folders import filled_folder, locked
from search.graphs.onnx_builder import OPSET
from search.latency.timing.device import this_device
from search.progress import best_effort
from search.records import write_record
from search.single_file import single_file

VERIFIER = "verify.py"  # a script of these modules, which travels with the files
PARTS = ("agreement", "consistency", "standalone")
NEEDS = "numpy, and onnxruntime or ai-edge-litert"
Timer = Callable[[Mapping[str, Session]], dict[str, float]]  # sessions by name -> milliseconds an image


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Images that were not trained on, for formats that are not exact.

    Args:
        calibration: normalised images [N, C, H, W] that a quantisation is fitted to.
        images, labels: [M, C, H, W] and [M], on which accuracy before and after is measured.
        name: what they are.
    """

    calibration: Tensor
    images: Tensor
    labels: Tensor
    name: str


def export(
    net: GhostNet,
    out: Path,
    formats: Sequence[str],
    images: Tensor,
    metadata: NetworkMetadata | None = None,
    *,
    held_out: HeldOut | None = None,
    timer: Timer | None = None,
) -> Manifest:
    """Writes `net` to the folder `out` in each of the formats, with `arch.json`, `proof.safetensors`, `verify.py` and
    `manifest.json`.

    Args:
        formats: such as onnx, pt2, litert, onnx-int8 or hub; `FORMATS` has them all.
        images: real, normalised images [B, C, H, W] that every file is tried on, beside random ones.
        metadata: what is known of the network, for the manifest.
        timer: times what was written on this machine; None leaves latencies out, and the manifest says so.

    Raises:
        UserError: as `check_formats`; an int8 format without held-out images, a network that a format's tools refuse, a
            file that isn't the network, or another process at work in the folder.
    """
    check_formats(formats)
    if held_out is None and (fitted := needs_images(formats)):
        raise UserError(f"{fitted} is fitted to calibration images: --data names the data set that they come from")
    net = net.cpu().eval()
    proof = Proof.from_network(net, images.cpu().numpy())
    with locked(out), filled_folder(out, last=MANIFEST) as scratch:
        try:
            return _fill(scratch, net, formats, proof, metadata or NetworkMetadata(), held_out, timer)
        except (UserError, ArchError) as error:
            raise UserError(str(error).replace(f"{scratch}/", "")) from None


def _fill(
    folder: Path,
    net: GhostNet,
    formats: Sequence[str],
    proof: Proof,
    metadata: NetworkMetadata,
    held_out: HeldOut | None,
    timer: Timer | None,
) -> Manifest:
    write_text(folder / ARCH_FILE, net.arch.to_json())
    proof.save(folder)
    write_text(folder / VERIFIER, single_file(__package__, PARTS, "ghostnas export", NEEDS))
    manifest = _describe(net, proof, metadata)
    files = {name: ExportedFile.from_path(folder / name) for name in (ARCH_FILE, proving.FILE, VERIFIER)}
    calibration = held_out.calibration.numpy() if held_out else np.empty((0, *proof.images.shape[1:]), np.float32)
    waiting: dict[str, Session] = {}  # to be timed side by side
    for name in sorted(formats, key=lambda name: name == "hub"):  # last: its card tells of the others
        if name == "hub":
            files |= _timed(waiting, files, timer)
            waiting.clear()
        kind = known.get(name)
        so_far = manifest.model_copy(update={"files": files})
        source = Source(net=net, calibration=calibration, manifest=so_far)
        with in_one_line(f"the network can't be written as {name}", OSError):
            kind.write(source, folder)
        files |= {file: ExportedFile.from_path(folder / file) for file in kind.FILES}
        main = kind.FILES[0]
        with in_one_line(f"{main} can't be run as {name}", OSError):
            tried = proof.try_format(kind, folder, manifest.macs)
        waiting[main] = tried.session
        compared = {"format": name, **asdict(tried.agreement), "macs": tried.macs}
        if setting := getattr(kind, "RUN_WITH", None):
            compared["run_with"] = setting
        if not kind.EXACT and held_out:
            compared["accuracy"] = _before_and_after(net, tried.session, held_out)
        files[main] = files[main].model_copy(update=compared)
    files |= _timed(waiting, files, timer)
    packages = {package for name in formats for package in known.get(name).PACKAGES}
    manifest = manifest.model_copy(
        update={
            "files": files,
            "latency_measured": _describe_timing(metadata, any(file.latency_ms for file in files.values())),
            "versions": {"python": platform.python_version()} | versions({"torch"} | packages),
        }
    )
    write_record(folder / MANIFEST, manifest)
    return manifest


def _describe(net: GhostNet, proof: Proof, metadata: NetworkMetadata) -> Manifest:
    """A manifest that has no files yet."""
    total = cost(net.arch, net.num_classes, net.in_chs)
    known_of_it = {name: getattr(metadata, name) for name in metadata.model_fields_set}
    return Manifest(
        schema=SCHEMA,
        arch=net.arch.id,
        macs=total.macs,
        params=total.params,
        resolution=net.arch.resolution,
        num_classes=net.num_classes,
        in_chs=net.in_chs,
        **{"space_id": None} | known_of_it,
        onnx_opset=OPSET,
        tried_on=ProofSummary(
            random_images=RANDOM_IMAGES,
            random_seed=SEED,
            real_images=len(proof.images) - RANDOM_IMAGES,
            tolerance=TOLERANCE,
            float32_error=proof.float32_error,
            allowed_difference=proof.allowed,
        ),
        files={},
        machine=Machine(system=platform.platform(), processor=this_device()["cpu"]),
    )


def _timed(
    waiting: Mapping[str, Session], files: Mapping[str, ExportedFile], timer: Timer | None
) -> dict[str, ExportedFile]:
    """The waiting files with their latencies; these are None without a timer."""
    latencies: dict[str, float] = {}
    if timer and waiting:
        with best_effort("the latencies of the exported files"):
            latencies = timer(waiting)
    return {main: files[main].model_copy(update={"latency_ms": latencies.get(main)}) for main in waiting}


def _describe_timing(metadata: NetworkMetadata, here: bool) -> str:
    if here:
        return "each file on this machine, one thread, batch 1"
    if metadata.latency and metadata.latency.measured_ms is not None:
        return "the network on the searched-for device, see `latency`; the files were run, but not timed"
    return "no: the files were run, but not timed"


def versions(packages: set[str]) -> dict[str, str]:
    """Installed versions by package, of ours too."""
    installed = {}
    for package in ("ghostnas", *sorted(packages)):
        try:
            installed[package] = version(package)
        except PackageNotFoundError:  # run from a bare checkout
            continue
    return installed


@torch.no_grad()
def _before_and_after(net: GhostNet, session: Session, held_out: HeldOut) -> QuantisedAccuracy:
    right = [0, 0]
    for images, labels in zip(held_out.images.split(250), held_out.labels.split(250), strict=True):
        for k, outputs in enumerate((net(images), torch.from_numpy(session(images.numpy())))):
            right[k] += int((outputs.argmax(1) == labels).sum())
    count = len(held_out.labels)
    return QuantisedAccuracy(before=right[0] / count, after=right[1] / count, images=count, split=held_out.name)
