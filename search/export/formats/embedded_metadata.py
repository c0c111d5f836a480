"""What ONNX and LiteRT files say of their network, beside the manifest."""

from pathlib import Path

import onnx

from search.export.consistency import EMBEDDED
from search.export.formats import Source


def labels_and_pixels(source: Source) -> dict[str, object]:
    """What a program needs that shows pictures to the network, for a file that is sent alone: the names of its outputs,
    how pixels from 0 to 1 are normalised, the input's size; and which network it is. What is not known is left out."""
    net, manifest = source.net, source.manifest
    known = {name: value for name, field in EMBEDDED.items() if (value := getattr(manifest, field)) is not None}
    side = net.arch.resolution
    return {**known, "input": [net.in_chs, side, side], "producer": "ghostnas"}


def embedded_in(file: Path) -> dict[str, str]:
    """What an ONNX file says of its network; nothing of a file of another format."""
    if file.suffix != ".onnx":
        return {}
    return {entry.key: entry.value for entry in onnx.load(file, load_external_data=False).metadata_props}
