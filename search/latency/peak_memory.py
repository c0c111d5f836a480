"""Peak memory of networks on a runtime, predicted of the closed form by a fit on what `memory_meter` measured.

What a runtime needs for a network is a constant, so much for each byte of activations and so much for each byte of
weights: some keep the weights twice while they open a network, some plan activations tighter or looser than the closed
form of `ghostnet.memory`. All three are fitted on relative error and none is below zero, so that a network with more of
both is never predicted to need less. The interval is conformal over networks that are left out one at a time.
"""

from collections.abc import Mapping

import numpy as np

from ghostnet.arch import Arch
from ghostnet.memory import memory, value_bytes
from search.latency.predictor import COVERAGE, conformal
from search.latency.relative_errors import distance, relative_least_squares
from search.latency.table import LatencyTable, PeakMemory
from search.latency.timing.peak_memory import FEWEST
from spaces.space import Codes, Space
from spaces.tables import Floats, memory_table, weights_table


def fit_peak_memory(activations: Floats, weights: Floats, measured: Floats) -> PeakMemory:
    """Fits the closed form's bytes of n networks [n] to their measured bytes [n]; its error is of networks that are
    left out."""
    everything = np.arange(len(measured))
    columns = np.stack([np.ones(len(measured)), activations, weights], 1)
    left_out = np.empty(len(measured))
    for k in everything:
        others = everything != k
        left_out[k] = columns[k] @ relative_least_squares(columns[others], measured[others])
    constant, per_activation, per_weight = relative_least_squares(columns, measured).tolist()
    return PeakMemory(
        constant_bytes=constant,
        per_activation_byte=per_activation,
        per_weight_byte=per_weight,
        networks=len(measured),
        error=float(np.abs(left_out / measured - 1).mean()),
        quantile=conformal(distance(np.maximum(left_out, 1), measured)),
        coverage=COVERAGE,
    )


def peak_memory_of(
    space: Space, codes: Codes, measured: Mapping[int, int], batch: int, dtype: str
) -> PeakMemory | None:
    """The fit on some of the networks of a calibration; None where fewer than eight were measured.

    Args:
        codes: of all of its networks, [n, genes].
        measured: bytes by the network's number.
    """
    if len(measured) < FEWEST:
        return None
    chosen = codes[list(measured)]
    activations = memory_table(space, value_bytes(batch, dtype)).total(chosen)
    return fit_peak_memory(
        activations, weights_table(space, dtype).total(chosen), np.array([*measured.values()], float)
    )


def predict_peak_memory(table: LatencyTable, arch: Arch) -> tuple[float, float, float] | None:
    """Bytes that a network of the table's space takes at its peak on the table's device, and the ends of their
    interval; None of a table that doesn't tell."""
    if (fit := table.peak_memory) is None:
        return None
    setting = table.setting
    closed = memory(arch, setting.num_classes, setting.in_chs, setting.batch, setting.dtype)
    peak = fit.constant_bytes + fit.per_activation_byte * closed.activations + fit.per_weight_byte * closed.weights
    return peak, peak / (1 + fit.quantile), peak * (1 + fit.quantile)
