"""Exports a network, and verifies an export."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import search as api
from search.commands.shared import ARCH, Json, Out, check_output, print_result
from search.errors import UserError
from search.export.formats import FORMATS
from search.terminal import say, show_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from search.data.datasets import Data
    from search.export.manifest import ExportedFile
    from search.export.proof import Agreement


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
    from search.export.formats import check_formats, needs_images
    from search.records import record_json
    from spaces.find import find_arch

    network, formats = find_arch(arch), [name.strip() for name in to.split(",")]
    check_formats(formats)
    if not weights.exists():
        raise UserError(f"no file {weights}")
    if data:
        sources.check_data_name(data)
    check_output(out, None, "manifest.json")
    loaded = _images(data, weights, network.resolution, must=data is not None or needs_images(formats) is not None)
    manifest = api.export_network(arch, out, formats, weights=weights, data=loaded, timed=latency)
    if not as_json:
        show_files(manifest.files)
    print_result(record_json(manifest), f"{', '.join(manifest.files)}: {out}", as_json)


def verify(
    folder: Annotated[Path, typer.Argument(help="An export's folder.")],
    as_json: Json = False,
) -> None:
    """Check an export again, here: every file there, unchanged, with the outputs and multiply-adds it should have."""
    from search.export.manifest import read_manifest

    recorded = read_manifest(folder).files  # what is no export is told before anything is loaded
    found = api.verify_export(folder)
    lines = "; ".join(f"{name} {_outputs(recorded[name].format, file)}" for name, file in found.files.items())
    message = f"{folder} is what its manifest says: {lines or 'no file that runs'}"
    for name, reason in found.not_run.items():
        message += f"\n{name} is unchanged, but was not run: {reason}"
    result = asdict(found)
    print_result({"verified": result["files"], "not_run": result["not_run"]}, message, as_json)


def _outputs(kind: str | None, file: "Agreement | ExportedFile") -> str:
    """How near a file's outputs are to the network's; a quantised one's are judged by their top-1 class."""
    from search.export.formats import get

    if kind and get(kind).EXACT:
        return f"differs by {file.largest_difference or 0.0:.2g}"
    return f"has the same top-1 class on {file.top1_agreement or 0.0:.1%} of the images"


def show_files(files: "Mapping[str, ExportedFile]") -> None:
    """A row for each file that runs."""
    from search.export.formats import get

    rows = []
    for name, file in files.items():
        if file.format is not None:
            size = sum(files[part].bytes or 0 for part in get(file.format).FILES)
            of = file.accuracy
            change = f"{of.before:.2%} to {of.after:.2%} of {of.images} images" if of else ""
            ms = "" if file.latency_ms is None else f"{file.latency_ms:.3f}"
            rows.append([name, f"{size:,}", _outputs(file.format, file), change, ms])
    if rows:
        show_table(["file", "bytes", "outputs", "accuracy", "ms here"], rows)
    for split in {file.accuracy.split: None for file in files.values() if file.accuracy}:
        say(f"Accuracies before and after are of the {split}.")
    for name, file in files.items():
        if file.run_with is not None:
            say(f"{name} was compared as {file.run_with} runs it")


def _images(name: str | None, weights: Path, resolution: int, must: bool) -> "Data | None":
    """The data set of that name, or what the network was trained on, loaded as for its training, also where that is
    known of an earlier export; None where it can't be had and must not."""
    from search.data import names as sources
    from search.export.manifest import known_metadata

    known = known_metadata(weights.parent, weights)
    name, resolution = name or known.data, known.loaded_at or resolution
    if name is None:
        return None
    try:
        sources.check_data_name(name)
        return api.load_data(name, resolution)
    except UserError as error:
        if must:
            raise
        say(f"no real images: {error}")
        return None
