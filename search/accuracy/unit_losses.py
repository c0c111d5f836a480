"""The unit losses of a transplanted supernet, for all of its space: the twin of a latency table. Some units of each
position are measured, once, and kept in the supernet's folder; a computation that was stopped goes on. The others are
predicted from them, by a Gaussian process over the choices of the position's genes: on `cifar16` three tenths of the
units rank networks as all of them do (`results/weights/units.md`)."""

import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ghostnet.arch import Arch
from ghostnet.transplant.unit_losses import UnitLosses
from ghostnet.units import Unit
from ghostnet.units import units as units_of
from search.data.datasets import Data
from search.deadlines import has_passed
from search.folders import locked
from search.gaussian_process import GaussianProcess
from search.progress import bar, warn
from search.records import Count, Record, read_record, write_record
from search.training.inherited import fit_inputs
from search.training.metadata import PARENT_ARCH, read_metadata, supernet_id
from spaces.space import Space
from spaces.tables import UnitTable, space_units

FILE = "unit-losses.json"
IMAGES = 256  # that units are fitted and judged on
MEASURED, LEAST = 0.3, 24  # of a position's units, the share that is measured, and so many at least
FEWEST = 3  # that are measured also where there is no time
SEED = 31  # by which units are drawn
SAVE_SECONDS = 10.0
Floats = NDArray[np.float64]
Nats = Annotated[float, Field(gt=-1, lt=1e30)]  # a divergence, a little below 0 by rounding; its sums are finite


class UnitLossFile(Record):
    """What is known of a supernet's units.

    Args:
        supernet: id of the supernet.
        images: that units were fitted and judged on.
        losses: nats, by the unit's place and key, `blocks.1.0 ghost 8>24>12 ...`; a place alone is a block left out.
    """

    schema_: Literal["ghostnas.unit-losses/1"] = Field(default="ghostnas.unit-losses/1", alias="schema")
    supernet: str
    images: Count
    losses: dict[str, Nats]


def unit_losses(supernet: Path, data: Data, deadline: float | None = None, count: int | None = None) -> UnitTable:
    """What the parent loses by every unit of the space, in nats; measures what the folder doesn't have yet of
    `measured_units`, and predicts the others.

    Args:
        supernet: one that has unit losses, as `search.recipes.schema.check_has_parent` says.
        deadline: by `time.monotonic()`, after which no further ones are measured, once each position has some.
        count: of the losses that are gone by, the first to be measured, however long that takes; None: all that there
            are, and that there is time for.

    Raises:
        UserError: the file in its folder is damaged.
    """
    _, space = read_metadata(supernet)
    known = read_losses(supernet / FILE, supernet_id(supernet))
    planned = measured_units(space, Arch.load(supernet / PARENT_ARCH))
    part = count is not None and count < len(planned)
    if count is not None:
        planned, deadline = dict(islice(planned.items(), count)), None
    if known is None or planned.keys() - known.losses.keys():  # else the folder may be another user's, and read-only
        with locked(supernet):
            known = _completed(supernet, data, planned, FEWEST * len(space.layout.positions), deadline)
    values = []
    for position, units in zip(space.layout.positions, space_units(space), strict=True):
        keys = [_key(position.name, unit) for unit in units.flat]
        losses = [np.nan if part and key not in planned else known.losses.get(key, np.nan) for key in keys]
        dropped = np.array([unit is None for unit in units.flat])
        values.append(_filled(np.array(losses).reshape(units.shape), dropped.reshape(units.shape)))
    return UnitTable.of(space, values)


def measured_losses(supernet: Path, count: int | None = None) -> dict[str, float]:
    """The losses that a supernet's folder has of the first `count` units that are to be measured, or of all of them."""
    _, space = read_metadata(supernet)
    known = read_losses(supernet / FILE, supernet_id(supernet))
    planned = islice(measured_units(space, Arch.load(supernet / PARENT_ARCH)), count)
    return {key: known.losses[key] for key in planned if key in known.losses} if known else {}


def measured_units(space: Space, parent: Arch) -> dict[str, tuple[str, Unit | None]]:
    """The units whose losses are measured, with the name of their position, by their key in the file: in turn of all
    positions, of each a block left out first, the parent's own unit, then others as they are drawn."""
    own = {unit.key for unit in units_of(parent, space.num_classes, space.in_chs)}
    rng, turns = np.random.default_rng(SEED), list[tuple[int, str, tuple[str, Unit | None]]]()
    for position, units in zip(space.layout.positions, space_units(space), strict=True):
        places = {_key(position.name, unit): (position.name, unit) for unit in units.flat}
        first = {key: (unit is not None, unit is not None and unit.key not in own) for key, (_, unit) in places.items()}
        order = sorted(rng.permutation([*places]).tolist(), key=first.__getitem__)
        count = max(LEAST, round(MEASURED * len(order)))
        turns += [(k, key, places[key]) for k, key in enumerate(order[:count])]
    return {key: place for _, key, place in sorted(turns, key=lambda turn: turn[0])}


def _filled(losses: Floats, dropped: NDArray[np.bool_]) -> Floats:
    """A position's losses over its genes' choices, those that are not a number predicted from the others. A block that
    is left out is no example of what its neighbours lose."""
    known = np.isfinite(losses)
    if known.all():
        return losses
    places = np.argwhere(np.ones_like(known)) / np.maximum(np.array(losses.shape) - 1, 1)
    examples = np.flatnonzero(known & ~dropped)
    x, y = places[examples], np.log1p(np.maximum(losses.flat[examples], 0))
    predicted = np.expm1(np.maximum(GaussianProcess(x, y).predict(places)[0], 0)).reshape(losses.shape)
    return np.where(known, losses, predicted)


def read_losses(path: Path, supernet: str) -> UnitLossFile | None:
    """What a file has for the supernet of that id; None where it is another's, or there is none.

    Raises:
        UserError: it is no such file.
    """
    known = read_record(path, UnitLossFile) if path.exists() else None
    return known if known and (known.supernet, known.images) == (supernet, IMAGES) else None


def _completed(
    supernet: Path, data: Data, planned: Mapping[str, tuple[str, Unit | None]], fewest: int, deadline: float | None
) -> UnitLossFile:
    path, of = supernet / FILE, supernet_id(supernet)
    known = read_losses(path, of) or UnitLossFile(supernet=of, images=IMAGES, losses={})
    missing = {key: place for key, place in planned.items() if key not in known.losses}
    needed = {*islice(planned, fewest)}
    if not missing or (has_passed(deadline) and needed <= known.losses.keys()):
        return known
    measure = UnitLosses(*fit_inputs(supernet, data, IMAGES))
    saved = time.monotonic()
    with bar("unit losses", len(missing), deadline) as progress:
        for k, (key, (name, unit)) in enumerate(missing.items()):
            if has_passed(deadline) and key not in needed:
                break
            progress.update(k)
            known.losses[key] = measure(name, unit)
            if time.monotonic() - saved > SAVE_SECONDS:
                write_record(path, known)
                saved = time.monotonic()
    write_record(path, known)
    if left := len(planned.keys() - known.losses.keys()):
        warn(
            f"of {len(planned)} units that the parent's losses are to be measured of, {left} are left out in this time "
            "box: losses are predicted from fewer"
        )
    return known


def _key(name: str, unit: Unit | None) -> str:
    return f"{name} {unit.key}" if unit else name
