"""Makes a latency table: times every unit that a space can make, and whole networks to correct and to test the sum.

Visits go to a log beside the table as they are made; a calibration that was killed goes on from it and measures
nothing twice.
"""

import time
from collections import defaultdict, deque
from pathlib import Path

import numpy as np
from torch import nn

from ghostnet.network import GhostNet, unit_module
from ghostnet.units import Unit
from search.errors import UserError
from search.files import JsonLines
from search.latency.predictor import fit, unit_sums, validate
from search.latency.runtimes import Runtime, Session, Shape, runtime
from search.latency.table import Entry, LatencyTable, Protocol, Setting, now, this_device
from search.latency.timing import Gate, Visit, counted, score
from search.progress import bar
from spaces.custom import space_to_dict
from spaces.population import sample
from spaces.space import Codes, Space
from spaces.tables import space_units

ATTEMPTS = 6  # at a calm visit in one round, before a disturbed one is taken for want of better
FEWEST_NETWORKS = 8
NETWORK_VISITS = 3  # to a whole network in each round


def calibrate(
    space: Space,
    out: Path,
    *,
    runtime_name: str = "onnxruntime",
    threads: int = 1,
    rounds: int = 3,
    fit_networks: int = 48,
    held_out: int = 32,
    seed: int = 0,
    deadline: float | None = None,
) -> LatencyTable:
    """Calibrates and writes `out` (`*.lat.json`); its visits are logged in `<out>.visits.jsonl`.

    Args:
        rounds: visits to each unit, one a round.
        fit_networks, held_out: whole networks that correct the sum, and that only test it.
        deadline: `time.monotonic()` after which no new round begins; a first round is always finished.

    Raises:
        UserError: an unknown runtime, too many threads, or a log of another calibration.
    """
    if min(rounds, fit_networks, held_out) < 2:
        raise UserError(f"rounds and networks must be 2 or more, but got {rounds}, {fit_networks} and {held_out}")
    run = runtime(runtime_name, threads)
    rng = np.random.default_rng([seed, 0])
    codes = sample(space, rng, fit_networks + held_out)
    bench = _Bench(space, codes, run)
    log = JsonLines(out.with_name(out.name + ".visits.jsonl"))
    header = {"space_id": space.id, "seed": seed, "networks": len(codes), "runtime": run.name, "threads": threads}
    seen = list(log)
    if not seen:
        log.append(header)
    elif seen[0] != header:
        raise UserError(f"{log.path} holds visits of another calibration: {seen[0]}, not {header}")
    visits: dict[str, list[Visit]] = defaultdict(list)
    for row in seen[1:]:
        visits[row["item"]].append(row)
    start = time.monotonic() - max((row["at_s"] for row in seen[1:]), default=0.0)
    gate = Gate(run, min((row["reference_ms"] for row in seen[1:]), default=float("inf")))

    def late() -> bool:
        return deadline is not None and time.monotonic() > deadline

    done = {(row["item"], row["visit"]) for row in seen[1:]}
    with bar("calibrate", rounds * len(bench.round(0))) as progress:
        for turn in range(rounds):
            unsaved: list[Visit] = []
            planned = bench.round(turn)
            order = np.random.default_rng([seed, 1, turn]).permutation(len(planned))
            queue = deque((*planned[k], ATTEMPTS) for k in order if planned[k] not in done)
            while queue and not (turn and late()):
                item, number, attempts = queue.popleft()
                row = gate.visit(bench.session(item), bench.shapes[item])
                if attempts > 1 and not gate.calm(row["reference_ms"]) and not late():
                    queue.append((item, number, attempts - 1))  # once more, when the rest has been seen
                    continue
                row = {"item": item, "visit": number, "at_s": round(time.monotonic() - start, 3), **row}
                visits[item].append(row)
                unsaved.append(row)
                done.add((item, number))
                if len(unsaved) == 20:
                    log.extend(unsaved)
                    unsaved.clear()
                progress.at(len(done))
            log.extend(unsaved)
    gate.close()
    table = _table(space, run, codes, fit_networks, visits, gate, seed, time.monotonic() - start)
    table.save(out)
    return table


class _Bench:
    """Everything that is timed, by name; compiled once, loaded for each visit."""

    def __init__(self, space: Space, codes: Codes, run: Runtime) -> None:
        self.space, self.run = space, run
        self.archs = {f"network {k}": space.decode(code) for k, code in enumerate(codes)}
        self.units: dict[str, Unit] = {unit.key: unit for slot in space_units(space) for unit in slot.flat if unit}
        self.compiled: dict[str, bytes] = {}
        self.shapes: dict[str, Shape] = {
            **{name: (space.in_chs, arch.resolution, arch.resolution) for name, arch in self.archs.items()},
            **{key: (unit.in_chs, unit.size, unit.size) for key, unit in self.units.items()},
        }

    def round(self, turn: int) -> list[tuple[str, int]]:
        """The visits of one round: each unit once, each whole network a few times, since a few of those must correct
        and judge all the rest."""
        networks = [(name, NETWORK_VISITS * turn + k) for name in self.archs for k in range(NETWORK_VISITS)]
        return [*networks, *((key, turn) for key in sorted(self.units))]

    def session(self, item: str) -> Session:
        if item not in self.compiled:
            self.compiled[item] = self.run.compile(self._module(item), self.shapes[item])
        return self.run.load(self.compiled[item])

    def _module(self, item: str) -> nn.Module:
        if item in self.archs:
            return GhostNet(self.archs[item], self.space.num_classes, self.space.in_chs)
        return unit_module(self.units[item])


def _table(
    space: Space,
    run: Runtime,
    codes: Codes,
    fit_networks: int,
    visits: dict[str, list[Visit]],
    gate: Gate,
    seed: int,
    seconds: float,
) -> LatencyTable:
    minima = {item: counted(rows, gate) for item, rows in visits.items() if rows}
    calm = {item: [gate.calm(row["reference_ms"]) for row in rows] for item, rows in visits.items()}
    names = [f"network {k}" for k in range(len(codes))]
    networks = [minima.pop(name) for name in names]
    measured = np.array([score(each) for each in networks])
    halves = np.array([(score(each[::2]), score(each[1::2])) if len(each) > 1 else (np.nan,) * 2 for each in networks])
    # A whole network that never had a calm visit neither corrects nor judges, unless that leaves too few.
    calm_networks = np.array([any(calm[name]) for name in names])
    entries = {key: Entry(ms=score(each), visits=len(each)) for key, each in sorted(minima.items())}
    per_slot = unit_sums(space, {key: entry.ms for key, entry in entries.items()}).per_slot(codes)
    fitted, held = (
        part[calm_networks[part]] if calm_networks[part].sum() >= FEWEST_NETWORKS else part
        for part in np.split(np.arange(len(codes)), [fit_networks])
    )
    correction, validation = validate(
        fit(per_slot[fitted], measured[fitted]), per_slot[held], measured[held], halves[held], codes[held]
    )
    return LatencyTable(
        device=this_device(),
        setting=Setting(
            runtime=run.name,
            runtime_version=run.version(),
            threads=run.threads,
            space=space_to_dict(space),
            space_id=space.id,
            resolution=space.resolution,
            num_classes=space.num_classes,
            in_chs=space.in_chs,
        ),
        protocol=Protocol(
            visits=sum(map(len, calm.values())),
            disturbed=1 - float(np.mean([each for of_item in calm.values() for each in of_item])),
            seconds=seconds,
            seed=seed,
            finished=now(),
        ),
        correction=correction,
        validation=validation,
        entries=entries,
    )
