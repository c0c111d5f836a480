"""From what a kit measured to a table. A damaged, truncated or foreign file is refused by name and line."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from search.errors import UserError
from search.files import JsonObject, parse_json, read_bytes
from search.graphs.lowering import Lowering
from search.latency.bench import logged_units
from search.latency.calibrate import build_table
from search.latency.measurements import Line, Measurement, parse_measurements
from search.latency.runtimes import Dtype, kit_session
from search.latency.table import Device, LatencyTable, Setting
from search.latency.timing.rounds import FEWEST_NETWORKS
from search.latency.timing.standalone import SCHEMA
from search.latency.transfer import check_counts, check_source
from search.records import ArchId, Code, Count, Record, brief, check_codes, parse_record
from spaces.custom import SpaceRecord, parse_space
from spaces.errors import SpaceError
from spaces.space import Space

FROM_HEADER = ("runtime", "runtime_version", "threads", "batch", "dtype", "lowering", "space", "num_classes", "in_chs")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)  # as `now` writes it


class Header(Record):
    """The first line of a kit's result: what was timed, on which device, and the codes of the whole networks."""

    schema_: Literal["ghostnas.kit-result/1"] = Field(alias="schema")
    device: Device
    runtime: str
    runtime_version: str
    threads: Annotated[int, Field(ge=1, le=4096)]
    batch: Annotated[int, Field(ge=1)]
    dtype: Dtype
    lowering: Lowering
    space: SpaceRecord
    space_id: ArchId
    num_classes: Count
    in_chs: Annotated[int, Field(ge=1)]
    networks: Annotated[list[Code], Field(min_length=4)]
    fit_networks: Annotated[int, Field(ge=2)]
    seed: Count


def import_result(path: Path, out: Path, source: LatencyTable | None = None) -> LatencyTable:
    """Makes the table of a kit's result and writes it to `out`.

    Args:
        source: a table of another target, from which what was not measured is transferred.

    Raises:
        UserError: the file is damaged, cut short or no kit's result; names the line. Or the source is of another space,
            or there are too few networks to transfer it.
    """
    header, space, lines, finished = read_result(path)
    setting = Setting(
        space_id=header.space_id, resolution=space.resolution, **{key: getattr(header, key) for key in FROM_HEADER}
    )
    if source is not None:
        check_source(source, space, setting, header.device)
        check_counts(header.fit_networks, len(header.networks) - header.fit_networks)
    table = build_table(
        space,
        header.networks,
        header.fit_networks,
        lines,
        setting,
        header.device,
        seed=header.seed,
        source=source,
        finished=finished,
    )
    return table.save(out)


def read_result(path: Path) -> tuple[Header, Space, list[Line], str]:
    """The header of a kit's result, its space, the other lines, a whole calibration of that space, and when it was
    finished.

    Raises:
        UserError: as `import_result`.
    """
    rows = _rows(path)
    if not rows or rows[0].get("schema") != SCHEMA:
        raise UserError(f"{path}, line 1, is no header of a kit's result ({SCHEMA})")
    header = parse_record(Header, rows[0], f"{path}, line 1")
    try:
        kit_session(header.runtime, header.dtype)
        space = parse_space(header.space)
    except (SpaceError, UserError) as error:
        raise UserError(f"{path}, line 1: {error}") from None
    if not space.has_id(header.space_id):
        raise UserError(f"{path}, line 1: the kit is of another space {space.name}: {header.space_id}, not {space.id}")
    codes = header.networks
    check_codes(codes, space, f"{path}, line 1")
    if not header.fit_networks <= len(codes) - 2:
        raise UserError(f"{path}, line 1: `fit_networks` must leave two of {len(codes)}, but got {header.fit_networks}")
    known = logged_units(space) | {f"network {k}" for k in range(len(codes))}
    numbered = ((f"{path}, line {number}", row) for number, row in enumerate(rows[1:], 2))
    lines = parse_measurements(numbered, known)
    visited = [line.item for line in lines if isinstance(line, Measurement)]
    if rows[-1].get("visits") != len(visited):
        raise UserError(
            f"{path} ends at line {len(rows)}, before the calibration was finished: "
            "the same calibrate.py goes on with it"
        )
    finished = rows[-1].get("finished")
    if not isinstance(finished, str) or not TIME.fullmatch(finished):
        raise UserError(
            f"{path}, line {len(rows)}: `finished` must be a time such as 2026-01-31T12:00:00Z, but got "
            f"{brief(finished)}"
        )
    fitted, names = header.fit_networks, [f"network {k}" for k in range(len(codes))]
    for part, what in ((names[:fitted], "to fit on"), (names[fitted:], "held out")):
        if (seen := len(set(part) & set(visited))) < (fewest := min(FEWEST_NETWORKS, len(part))):
            raise UserError(f"{path} has visits to {seen} of the networks {what}, and a table takes {fewest}")
    return header, space, lines, finished


def _rows(path: Path) -> list[JsonObject]:
    try:
        lines = read_bytes(path).split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if lines[-1]:
        raise UserError(f"{path}, line {len(lines)}, is cut short: the same calibrate.py goes on with it")
    rows = [parse_json(line, f"{path}, line {number}") for number, line in enumerate(lines[:-1], 1)]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}, is no JSON object")
    return rows
