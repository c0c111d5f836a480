"""The latency that several measurements give: the pseudo-median of the quiet ones."""

from __future__ import annotations

import numpy as np

from search.latency.timing.interference import quiet


def score(minima_ms) -> float:
    """The latency that several measurements give, in milliseconds."""
    return float(pseudo_median(np.asarray(minima_ms, dtype=float)))


def pseudo_median(minima_ms):
    """[..., measurements] -> [...]: the median of the means of all pairs (Hodges and Lehmann, 1963).

    Quiet measurements still vary to both sides. This averages them nearly as well as the mean does, and a few that were
    disturbed unnoticed don't move it."""
    first, second = np.triu_indices(minima_ms.shape[-1])
    return np.median((minima_ms[..., first] + minima_ms[..., second]) / 2, axis=-1)


def quiet_minima(measurements, quiet_ms: float) -> list:
    """The minima of the quiet measurements, each of (min_ms, reference_ms), `quiet_ms` being the reference's time in
    quiet moments.

    Where none was quiet, those of all, divided by how much the reference was slowed: an approximation, and counted as
    disturbed."""
    minima = [min_ms for min_ms, reference_ms in measurements if quiet(reference_ms, quiet_ms)]
    return minima or [min_ms * quiet_ms / reference_ms for min_ms, reference_ms in measurements]
