"""The lines of a calibration's log, wherever it was made: measurements of items, and how many units and rounds
fitted."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from search.errors import UserError
from search.files import JsonObject
from search.latency.table import MOST_BYTES
from search.records import Count, Milliseconds, Record, Seconds, parse_record


class Measurement(Record):
    """A measurement of an item: a unit by its key, or `network 0`, `network 1`, ...

    `reference_ms` says how quiet the machine was."""

    model_config = ConfigDict(extra="allow")
    item: str
    visit: Count
    at_s: Seconds
    seconds: Seconds = 0.0
    min_ms: Milliseconds
    reference_ms: Milliseconds


class RoundsPlan(Record):
    """How many units and rounds fit into the time box."""

    units: Count
    rounds: Annotated[int, Field(ge=1, le=1000)]


class OtherLine(Record):
    """A line that is no measurement: what was settled, the machine's state when a round began, or the bytes that a
    network takes at its peak, by the network's name."""

    model_config = ConfigDict(extra="allow")
    settled: RoundsPlan | None = None
    peak_bytes: dict[str, Annotated[int, Field(ge=1, le=MOST_BYTES)]] = Field(default={})


Line = Measurement | OtherLine


def measurements_log(out: Path) -> Path:
    """Where the measurements of a table are logged."""
    return out.with_name(out.name + ".visits.jsonl")


def parse_measurements(lines: Iterable[tuple[str, JsonObject]], items: Collection[str]) -> list[Line]:
    """The lines of a calibration, if they are that, each measurement once.

    Args:
        lines: each with its place, for the message.
        items: those that can be measured; networks as `network 0`, `network 1`, ...

    Raises:
        UserError: a line is something else.
    """
    parsed: list[Line] = []
    seen: set[tuple[str, int]] = set()
    for line, row in lines:
        if "item" not in row:
            parsed.append(other := parse_record(OtherLine, row, line))
            if unknown := other.peak_bytes.keys() - items:
                raise UserError(f"{line}: the space has no {min(unknown)[:80]!r}")
            continue
        measurement = parse_record(Measurement, row, line)
        if measurement.item not in items:
            raise UserError(f"{line}: the space has no {measurement.item[:80]!r}")
        if (which := (measurement.item, measurement.visit)) in seen:
            raise UserError(f"{line}: visit {measurement.visit} to {measurement.item!r} stands there twice")
        seen.add(which)
        parsed.append(measurement)
    return parsed


def peak_bytes(lines: Iterable[Line]) -> dict[str, int]:
    """The bytes of networks whose peak memory was measured, by their names."""
    others = (line for line in lines if isinstance(line, OtherLine))
    return {name: taken for line in others for name, taken in line.peak_bytes.items()}


def by_item(lines: Iterable[Line]) -> dict[str, list[Measurement]]:
    """The measurements of each item, in order."""
    measurements: dict[str, list[Measurement]] = defaultdict(list)
    for line in lines:
        if isinstance(line, Measurement):
            measurements[line.item].append(line)
    return dict(measurements)
