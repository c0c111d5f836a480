"""Exports a trained network and proves that each file is that network.

Every file is run on the same random and real images as the PyTorch network; a difference is an error. What was found
goes into `manifest.json`, with the SHA-256 of each file.
"""

import hashlib
import io
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ghostnet.cost import cost
from ghostnet.network import GhostNet
from ghostnet.weights import to_bytes
from search.errors import UserError
from search.files import write_bytes, write_json, write_text
from search.onnx_builder import INPUT, OPSET
from search.onnx_graph import to_onnx

SCHEMA = "ghostnas.manifest/1"
MANIFEST, ARCH = "manifest.json", "arch.json"
TOLERANCE = 1e-4  # largest difference, relative to the largest output
RANDOM_IMAGES = 16

Proof = Callable[[Tensor], np.ndarray]  # runs an exported file on images [B, C, H, W]


def export(net: GhostNet, out: Path, formats: list[str], images: Tensor, facts: dict[str, Any]) -> dict[str, Any]:
    """Writes `net` to the folder `out` in the given formats, with `arch.json` and `manifest.json`.

    Args:
        images: real, normalised images [B, C, H, W] that every file is tried on, beside random ones.
        facts: what is known of the network (accuracy, latency, data, ...); goes into the manifest.

    Raises:
        UserError: an unknown format, or a file whose outputs differ from the network's.
    """
    check_formats(formats)
    net = net.cpu().eval()
    arch = net.arch
    generator = torch.Generator().manual_seed(0)
    shape = (RANDOM_IMAGES, net.in_chs, arch.resolution, arch.resolution)
    tried = torch.cat([torch.randn(shape, generator=generator), images.cpu()])
    with torch.no_grad():
        expected = net(tried).numpy()
    files: dict[str, dict[str, Any]] = {}
    for name in formats:
        file, content, proof = FORMATS[name](net)
        agreement = _agreement(file, expected, proof(tried))
        write_bytes(out / file, content)
        files[file] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), **agreement}
    write_text(out / ARCH, arch.to_json())
    files[ARCH] = {"sha256": hashlib.sha256(arch.to_json().encode()).hexdigest()}
    total = cost(arch, net.num_classes, net.in_chs)
    manifest = {
        "schema": SCHEMA,
        "arch": arch.id,
        "macs": total.macs,
        "params": total.params,
        "resolution": arch.resolution,
        "num_classes": net.num_classes,
        "in_chs": net.in_chs,
        **facts,
        "onnx_opset": OPSET,
        "tried_on": {"random_images": RANDOM_IMAGES, "real_images": len(images), "tolerance": TOLERANCE},
        "files": files,
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
    }
    write_json(out / MANIFEST, manifest)  # last: a folder with a manifest is a finished export
    return manifest


def check_formats(formats: list[str]) -> None:
    """Raises:
    UserError: one of them is unknown.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UserError(f"a format is one of {', '.join(FORMATS)}, not {unknown[0]!r}")


def _agreement(file: str, expected: np.ndarray, got: np.ndarray) -> dict[str, Any]:
    difference = float(np.abs(expected - got).max())
    bound = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    if not difference <= bound:
        raise UserError(f"{file} differs from the PyTorch network by {difference:.3g}; at most {bound:.3g} is allowed")
    return {
        "largest_difference": difference,
        "top1_agreement": float((expected.argmax(1) == got.argmax(1)).mean()),
    }


def _onnx(net: GhostNet) -> tuple[str, bytes, Proof]:
    import onnx
    import onnxruntime

    model = to_onnx(net, (net.in_chs, net.arch.resolution, net.arch.resolution))
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return "model.onnx", content, lambda images: session.run(None, {INPUT: images.numpy()})[0]


def _safetensors(net: GhostNet) -> tuple[str, bytes, Proof]:
    from safetensors.torch import load

    content = to_bytes(net)
    again = GhostNet(net.arch, net.num_classes, net.in_chs)
    again.load_state_dict(load(content))
    return "weights.safetensors", content, _run(again.eval())


def _pt2(net: GhostNet) -> tuple[str, bytes, Proof]:
    example = torch.zeros(2, net.in_chs, net.arch.resolution, net.arch.resolution)
    program = torch.export.export(net, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    content = io.BytesIO()
    torch.export.save(program, content)
    content.seek(0)
    return "model.pt2", content.getvalue(), _run(torch.export.load(content).module())


def _run(net: Callable[[Tensor], Tensor]) -> Proof:
    def run(images: Tensor) -> np.ndarray:
        with torch.no_grad():
            return net(images).numpy()

    return run


FORMATS: dict[str, Callable[[GhostNet], tuple[str, bytes, Proof]]] = {
    "onnx": _onnx,
    "safetensors": _safetensors,
    "pt2": _pt2,
}
