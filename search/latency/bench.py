"""What a calibration times: the plan, and the modules behind its items.

Weights are constant, one over the fan-in (never zeros, which some kernels skip, nor denormals, which are slow): speed
doesn't depend on them, and compiled networks shrink to nothing while they wait.
"""

import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ghostnet.cost import unit_layers
from ghostnet.files import write_bytes
from ghostnet.network import GhostNet, unit_module
from ghostnet.units import Unit
from search.files import JsonObject
from search.identity import Identity
from search.latency.fallback import terms
from search.latency.runtimes import Runtime, Session, Shape
from spaces.population import mutate, sample, sample_evenly
from spaces.presets import DIGITS
from spaces.space import Codes, Space
from spaces.tables import UnitTable, macs_table, space_units, stated_units

SCHEMA = "ghostnas.plan/2"
POPULATION = 20_000  # networks, half of them spread over multiply-adds, that tell how probable a unit is
CANDIDATES = 8  # for each network to fit on
SPREAD = 0.5  # of a unit's cost that is made up: the standard deviation of its logarithm


def all_units(space: Space) -> dict[str, Unit]:
    """Every unit that a space can make, by key."""
    return {unit.key: unit for units in space_units(space) for unit in units.flat if unit}


def logged_units(space: Space) -> set[str]:
    """Keys of all units that a log may have. Logs of earlier versions have some under two keys, by two ratios that make
    the same block; a table takes those that `all_units` has."""
    return {unit.key for units in stated_units(space) for unit in units.flat if unit}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanItem:
    """What is timed: a network, `network 0` and so on, or a unit by its key; by the shape of its input, batch first."""

    name: str
    kind: Literal["network", "unit"]
    shape: list[int]

    @classmethod
    def of(cls, name: str, shape: Sequence[int]) -> "PlanItem":
        """The item of a name."""
        return cls(name=name, kind="network" if name.startswith("network ") else "unit", shape=list(shape))


@dataclass(frozen=True, kw_only=True)
class MeasurementPlan:
    """What is to be timed: whole networks, then units, drawn one after the other by their probability, a few of them
    first that have every kind of layer between them.

    Args:
        networks: codes: those to fit on come first and between them cover what is probable; both they and those held
            out reach from the middle of the space to its ends, as `networks_to_the_ends` has them.
    """

    space_id: str
    seed: int
    rounds: int
    threads: int
    batch: int
    fit_networks: int
    networks: list[list[int]]
    items: list[PlanItem]

    def to_json(self) -> JsonObject:
        """The plan as plain data, which is what `search.latency.timing` takes, and a kit's `plan.json`."""
        return {"schema": SCHEMA, **asdict(self)}

    @property
    def shapes(self) -> dict[str, list[int]]:
        """Of the items' inputs, batch first, by name."""
        return {item.name: item.shape for item in self.items}

    @property
    def held_out(self) -> list[str]:
        """Names of the networks that are never fitted."""
        return [f"network {k}" for k in range(self.fit_networks, len(self.networks))]

    @property
    def identity(self) -> Identity:
        """What makes two plans the same, without their length."""
        rest = {key: value for key, value in self.to_json().items() if key not in ("networks", "items")}
        return {**rest, "network_count": len(self.networks)}


def measurement_plan(
    space: Space, *, fit_networks: int, held_out: int, rounds: int, threads: int, batch: int, seed: int
) -> MeasurementPlan:
    """The plan of a calibration."""
    rng = np.random.default_rng([seed, 0])
    keys = sorted(all_units(space))
    numbers = {key: k for k, key in enumerate(keys, 1)}  # 0 is no unit, where the depth drops the block
    number = UnitTable(space, lambda unit: float(numbers[unit.key]))
    population = np.concatenate([sample(space, rng, POPULATION // 2), sample_evenly(space, rng, POPULATION // 2)])
    counts = np.bincount(number.per_position(population).astype(int).ravel(), minlength=len(keys) + 1)
    counts[0] = 0
    candidates, held = _candidates_and_held_out(space, rng, fit_networks, held_out)
    codes = np.concatenate([_covering(candidates, number, counts, fit_networks), held])
    # The probable ones first would leave corners of which the others can't be estimated.
    drawn = np.log(counts[1:] + 1) + np.random.default_rng([seed, 1]).gumbel(size=len(keys))
    shapes, order = _shapes(space, codes), [keys[k] for k in np.argsort(-drawn)]
    names = [*(f"network {k}" for k in range(len(codes))), *_kinds_first(order, all_units(space))]
    return MeasurementPlan(
        space_id=space.id,
        seed=seed,
        rounds=rounds,
        threads=threads,
        batch=batch,
        fit_networks=fit_networks,
        networks=codes.tolist(),
        items=[PlanItem.of(name, [batch, *shapes[name]]) for name in names],
    )


class Bench:
    """Networks and units of a space as modules, and as sessions of a runtime: compiled once, loaded for each
    measurement.

    Args:
        codes: of the networks, which are called `network 0` and so on; units are called by their key.
        shapes: of inputs, batch first, by name.
        store: a folder that keeps what was compiled from one process to the next, for runtimes whose compiler is slow.
    """

    def __init__(
        self,
        space: Space,
        codes: Iterable[Sequence[int]],
        shapes: Mapping[str, Sequence[int]],
        store: Path | None = None,
    ) -> None:
        self.space, self.shapes, self.store = space, shapes, store
        self.archs = {f"network {k}": space.decode(np.array(code)) for k, code in enumerate(codes)}
        self.units = all_units(space)
        self._compiled: dict[str, bytes] = {}

    def session(self, run: Runtime, item: str) -> Session:
        return run.load(self.file(run, item))

    def file(self, run: Runtime, item: str) -> bytes:
        """The item in the runtime's own form."""
        if item not in self._compiled:
            self._compiled[item] = self.compiled(run, item)
        return zlib.decompress(self._compiled[item])

    def compiled(self, run: Runtime, item: str) -> bytes:
        """The item in the runtime's own form, packed; from the store where that has it."""
        batch, *shape = self.shapes[item]
        if self.store is None:
            return zlib.compress(self.compile(run, item), 1)
        what = self.archs[item].id if item in self.archs else item
        data = (self.space.num_classes, self.space.in_chs, *shape, batch)
        about = (run.name, run.version(), run.threads, run.dtype, run.lowering, *data, what)
        file = self.store / hashlib.sha256(repr(about).encode()).hexdigest()
        if not file.exists():
            write_bytes(file, zlib.compress(self.compile(run, item), 1))
        return file.read_bytes()

    def compile(self, run: Runtime, item: str) -> bytes:
        batch, chs, height, width = self.shapes[item]
        return run.compile(self.module(item), (chs, height, width), batch)

    def module(self, item: str) -> nn.Module:
        with torch.device("meta"):
            if item in self.archs:
                net: nn.Module = GhostNet(self.archs[item], self.space.num_classes, self.space.in_chs)
            else:
                net = unit_module(self.units[item])
        return constant(net)


def reference_module() -> tuple[nn.Module, Shape]:
    """The reference network and the shape of its images: GhostNet 0.5x for digits, a tenth of a millisecond."""
    with torch.device("meta"):
        net = GhostNet(DIGITS.uniform(0.5), DIGITS.num_classes, DIGITS.in_chs)
    return constant(net), (DIGITS.in_chs, DIGITS.resolution, DIGITS.resolution)


def reference(run: Runtime) -> tuple[Session, list[int]]:
    """The reference network as a session, and the shape of its input."""
    net, shape = reference_module()
    return run.load(run.compile(net, shape)), [1, *shape]


@torch.no_grad()
def constant(net: nn.Module) -> nn.Module:
    """Gives a network without storage weights of one over the fan-in, and norms that do nothing."""
    net = net.to_empty(device="cpu").eval()
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        fan_in = tensor[0].numel() if tensor.ndim > 1 else 1
        tensor.fill_(0 if name.endswith(("bias", "running_mean", "num_batches_tracked")) else 1 / fan_in)
    return net


def _candidates_and_held_out(
    space: Space, rng: np.random.Generator, fit_networks: int, held_out: int
) -> tuple[Codes, Codes]:
    """Networks of which those to fit on are taken, as many or more, and those held out. None is of both, unless the
    space has a single one: rather are some timed twice."""
    pool = networks_to_the_ends(space, rng, fit_networks * CANDIDATES + held_out)
    if len(pool) < fit_networks + held_out:  # all of a small space, or nearly
        pool = np.unique(np.concatenate([pool, sample_evenly(space, rng, fit_networks + held_out)]), axis=0)
    share = min(held_out, max(1, len(pool) * held_out // (fit_networks + held_out)))
    held = np.array([rng.choice(stretch) for stretch in np.array_split(np.arange(len(pool)), share)])
    rest = np.delete(pool, held, 0) if len(pool) > 1 else pool
    genes = pool.shape[1]
    return np.resize(rest, (max(len(rest), fit_networks), genes)), np.resize(pool[held], (held_out, genes))


def networks_to_the_ends(space: Space, rng: np.random.Generator, count: int) -> Codes:
    """Different networks from the middle of a space to its ends, the fewest multiply-adds first: [count, genes], or
    fewer of a small space.

    A search ends at the ends, where random networks never are. So each is the least of the whole space by a cost that
    is made up, a weighted sum of layers, multiply-adds and values read and written, with a factor for every unit; every
    other weights may be negative, too. Then some genes are drawn anew, from few in one network to all in another.
    """
    costs = [UnitTable(space, _num_layers), macs := macs_table(space), UnitTable(space, _num_values)]
    parts = list(zip(*(cost.values for cost in costs), strict=True))  # by position
    means = np.mean([[values.mean() for values in each] for each in parts], 0)
    ends = []
    for k in range(2 * count):
        weights = rng.standard_normal(len(costs)) / means
        first, second, third = np.abs(weights) if k % 2 == 0 else weights
        sums = (first * layers + second * ops + third * values for layers, ops, values in parts)
        ends.append(UnitTable.of(space, [cost * rng.lognormal(0, SPREAD, cost.shape) for cost in sums]).extreme())
    rates = (np.arange(len(ends)) / len(ends)) ** 2
    drawn = [mutate(space, rng, end[None], rate) for end, rate in zip(ends, rng.permutation(rates), strict=True)]
    codes = rng.permutation(np.unique(np.concatenate(drawn), axis=0))[:count]
    return codes[np.argsort(macs.total(codes), kind="stable")]


def _num_layers(unit: Unit) -> float:
    return sum(1.0 for _ in unit_layers(unit))


def _num_values(unit: Unit) -> float:
    return float(sum((layer.in_chs + layer.out_chs) * layer.size**2 for layer in unit_layers(unit)))


def _covering(pool: Codes, number: UnitTable, counts: NDArray[np.int64], count: int) -> Codes:
    """Of each stretch of candidates, the network whose units are the most probable that no other has yet."""
    chosen: list[NDArray[np.int64]] = []
    left = counts.astype(float).copy()
    for candidates in np.array_split(pool, count):
        units = number.per_position(candidates).astype(int)
        best = int(left[units].sum(1).argmax())
        left[units[best]] = 0
        chosen.append(candidates[best])
    return np.stack(chosen)


def _kinds_first(probable: list[str], known: dict[str, Unit]) -> list[str]:
    """Keys of units with the most probable one of each kind of layer first: where none of a kind is timed, no unit that
    has it can be estimated."""
    seen: set[str] = set()
    first = []
    for key in probable:
        if not seen.issuperset(kinds := terms(known[key]).keys()):
            first.append(key)
            seen |= kinds
    return [*first, *(key for key in probable if key not in first)]


def _shapes(space: Space, codes: Codes) -> dict[str, Shape]:
    """Input shapes of networks and units, without the batch."""
    sides = [space.decode(code).resolution for code in codes]
    return {
        **{f"network {k}": (space.in_chs, side, side) for k, side in enumerate(sides)},
        **{key: (unit.in_chs, unit.size, unit.size) for key, unit in all_units(space).items()},
    }
