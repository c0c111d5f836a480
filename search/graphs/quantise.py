"""Static int8 quantisation of ONNX graphs."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from search.graphs.onnx_builder import INPUT


def random_images(shape: tuple[int, int, int], batch: int = 1) -> list[np.ndarray]:
    """8 images of seeded noise or one batch, if that is more: enough to time a quantised network, not to use it."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal((batch, *shape), dtype=np.float32) for _ in range(max(1, 8 // batch))]


def quantise_model(model: onnx.ModelProto, images: list[np.ndarray]) -> onnx.ModelProto:
    """The model with int8 weights (a scale a channel) and activations, as pairs of Quantize- and DequantizeLinear.

    Args:
        images: normalised batches [B, C, H, W] on which the activations' ranges are read.
    """

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.left, None)
            return None if batch is None else {INPUT: batch}

    whole = onnx.ModelProto()
    whole.CopyFrom(model)  # the quantiser moves the weights of what it is given to a file
    # Folded and with its shapes known, our graph is what the quantiser's own pre-processing would make of it.
    whole.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "int8.onnx"
        quantize_static(
            whole,
            out,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,  # 7 bits: with 8, x86 processors without VNNI overflow when they add two products
        )
        return onnx.load(out)
