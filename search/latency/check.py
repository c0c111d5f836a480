"""Is a table still true of this machine? A few whole networks and the entries that matter most, timed again."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from ghostnet.units import Unit, units
from search.latency.bench import Bench
from search.latency.predictor import table_space
from search.latency.runtimes import table_runtime
from search.latency.table import LatencyTable
from search.latency.time_networks import time_side_by_side
from search.latency.timing.device import this_device
from search.records import check_codes
from spaces.space import Space

VALID, SHIFTED, STALE = "valid", "shifted", "stale"
EXIT_CODES = {VALID: 0, SHIFTED: 3, STALE: 4}
NETWORKS, ENTRIES = 16, 24
MEASUREMENTS = 5
SHIFT = 0.03  # a common factor beyond this is a shift
SPREAD = 0.05  # after the factor, the median item may be off by this, or by three times the table's own error


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a table's numbers.

    Args:
        state: valid; shifted, all by `shift` alike; or stale, differently.
        shift: latency now over latency then, the median over all items.
        spread: median relative distance of an item from that.
        notes: what else is not as it was.
    """

    state: str
    shift: float
    spread: float
    allowed_spread: float
    items: int
    seconds: float
    notes: tuple[str, ...]


def check_table(table: LatencyTable, *, seconds: float = 45.0, threads: int | None = None) -> Verdict:
    """Times some of what the table holds again.

    Args:
        seconds: time box; interleaved rounds until it ends, at least one.
        threads: another number than the table's, to see what that does.

    Raises:
        UserError: the runtime is not here, or the table is of a space this version makes otherwise.
    """
    start = time.monotonic()
    run = table_runtime(table.setting, threads)
    space = table_space(table)
    check_codes((network.code for network in table.validation.held_out), space, "the latency table's `held_out`")
    then = dict(_items(table, space))
    shapes = {name: shape for name, (_, shape) in then.items()}
    bench = Bench(space, (network.code for network in table.validation.held_out), shapes)
    now = time_side_by_side(
        run,
        partial(bench.session, run),
        shapes,
        quiet=MEASUREMENTS,
        rounds=MEASUREMENTS,
        seed=0,
        seconds=start + seconds - time.monotonic(),
        title="check",
    )
    ratios = np.array([now[name] / ms for name, (ms, _) in then.items()])
    shift = float(np.median(ratios))
    spread = float(np.median(np.abs(ratios / shift - 1)))
    own = table.validation.ruler.mape if table.validation.ruler else table.validation.mape
    allowed = max(SPREAD, 3 * own)
    state = STALE if spread > allowed else SHIFTED if abs(shift - 1) > SHIFT else VALID
    return Verdict(
        state=state,
        shift=shift,
        spread=spread,
        allowed_spread=allowed,
        items=len(then),
        seconds=round(time.monotonic() - start, 1),
        notes=tuple(_notes(table, run.version())),
    )


def rescale_table(table: LatencyTable, factor: float) -> LatencyTable:
    """The table with every latency times `factor`; what is relative stays. It says so."""
    entries = {key: entry.times(factor) for key, entry in table.entries.items()}
    fallback = table.fallback and table.fallback.model_copy(
        update={"ms": {term: factor * ms for term, ms in table.fallback.ms.items()}}
    )
    held = tuple(
        each.model_copy(
            update={name: factor * getattr(each, name) for name in ("measured_ms", "predicted_ms", "low_ms", "high_ms")}
        )
        for each in table.validation.held_out
    )
    return table.model_copy(
        update={
            "entries": entries,
            "fallback": fallback,
            "correction": table.correction.times(factor),
            "validation": table.validation.model_copy(update={"held_out": held}),
            "protocol": table.protocol.model_copy(update={"rescaled": table.protocol.rescaled * factor}),
        }
    )


def _items(table: LatencyTable, space: Space) -> Iterator[tuple[str, tuple[float, list[int]]]]:
    """Name, milliseconds and input shape of whole networks over the range, and of the entries that weigh most in the
    held-out networks."""
    batch, held = table.setting.batch, table.validation.held_out
    order = np.argsort([network.measured_ms for network in held])
    for k in sorted({int(order[round(index)]) for index in np.linspace(0, len(held) - 1, min(NETWORKS, len(held)))}):
        side = space.decode(np.array(held[k].code)).resolution
        yield f"network {k}", (held[k].measured_ms, [batch, space.in_chs, side, side])
    counts: Counter[Unit] = Counter()
    for network in held:
        counts.update(units(space.decode(np.array(network.code)), space.num_classes, space.in_chs))
    timed = {key: entry.ms for key, entry in table.entries.items() if entry.visits}
    weight = {unit: n * timed[unit.key] for unit, n in counts.items() if unit.key in timed}
    for unit in sorted(weight, key=lambda each: -weight[each])[:ENTRIES]:
        yield unit.key, (timed[unit.key], [batch, unit.in_chs, unit.size, unit.size])


def _notes(table: LatencyTable, version: str) -> Iterator[str]:
    """What is not as it was when the table was made."""
    if version != table.setting.runtime_version:
        yield f"the runtime was {table.setting.runtime_version} and is {version}"
    now = this_device()
    for name in ("machine", "cpu", "cores", "governor", "system"):
        then = getattr(table.device, name)
        if now[name] != then:
            yield f"{name} was {then} and is {now[name]}"
