"""Whether a manifest contradicts itself, or what a model's file says of its network. Plain Python: a part of the
`verify.py` that travels with an export, too."""

from __future__ import annotations

import json

# What ONNX and LiteRT files say of their network, and the manifest's field that has it.
EMBEDDED = {
    "labels": "classes",
    "mean": "mean",
    "std": "std",
    "interpolation": "interpolation",
    "crop_pct": "crop_pct",
    "loaded_at": "loaded_at",
    "space": "space_id",
    "arch": "arch",
}


def contradiction(manifest: dict) -> str | None:
    """Which field of a manifest has not as many values as the network has classes or channels; None where all have."""
    for field, of in (("classes", "num_classes"), ("mean", "in_chs"), ("std", "in_chs")):
        values = manifest.get(field)
        if values is not None and (not isinstance(values, list) or len(values) != manifest.get(of)):
            return f"`{field}` must have `{of}` values, {manifest.get(of)}, but has {str(values)[:80]}"
    return None


def embedded_difference(embedded: dict, manifest: dict) -> str | None:
    """What a model's metadata (text as it is, everything else as JSON) say otherwise than the manifest; None where they
    don't. What is not there says nothing."""
    side = manifest.get("resolution")
    expected = {name: manifest.get(field) for name, field in EMBEDDED.items()}
    expected["input"] = [manifest.get("in_chs"), side, side]
    for name, value in expected.items():
        if name in embedded and embedded[name] != (value if isinstance(value, str) else json.dumps(value)):
            return f"says that its {name} is {str(embedded[name])[:80]}, but the manifest has {str(value)[:80]}"
    return None
