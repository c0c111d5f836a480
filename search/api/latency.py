"""Latency tables: of this machine, of a device by a kit, and whether one is still true."""

import time
from pathlib import Path

from search.api import Place
from search.latency.calibrate import calibrate as calibrate_until
from search.latency.check import SHIFTED, Verdict, rescale_table
from search.latency.check import check_table as look_again
from search.latency.kit import MOST_UNITS
from search.latency.kit import write_kit as write_kit_to
from search.latency.kit_result import import_result
from search.latency.runtimes import Dtype
from search.latency.table import LatencyTable
from spaces.space import Space

__all__ = ["LatencyTable", "Verdict", "calibrate", "check_table", "import_kit", "write_kit"]


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


def write_kit(
    space: Space,
    out: Place,
    *,
    runtime: str = "onnxruntime",
    dtype: Dtype = "float32",
    batch: int = 1,
    rounds: int = 3,
    fit_networks: int = 48,
    held_out: int = 32,
    most_units: int = MOST_UNITS,
    seed: int = 0,
) -> int:
    """A folder that calibrates a device without PyTorch; its README says how. Returns how many networks and units it
    times.

    Args:
        runtime: onnxruntime, which also has the `dtype` int8, or litert.
        batch, rounds, fit_networks, held_out: as of `calibrate`.
        most_units: the most probable ones are in it, the rest of a larger space is estimated.

    Raises:
        UserError: `out` is there already, or there is too little to fit, or no kit for this runtime.
    """
    return write_kit_to(
        space,
        Path(out),
        runtime_name=runtime,
        dtype=dtype,
        batch=batch,
        rounds=rounds,
        fit_networks=fit_networks,
        held_out=held_out,
        most_units=most_units,
        seed=seed,
    )


def import_kit(result: Place, out: Place, source: LatencyTable | None = None) -> LatencyTable:
    """The table of what a kit measured, written to the file `out`.

    Args:
        result: what the kit's `calibrate.py` wrote.
        source: a table of another target, from which what was not measured is transferred.

    Raises:
        UserError: the file is damaged or no kit's result, or the source is of another space.
    """
    return import_result(Path(result), Path(out), source)


def check_table(table: Place, *, threads: int | None = None, rescale: bool = False) -> Verdict:
    """Whether a table is still true of this machine: some of it is timed again.

    Args:
        threads: another number than the table's.
        rescale: put a common shift into the table's file.

    Raises:
        UserError: the table's runtime is not here.
    """
    path = Path(table)
    loaded = LatencyTable.load(path)
    verdict = look_again(loaded, threads=threads)
    if rescale and verdict.state == SHIFTED:
        rescale_table(loaded, verdict.shift).save(path)
    return verdict
