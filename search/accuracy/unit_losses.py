"""The unit losses of a transplanted supernet, for all of its space: the twin of a latency table. They are computed once
and kept in the supernet's folder; a computation that was stopped goes on."""

import time
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ghostnet.transplant.unit_losses import UnitLosses
from ghostnet.units import Unit
from search.data.datasets import Data
from search.files import write_json
from search.folders import locked
from search.progress import bar
from search.records import Count, Record, read_record
from search.training.inherited import fit_inputs
from search.training.metadata import read_metadata, supernet_id
from spaces.space import Space
from spaces.tables import UnitTable, space_units

FILE = "unit-losses.json"
IMAGES = 256  # that units are fitted and judged on
SAVE_SECONDS = 10.0
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


def unit_losses(supernet: Path, data: Data) -> UnitTable:
    """What the parent loses by every unit of the space, in nats; computes what the folder doesn't have yet.

    Args:
        supernet: one that has unit losses, as `search.recipes.schema.check_parent` says.

    Raises:
        UserError: the file in its folder is damaged.
    """
    _, space = read_metadata(supernet)
    known = read_losses(supernet / FILE, supernet_id(supernet))
    if known is None or _missing(space, known):  # else the folder may be another user's, and read-only
        with locked(supernet):
            known = _completed(supernet, data, space)
    values = [
        np.array([known.losses[_key(position.name, unit)] for unit in units.flat]).reshape(units.shape)
        for position, units in zip(space.layout.positions, space_units(space), strict=True)
    ]
    return UnitTable.of(space, values)


def read_losses(path: Path, supernet: str) -> UnitLossFile | None:
    """What a file has for the supernet of that id; None where it is another's, or there is none.

    Raises:
        UserError: it is no such file.
    """
    known = read_record(path, UnitLossFile) if path.exists() else None
    return known if known and (known.supernet, known.images) == (supernet, IMAGES) else None


def _missing(space: Space, known: UnitLossFile) -> dict[str, tuple[str, Unit | None]]:
    """The units of a space that have no loss yet, with the name of their position, by the key that they will have."""
    every = {
        _key(position.name, unit): (position.name, unit)
        for position, units in zip(space.layout.positions, space_units(space), strict=True)
        for unit in units.flat
    }
    return {key: each for key, each in every.items() if key not in known.losses}


def _completed(supernet: Path, data: Data, space: Space) -> UnitLossFile:
    path, of = supernet / FILE, supernet_id(supernet)
    known = read_losses(path, of) or UnitLossFile(supernet=of, images=IMAGES, losses={})
    if not (missing := _missing(space, known)):
        return known
    measure = UnitLosses(*fit_inputs(supernet, data, IMAGES))
    saved = time.monotonic()
    with bar("unit losses", len(missing)) as progress:
        for k, (key, (name, unit)) in enumerate(missing.items()):
            progress.update(k)
            known.losses[key] = measure(name, unit)
            if time.monotonic() - saved > SAVE_SECONDS:
                _save(path, known)
                saved = time.monotonic()
    _save(path, known)
    return known


def _key(name: str, unit: Unit | None) -> str:
    return f"{name} {unit.key}" if unit else name


def _save(path: Path, known: UnitLossFile) -> None:
    write_json(path, known.model_dump(by_alias=True))
