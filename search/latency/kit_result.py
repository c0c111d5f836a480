"""From what a kit measured to a table. A damaged, truncated or foreign file is refused by name and line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search.errors import UserError
from search.latency.bench import all_units
from search.latency.calibrate import build
from search.latency.ruler.standalone import SCHEMA
from search.latency.table import Device, LatencyTable, Setting
from spaces.custom import space_of
from spaces.errors import SpaceError

FROM_HEADER = ("runtime", "runtime_version", "threads", "batch", "dtype", "lowering", "space", "num_classes", "in_chs")


def import_result(path: Path, out: Path) -> LatencyTable:
    """Makes the table of a kit's result and writes it to `out`.

    Raises:
        UserError: the file is damaged, cut short or no kit's result; names the line.
    """
    rows = list(_rows(path))
    header = rows[0] if rows else {}
    if header.get("schema") != SCHEMA:
        raise UserError(f"{path}, line 1, is no header of a kit's result ({SCHEMA})")
    try:
        space, device = space_of(header["space"]), Device.model_validate(header["device"])
        setting = Setting(
            space_id=header["space_id"],
            resolution=space.resolution,
            **{key: header[key] for key in FROM_HEADER},
        )
        planned = {"networks": header["networks"], "fit_networks": header["fit_networks"], "seed": header["seed"]}
    except (KeyError, TypeError, ValueError, SpaceError) as error:
        raise UserError(f"{path}, line 1: {' '.join(str(error).split())[:200]}") from None
    if space.id != header["space_id"]:
        raise UserError(
            f"{path}, line 1: the kit is of another space {space.name}: {header['space_id']}, not {space.id}"
        )
    known = set(all_units(space)) | {f"network {k}" for k in range(len(header["networks"]))}
    seen: set[tuple[str, int]] = set()
    for number, row in enumerate(rows[1:], 2):
        if "item" in row:
            _check_visit(path, number, row, known, seen)
    if rows[-1].get("visits") != len(seen):
        raise UserError(
            f"{path} ends at line {len(rows)}, before the calibration was finished: "
            "the same calibrate.py goes on with it"
        )
    table = build(space, planned, rows[1:], setting, device)
    table.save(out)
    return table


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    lines = content.split(b"\n")
    if lines[-1]:
        raise UserError(f"{path}, line {len(lines)}, is cut short: the same calibrate.py goes on with it")
    for number, line in enumerate(lines[:-1], 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number}, is damaged: {error}") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}, is no JSON object")
        yield row


def _check_visit(path: Path, number: int, row: dict[str, Any], known: set[str], seen: set[tuple[str, int]]) -> None:
    if row["item"] not in known:
        raise UserError(f"{path}, line {number}: the space has no {row['item']!r}")
    for key in ("min_ms", "reference_ms", "at_s", "visit"):
        value = row.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise UserError(f"{path}, line {number}: {key} must be a number from zero, but got {value!r}")
    if not (row["min_ms"] and row["reference_ms"]):
        raise UserError(f"{path}, line {number}: nothing takes zero milliseconds")
    if (row["item"], row["visit"]) in seen:
        raise UserError(f"{path}, line {number}: visit {row['visit']} to {row['item']!r} stands there twice")
    seen.add((row["item"], row["visit"]))
