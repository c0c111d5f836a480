"""Makes a latency table: times whole networks and the units that a space can make, fits, and says how well.

Measurements go to a log beside the table as they are made; a calibration that was killed goes on from it and measures
nothing twice.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from ghostnet.arch import MAX_BATCH
from search.deadlines import deadline_in, has_passed
from search.errors import UserError, check_minutes, check_whole
from search.files import JsonLines, JsonObject, check_file
from search.folders import locked
from search.identity import Identity, check_same
from search.latency.bench import Bench, MeasurementPlan, all_units, logged_units, measurement_plan, reference
from search.latency.fallback import FEWEST
from search.latency.fitting import fit_table
from search.latency.measurements import (
    Line,
    Measurement,
    OtherLine,
    by_item,
    measurements_log,
    parse_measurements,
    peak_bytes,
)
from search.latency.memory_meter import MemoryMeter, why_not
from search.latency.peak_memory import peak_memory_of
from search.latency.runtimes import Dtype, Runtime
from search.latency.runtimes import runtime as find_runtime
from search.latency.table import Device, LatencyTable, Protocol, Setting
from search.latency.timing.device import now, this_device
from search.latency.timing.interference import quiet_time
from search.latency.timing.peak_memory import measure_some, reserved_seconds
from search.latency.timing.rounds import Rounds
from search.latency.transfer import SAME_DEVICE, check_counts, check_source
from search.progress import bar, best_effort
from search.records import first_error, record_json
from search.seeds import check_seed
from search.terminal import say
from spaces.custom import space_to_dict
from spaces.space import Space

MOST_NETWORKS = 100_000  # or rounds
ESTIMATE_EVERY_S = 10.0  # at the current estimate of the error
ESTIMATE_SHARE = 0.1  # of the time that it may take, which a space of many units has to wait for


def calibrate(
    space: Space,
    out: str | Path,
    *,
    runtime: str = "onnxruntime",
    threads: int = 1,
    batch: int = 1,
    dtype: Dtype = "float32",
    minutes: float | None = 10.0,
    rounds: int = 3,
    fit_networks: int = 48,
    held_out: int = 32,
    seed: int = 0,
    source: LatencyTable | None = None,
    store: str | Path | None = None,
) -> LatencyTable:
    """Times this machine: a latency table for a space, written to the file `out` (`*.lat.json`). A calibration that was
    stopped goes on from its measurements, which are logged in `<out>.visits.jsonl`.

    Args:
        batch: images in a run; latencies are of a run.
        minutes: a time box: fewer units or rounds if they don't fit, and what time is left after the rounds goes to
            what is least sure. None: as long as the rounds take.
        rounds: visits to each unit, if the time box allows.
        fit_networks, held_out: whole networks that correct the sum, and that only test it.
        source: a table of another device, runtime, batch, ... (`LatencyTable.load`), from which what isn't timed here
            is transferred: `minutes=1`, `rounds=1`, `fit_networks=20` and `held_out=16` are enough then.
        store: a folder for compiled networks, where several calibrations time the same ones.

    Raises:
        UserError: an unknown runtime, too many threads, or a file that holds another table; or another process at work
            on this table; a source of another space, or of this very target.
    """
    check_minutes(minutes)
    seed = check_seed(seed)
    limit, out = None if minutes is None else 60 * minutes, Path(out)
    deadline = deadline_in(limit)
    check_file(out)
    rounds, fit_networks, held_out, batch = check_plan(rounds, fit_networks, held_out, batch, source)
    run = find_runtime(runtime, threads, dtype)
    planned = measurement_plan(
        space,
        fit_networks=fit_networks,
        held_out=held_out,
        rounds=rounds,
        threads=run.threads,
        batch=batch,
        seed=seed,
    )
    setting, device = table_setting(space, run, batch), Device.model_validate(this_device())
    if source is not None:
        check_source(source, space, setting, device)
    header = {**planned.identity, "runtime": run.name, "runtime_version": run.version()}
    header |= {"dtype": run.dtype, "lowering": run.lowering}
    header |= {key: getattr(device, key) for key in SAME_DEVICE}
    header |= {} if source is None else {"source": source.digest}
    items = {item.name for item in planned.items} | logged_units(space)
    with locked(out.parent, only=out.name):
        log = JsonLines(measurements_log(out))
        lines = read_measurements(log, header, items)
        if out.exists():
            there = LatencyTable.load(out)
            if there.protocol.rescaled != 1:
                raise UserError(
                    f"{out} was rescaled by {there.protocol.rescaled:.3g}, which its measurements don't know: another "
                    "file is the place of a new calibration"
                )
            if lines is None:
                recorded, asked = (each.model_dump(mode="json") for each in (there.setting, setting))
                check_same(recorded, asked, f"{out} is another table")
        compare_with = reference(run)
        if lines is None:
            log.append(header)  # now that everything is there that it takes
        bench = Bench(space, planned.networks, planned.shapes, None if store is None else Path(store))
        live = _RunningEstimate(space, planned)
        with bar("calibrate", 1) as progress:

            def tell(done: int, total: int) -> None:
                progress.total(total)
                # A transfer takes seconds to fit, which its short time box doesn't have.
                progress.update(done, live.message(work.measurements) if source is None else "")

            before = [record_json(line) for line in lines or []]
            sessions = partial(bench.session, run)
            reserved = reserved_seconds(limit)
            until = None if deadline is None else deadline - reserved
            work = Rounds(planned.to_json(), sessions, compare_with, before, log.extend, until, tell)
            work.run()
        known = peak_bytes(lines or [])
        names = [name for name in planned.held_out if name in work.measurements and name not in known]
        late = has_passed(deadline)
        with best_effort("the peak memory of networks"):
            _measure_memory(run, bench, names, len(known), seed, 0 if late else reserved, log)
        lines = read_measurements(log, header, items) or []
        table = build_table(
            space, planned.networks, planned.fit_networks, lines, setting, device, seed=seed, source=source
        )
        return table.save(out)


def _measure_memory(
    run: Runtime, bench: Bench, names: Sequence[str], known: int, seed: int, seconds: float, log: JsonLines
) -> None:
    """Logs the peak memory of some networks; says why the table has none, if so.

    Args:
        names, known, seed, seconds: as of `measure_some`.
    """
    why = why_not(run)
    if why is None:
        with MemoryMeter(run) as meter:

            def measure(name: str) -> int | None:
                return meter(bench.file(run, name), list(bench.shapes[name]))

            why = measure_some(measure, names, known, seed, seconds, log.append)
    if why is not None:
        say(f"Peak memory is not in the table: {why}.")


def check_plan(
    rounds: int, fit_networks: int, held_out: int, batch: int, source: LatencyTable | None = None
) -> tuple[int, int, int, int]:
    """These numbers, NumPy's among them, as whole ones of Python's.

    Raises:
        UserError: too few to fit or to judge on, or a batch that is none or fills any memory.
    """
    rounds, fit_networks, held_out = (
        check_whole(f"`{name}`", number, 0, MOST_NETWORKS)
        for name, number in (("rounds", rounds), ("fit_networks", fit_networks), ("held_out", held_out))
    )
    batch = check_whole("`batch`", batch, 1, MAX_BATCH)
    if source is not None:
        check_counts(fit_networks, held_out)
    if rounds < (2 if source is None else 1) or min(fit_networks, held_out) < 2:
        raise UserError(f"rounds and networks must be 2 or more, but got {rounds}, {fit_networks} and {held_out}")
    return rounds, fit_networks, held_out, batch


def read_measurements(log: JsonLines, header: Identity, items: Collection[str]) -> list[Line] | None:
    """The lines of a calibration's log after its header; None where there is no log yet.

    Raises:
        UserError: it is of another calibration, or damaged.
    """
    rows = list(log)
    if not rows:
        return None
    check_same(rows[0], header, f"{log.path} holds visits of another calibration")
    return parse_measurements(((log.line_name(number), row) for number, row in enumerate(rows[1:], 2)), items)


@contextmanager
def _rules_kept() -> Iterator[None]:
    """Raises:
    UserError: in place of an error of a table's own rules.
    """
    try:
        yield
    except ValidationError as error:
        raise UserError(f"these measurements make no table: {error.title}'s {first_error(error)}") from None


@_rules_kept()
def build_table(
    space: Space,
    networks: Sequence[Sequence[int]],
    fit_networks: int,
    lines: Sequence[Line],
    setting: Setting,
    device: Device,
    *,
    seed: int,
    source: LatencyTable | None = None,
    finished: str | None = None,
) -> LatencyTable:
    """The table that a log's lines come to, wherever they were made.

    Args:
        networks: codes of the whole networks; the first `fit_networks` are fitted, the others held out.
        seed: of the plan.
        finished: when, in UTC; None: now.

    Raises:
        UserError: what was measured can't be fitted: a unit without a like, or values too far apart for a table's.
    """
    measurements = by_item(lines)
    fitted = fit_table(space, np.array(networks), fit_networks, measurements, source=source)
    every = [measurement for each in measurements.values() for measurement in each]
    taken = peak_bytes(lines)
    held = {k: taken[name] for k in range(fit_networks, len(networks)) if (name := f"network {k}") in taken}
    rounds = [line.settled.rounds for line in lines if isinstance(line, OtherLine) and line.settled]
    return LatencyTable(
        device=device,
        setting=setting,
        protocol=Protocol(
            visits=len(every),
            disturbed=fitted.disturbed,
            rounds=rounds[-1] if rounds else 1,
            units_in_space=len(all_units(space)),
            reference_ms=quiet_time([measurement.reference_ms for measurement in every]),
            seconds=max(measurement.at_s for measurement in every),
            seed=seed,
            finished=finished or now(),
        ),
        transfer=fitted.transfer,
        peak_memory=peak_memory_of(space, np.array(networks), held, setting.batch, setting.dtype),
        correction=fitted.correction,
        fallback=fitted.fallback,
        validation=fitted.validation,
        entries=fitted.entries,
    )


def table_setting(space: Space, run: Runtime, batch: int) -> Setting:
    """What a table of this space and runtime is valid for."""
    return Setting(
        runtime=run.name,
        runtime_version=run.version(),
        threads=run.threads,
        batch=batch,
        dtype=run.dtype,
        lowering=run.lowering,
        space=space_to_dict(space),
        space_id=space.id,
        resolution=space.resolution,
        num_classes=space.num_classes,
        in_chs=space.in_chs,
    )


class _RunningEstimate:
    """The current estimate of the error on networks that are not fitted, anew every few seconds, or more seldom where
    it takes long."""

    def __init__(self, space: Space, planned: MeasurementPlan) -> None:
        self.space, self.planned, self.text, self.updated = space, planned, "", time.monotonic()
        self.wait = ESTIMATE_EVERY_S
        self.enough = len(planned.networks) + min(FEWEST, len(planned.items) - len(planned.networks))

    def message(self, rows: Mapping[str, Sequence[JsonObject]]) -> str:
        begun = time.monotonic()
        if begun - self.updated > self.wait and len(rows) >= self.enough:
            codes = np.array(self.planned.networks)
            # A unit may have no like of its own among those that were timed so far: nothing is known then.
            with best_effort("the error on the way"), suppress(UserError):
                measurements = {name: [Measurement.model_validate(row) for row in each] for name, each in rows.items()}
                fitted = fit_table(self.space, codes, self.planned.fit_networks, measurements, quick=True)
                self.text = f"error {fitted.validation.mape:.1%}, {fitted.disturbed:.0%} disturbed"
            self.updated = time.monotonic()
            self.wait = max(ESTIMATE_EVERY_S, (self.updated - begun) / ESTIMATE_SHARE)
        return self.text
