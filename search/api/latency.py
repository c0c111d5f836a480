"""Latency tables."""

import time
from pathlib import Path

from search.api import Place
from search.latency.calibrate import calibrate as calibrate_until
from search.latency.runtimes import Dtype
from search.latency.table import LatencyTable
from spaces.space import Space

__all__ = ["LatencyTable", "calibrate"]


def calibrate(
    space: Space,
    out: Place,
    *,
    runtime: str = "onnxruntime",
    threads: int = 1,
    batch: int = 1,
    dtype: Dtype = "float32",
    minutes: float = 10.0,
    rounds: int = 3,
    fit_networks: int = 48,
    held_out: int = 32,
    seed: int = 0,
    source: LatencyTable | None = None,
) -> LatencyTable:
    """Times this machine: a latency table for a space, written to the file `out` (`*.lat.json`).

    Args:
        batch: images in a run; latencies are of a run.
        minutes: a time box.
        rounds: visits to each unit, if the time box allows.
        fit_networks, held_out: whole networks that correct the sum, and that only test it.
        source: a table of another device, runtime, batch, ... (`LatencyTable.load`), from which what isn't timed here
            is transferred: `minutes=1`, `rounds=1`, `fit_networks=20` and `held_out=16` are enough then.

    Raises:
        UserError: an unknown runtime, too many threads, or a file that holds another table; a source of another space,
            or of this very target.
    """
    return calibrate_until(
        space,
        Path(out),
        runtime_name=runtime,
        threads=threads,
        batch=batch,
        dtype=dtype,
        rounds=rounds,
        fit_networks=fit_networks,
        held_out=held_out,
        seed=seed,
        deadline=time.monotonic() + 60 * minutes,
        source=source,
    )
