"""Static int8 quantisation of LiteRT graphs, by LiteRT's own quantiser."""

import io
import warnings
from contextlib import redirect_stderr

import numpy as np

from search import extras
from search.graphs.onnx_builder import INPUT
from search.graphs.tflite_builder import SIGNATURE

NARROWEST = 2.0**-12  # of the widest range in the model


def quantise_litert(model: bytes, images: np.ndarray) -> bytes:
    """A LiteRT model of ours with int8 weights (a scale a channel) and activations; both of its ends stay float32.

    Args:
        model: of one image [1, H, W, C].
        images: normalised [N, C, H, W], on which the activations' ranges are read.

    Raises:
        UserError: the quantiser is not installed.
    """
    quantizer = extras.import_extra("ai_edge_quantizer.quantizer", "litert-int8")
    recipe = extras.import_extra("ai_edge_quantizer.recipe", "litert-int8")
    work = quantizer.Quantizer(bytearray(model), recipe.static_wi8_ai8())
    for end in (recipe.TFLOperationName.INPUT, recipe.TFLOperationName.OUTPUT):
        work.update_quantization_recipe(".*", end, algorithm_key=recipe.AlgorithmName.NO_QUANTIZE)
    calls = [{INPUT: np.ascontiguousarray(image[None].transpose(0, 2, 3, 1))} for image in images]
    with redirect_stderr(io.StringIO()), warnings.catch_warnings():  # a bar of its own, and hints for who debugs
        warnings.simplefilter("ignore")
        ranges = work.calibrate({SIGNATURE: calls}, num_threads=1)
        _widen(ranges)
        return bytes(work.quantize(ranges, enable_progress_bar=False, enable_progress_report=False).quantized_model)


def _widen(ranges: dict[str, dict[str, np.ndarray]]) -> None:
    """Gives maps that are zero, or nearly, a range that XNNPACK can compute with: by the scale of one that has none it
    refuses the model, or brings down the process."""
    narrowest = NARROWEST * max(float((each["max"] - each["min"]).max()) for each in ranges.values())
    for each in ranges.values():
        each["max"] = np.maximum(each["max"], each["min"] + np.float32(narrowest))
