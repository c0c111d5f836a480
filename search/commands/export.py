"""A network's export with proof, and proof again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from search.commands.shared import (
    ARCH,
    Json,
    Out,
    answer,
    find_arch,
    fresh,
)
from search.errors import UserError
from search.export.formats import FORMATS, check_formats
from search.terminal import say

if TYPE_CHECKING:
    from torch import Tensor

    from ghostnet.network import GhostNet
    from search.export.export import HeldOut, Timer

TIMING_SECONDS = 20.0  # that timing goes on looking for calm moments
REAL_IMAGES = 64  # that every exported file is tried on


def export(
    arch: Annotated[str, typer.Argument(help=ARCH)],
    weights: Annotated[Path, typer.Option("--weights", help="A .safetensors or .pth file.")],
    to: Annotated[str, typer.Option("--to", help=f"{', '.join(FORMATS)}; several with commas.")] = "onnx,safetensors",
    data: Annotated[
        str | None, typer.Option("--data", help="Of real images (default: what the network was trained on).")
    ] = None,
    latency: Annotated[bool, typer.Option("--latency/--no-latency", help="Time every file on this machine.")] = True,
    out: Out = Path("results/exported"),
    as_json: Json = False,
) -> None:
    """Export a trained network, each file proven to give the network's outputs.

    `ghostnas export verify FOLDER` proves an export again, here or on another machine.
    """
    from search.data import names as sources

    network, formats = find_arch(arch), [name.strip() for name in to.split(",")]
    check_formats(formats)
    if not weights.exists():
        raise UserError(f"no file {weights}")
    if data:
        sources.check(data)
    fresh(out, False, "manifest.json")
    from ghostnet.weights import network as load_network
    from ghostnet.weights import read as read_weights
    from search.export.export import export as write_network

    net = load_network(network, weights)
    if (said := read_weights(weights)[1].get("arch", network.id)) != network.id:  # equal shapes, another stride or size
        raise UserError(f"{weights} has the weights of architecture {said}, not of {network.id}")
    facts = _known(Path(arch), weights)
    held_out = _held_out(net, data or facts.get("data"), must=data is not None or "onnx-int8" in formats)
    images = held_out.images[:REAL_IMAGES] if held_out else _no_images(net)
    timer = _timer(net) if latency else None
    manifest = write_network(net, out, formats, images, facts, held_out=held_out, timer=timer)
    answer(manifest, f"{', '.join(manifest['files'])}: {out}", as_json)


def verify(
    folder: Annotated[Path, typer.Argument(help="An export's folder.")],
    as_json: Json = False,
) -> None:
    """Check an export again, here: every file there, unchanged, with the outputs and multiply-adds it should have."""
    from search.export.manifest import read_manifest

    read_manifest(folder)
    from search.export.verify import verify as check_again

    found = check_again(folder)
    words = "; ".join(f"{name} differs by {file['largest_difference']:.2g}" for name, file in found.items())
    answer({"verified": found}, f"{folder} is what its manifest says: {words or 'no file that runs'}", as_json)


def _known(arch: Path, weights: Path) -> dict[str, Any]:
    """What files beside the weights and the architecture say of the network, for the manifest."""
    facts: dict[str, Any] = {}
    card, before = weights.with_name("trained.json"), arch / "manifest.json"
    if before.exists():  # the architecture comes from an export of a run
        from search.export.manifest import read_manifest

        facts |= {key: value for key, value in read_manifest(arch).items() if key in ("space", "space_id")}
    if card.exists():
        from search.training.records import read_trained

        trained = read_trained(card)
        accuracy = {"test": trained.test_accuracy, "test_images": trained.test_images}
        facts |= {"accuracy": accuracy, **trained.about()}
    return facts


def _held_out(net: "GhostNet", name: str | None, must: bool) -> "HeldOut | None":
    """Calibration and search images of a data set; None where it can't be had and must not."""
    from search.data import names as sources
    from search.data.datasets import load as load_data
    from search.data.datasets import resized
    from search.export.export import HeldOut

    if name is None:
        if must:
            raise UserError("onnx-int8 is fitted to calibration images: --data names the data set that they come from")
        return None
    try:
        sources.check(name)
        loaded = load_data(name, net.arch.resolution)
    except UserError as error:
        if must:
            raise
        say(f"no real images: {error}")
        return None
    if (loaded.in_chs, loaded.num_classes) != (net.in_chs, net.num_classes):
        raise UserError(
            f"{name} has {loaded.in_chs} channels and {loaded.num_classes} classes, the network {net.in_chs} and "
            f"{net.num_classes}"
        )
    ready = [
        resized(loaded.normalise(split.images), net.arch.resolution) for split in (loaded.calibration, loaded.search)
    ]
    return HeldOut(calibration=ready[0], images=ready[1], labels=loaded.search.labels, name=f"search split of {name}")


def _no_images(net: "GhostNet") -> "Tensor":
    import torch

    return torch.empty(0, net.in_chs, net.arch.resolution, net.arch.resolution)


def _timer(net: "GhostNet") -> "Timer":
    """Times sessions side by side on one thread, an image at a time."""
    from search.latency.measure import measure_sessions
    from search.latency.runtimes import CpuSession, runtime

    shape = (net.in_chs, net.arch.resolution, net.arch.resolution)
    return lambda sessions: measure_sessions(
        runtime("onnxruntime", 1),
        {name: (CpuSession(session), shape) for name, session in sessions.items()},
        seconds=TIMING_SECONDS,
    )
