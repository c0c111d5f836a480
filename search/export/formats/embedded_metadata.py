"""What ONNX and LiteRT files say of their network, beside the manifest."""

from search.export.formats import Source

# Names in the files, and the manifest's fields that have their values.
LABELS = {"labels": "classes", "mean": "mean", "std": "std", "space": "space_id"}


def labels_and_pixels(source: Source) -> dict[str, object]:
    """What a program needs that shows pictures to the network, for a file that is sent alone: the names of its outputs,
    how pixels from 0 to 1 are normalised, the input's size; and which network it is. What is not known is left out."""
    net, manifest = source.net, source.manifest
    known = {name: value for name, field in LABELS.items() if (value := getattr(manifest, field)) is not None}
    side = net.arch.resolution
    return {**known, "input": [net.in_chs, side, side], "arch": net.arch.id, "producer": "ghostnas"}
