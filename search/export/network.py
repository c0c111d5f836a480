"""A trained network, by its architecture and its file of weights, as an export: what is known of it, tried on real
images, timed on this machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch

from ghostnet.arch import Arch
from ghostnet.network import GhostNet
from ghostnet.resize import resized
from ghostnet.weights import load_network, read_weights
from search.data.datasets import Data
from search.errors import UserError
from search.export.export import HeldOut, Timer, export
from search.export.formats import Session
from search.export.manifest import Manifest, NetworkMetadata
from search.latency.runtimes import CpuSession, runtime
from search.latency.runtimes.base import Session as TimedSession
from search.latency.time_networks import measure_sessions
from search.run_folder.source_run import last_part
from search.training.known_images import other_classes

TIMING_SECONDS = 20.0  # that timing goes on looking for quiet moments
REAL_IMAGES = 64  # that every exported file is tried on


def export_trained(
    arch: Arch,
    weights: Path,
    out: Path,
    formats: Sequence[str],
    metadata: NetworkMetadata,
    *,
    data: Data | None,
    timed: bool = True,
) -> Manifest:
    """Exports a network whose weights lie in a file, and returns the manifest.

    Args:
        metadata: what is known of it, for the manifest.
        data: of real images to try it on; None: random ones alone.
        timed: whether every file is timed on this machine.

    Raises:
        UserError: weights of another architecture, data of other classes or channels, or what `search.export.export`
            refuses.
    """
    net = load_network(arch, weights)
    if (arch_id := read_weights(weights)[1].get("arch", arch.id)) != arch.id:  # equal shapes, another stride or size
        raise UserError(f"{weights} has the weights of architecture {arch_id}, not of {arch.id}")
    held_out = held_out_of(net, data, metadata, _split_name(metadata, data)) if data else None
    images = held_out.images[:REAL_IMAGES] if held_out else torch.empty(0, *net.input_shape)
    times = timer(net) if timed else None
    return export(net, out, formats, images, metadata, held_out=held_out, timer=times)


def held_out_of(net: GhostNet, data: Data, metadata: NetworkMetadata, name: str) -> HeldOut:
    """A data set's calibration and search images as the network takes them: at its resolution, and normalised by the
    mean and std that it was trained with; by the data's where those are not known.

    Args:
        metadata: what is known of the network.
        name: what a manifest calls the search images.

    Raises:
        UserError: it has other classes or channels than the network.
    """
    if (data.in_chs, data.num_classes) != (net.in_chs, net.num_classes):
        raise UserError(
            f"{data.name} has {data.in_chs} channels and {data.num_classes} classes, the network {net.in_chs} and "
            f"{net.num_classes}"
        )
    if difference := other_classes(metadata, data):
        raise UserError(f"the network {difference}")
    data = data.normalised_as(metadata.mean, metadata.std)
    calibration, images = (
        resized(data.normalise(split.images), net.arch.resolution) for split in (data.calibration, data.search)
    )
    return HeldOut(calibration=calibration, images=images, labels=data.search.labels, name=name)


def _split_name(metadata: NetworkMetadata, data: Data) -> str:
    """Of the search images, which a network may have been trained on after the search."""
    seen = ", which it was trained on, too" if metadata.saw_search_images else ""
    return f"search split of {last_part(data.name)}{seen}"


def timer(net: GhostNet) -> Timer:
    """Times sessions side by side on one thread, an image at a time; as latency tables do where a session is a
    runtime's own, so without what its images and outputs are copied to."""
    return lambda sessions: measure_sessions(
        runtime("onnxruntime", 1),
        {name: (_timed(session), net.input_shape) for name, session in sessions.items()},
        seconds=TIMING_SECONDS,
    )


def _timed(session: Session) -> TimedSession:
    return cast(TimedSession, session) if hasattr(session, "timer") else CpuSession(session)
