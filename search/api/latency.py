"""Latency tables: of this machine, of a device by a kit, and whether one is still true."""

from contextlib import nullcontext
from pathlib import Path

from search.api import Place
from search.errors import UserError
from search.files import check_file
from search.folders import locked
from search.latency.calibrate import calibrate
from search.latency.check import SHIFTED, Verdict, rescale_table
from search.latency.check import check_table as look_again
from search.latency.kit import write_kit
from search.latency.kit_result import import_result
from search.latency.table import LatencyTable

__all__ = ["LatencyTable", "Verdict", "calibrate", "check_table", "import_kit", "write_kit"]


def import_kit(result: Place, out: Place, source: LatencyTable | None = None) -> LatencyTable:
    """The table of what a kit measured, written to the file `out`.

    Args:
        result: what the kit's `calibrate.py` wrote.
        source: a table of another target, from which what was not measured is transferred.

    Raises:
        UserError: the file is damaged or no kit's result, the source is of another space, or another process writes the
            table.
    """
    path = Path(out)
    check_file(path)
    with locked(path.parent, only=path.name):
        return import_result(Path(result), path, source)


def check_table(table: Place, *, threads: int | None = None, rescale: bool = False) -> Verdict:
    """Whether a table is still true of this machine: some of it is timed again.

    Args:
        threads: another number than the table's.
        rescale: put a common shift into the table's file.

    Raises:
        UserError: the table's runtime is not here, it is to be rescaled by another number of threads than its own, or
            another process writes it.
    """
    path = Path(table)
    with locked(path.parent, only=path.name) if rescale else nullcontext():
        loaded = LatencyTable.load(path)
        if rescale and threads not in (None, own := loaded.setting.threads):
            raise UserError(f"a table is rescaled by its own number of threads: {path} has {own}, but got {threads}")
        verdict = look_again(loaded, threads=threads)
        if rescale and verdict.state == SHIFTED:
            rescale_table(loaded, verdict.shift).save(path)
        return verdict
