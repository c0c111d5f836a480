"""The lines of a calibration's log, wherever it was made: measurements of items, and how many units and rounds
fitted."""

from collections.abc import Collection, Iterable
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from search.errors import UserError
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
    """A line that is no measurement: what was settled, or the machine's state when a round began."""

    model_config = ConfigDict(extra="allow")
    settled: RoundsPlan | None = None


def check_measurements(lines: Iterable[tuple[str, dict[str, Any]]], items: Collection[str]) -> list[dict[str, Any]]:
    """The lines again, if they are a calibration's, each measurement once.

    Args:
        lines: each with its place, for the message.
        items: those that can be measured.

    Raises:
        UserError: a line is something else.
    """
    rows: list[dict[str, Any]] = []
    seen: set[tuple[str, int]] = set()
    for line, row in lines:
        parse_record(Measurement if "item" in row else OtherLine, row, line)
        if "item" in row:
            if row["item"] not in items:
                raise UserError(f"{line}: the space has no {row['item'][:80]!r}")
            if (which := (row["item"], row["visit"])) in seen:
                raise UserError(f"{line}: visit {row['visit']} to {row['item']!r} stands there twice")
            seen.add(which)
        rows.append(row)
    return rows
