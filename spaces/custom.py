"""Spaces that users define: a `[space]` table in a TOML file, a recipe's or one of its own.

    [space]
    base = "cifar"                # a preset; every other key overrides its value
    widths = [0.5, 1.0]
    dw_kernels = [3, 5]

Without a `base` the family is given, too: `rows` as stages of [kernel, hidden, output channels, SE ratio, stride].
"""

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, astuple, fields, replace
from pathlib import Path
from typing import Any

from ghostnet.files import TomlDocument, parse_toml, read_bytes
from ghostnet.published import Row
from spaces.checks import to_text
from spaces.errors import SpaceError
from spaces.presets import PRESETS, named_space
from spaces.space import Space
from spaces.spec import FILE_KEYS, NAME

MOST_BYTES = 1 << 20  # of a file with a space
MOST_UNITS = 2_000_000  # of a space's tables: some minutes to make, 16 MB each
KEYS = {FILE_KEYS.get(field.name, field.name): field.name for field in fields(Space)}  # a file's key: the field
NEEDED = tuple(field.name for field in fields(Space) if field.default is MISSING and field.name != "name")
SpaceRecord = str | Mapping[str, object]  # a space as files have it: a preset's name, or its whole table


def load_space(name: str | Path) -> Space:
    """A preset by name, or the `[space]` of a `.toml` file.

    Raises:
        SpaceError: no such preset or file, or the file has no possible space.
    """
    path = Path(name)
    if path.suffix != ".toml":
        return named_space(str(name))
    try:
        data = parse_toml(read_bytes(path, MOST_BYTES).decode("utf-8-sig")).get("space")
    except (OSError, UnicodeDecodeError) as error:
        raise SpaceError(f"{path}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    except ValueError as error:
        raise SpaceError(f"{path}: not TOML: {error}") from None
    try:
        if isinstance(data, str):  # a recipe that names a preset
            return named_space(data)
        if data is None:
            raise SpaceError("there is no `[space]` table")
        return space_from_dict(
            data, path.stem if re.fullmatch(NAME, path.stem) and path.stem not in PRESETS else "custom"
        )
    except SpaceError as error:
        raise SpaceError(f"{path}: {error}") from None


def space_to_dict(space: Space) -> SpaceRecord:
    """A space as files have it: a preset's name (which leaves out the data's classes and channels), or its whole
    table."""
    for name, preset in PRESETS.items():
        if space == replace(preset, num_classes=space.num_classes, in_chs=space.in_chs):
            return name
    values = {key: getattr(space, name) for key, name in KEYS.items()}
    values["rows"] = [[list(astuple(row)) for row in stage] for stage in space.rows]
    return {key: _thawed(value) for key, value in values.items() if value is not None}


def parse_space(record: object) -> Space:
    """The space of a record, such as a latency table's: the inverse of `space_to_dict`.

    Raises:
        SpaceError: no such preset, or an impossible table.
    """
    return named_space(record) if isinstance(record, str) else space_from_dict(record, recorded=True)


def space_from_dict(data: object, name: str = "custom", *, recorded: bool = False) -> Space:
    """The space that a `[space]` table means.

    Args:
        name: the space's, where the table has none.
        recorded: whether it is a record of a space, which may be one that was made of a preset in Python and kept its
            name; a user's own must have another.

    Raises:
        SpaceError: an unknown, missing or impossible value; one line with the key, the rule and the value.
    """
    if not isinstance(data, Mapping):
        raise SpaceError(f"`[space]` must be a table, but got {to_text(data)}")
    if unknown := sorted(set(map(str, data)) - {"base", *KEYS}):
        raise SpaceError(f"`[space]` has no key `{unknown[0][:80]}`; it has base, {', '.join(KEYS)}")
    values = {KEYS[key]: _frozen(value) for key, value in data.items() if key != "base"}
    if "rows" in values:
        values["rows"] = _rows(values["rows"])
    values.setdefault("name", name)
    if values["name"] in tuple(PRESETS) and not recorded:
        raise SpaceError(f"`name` must be none of the presets', but got {to_text(values['name'])}")
    if "base" in data:
        base = _base(data["base"])
        space = replace(base, **_fitted(base, values))
    else:
        if "resolutions" in values:
            values.setdefault("resolution", _last(values["resolutions"]))
        if missing := [key for key in NEEDED if key not in values]:
            raise SpaceError(f"`[space]` without a `base` must have {', '.join(NEEDED)}, but lacks `{missing[0]}`")
        space = Space(**values)
    units = sum(
        math.prod(len(space.genes[gene].choices) for gene in position.genes) for position in space.layout.positions
    )
    if units > MOST_UNITS:
        raise SpaceError(
            f"a space must make at most {MOST_UNITS:,} different blocks, counted with their neighbours' widths, but "
            f"{space.name} makes {units:,}: fewer choices of widths, kernels, expansions or resolutions are needed"
        )
    return space


def _base(name: Any) -> Space:
    if not isinstance(name, str) or name not in PRESETS:
        raise SpaceError(f"`base` must be one of {', '.join(PRESETS)}, but got {to_text(name)}")
    return PRESETS[name]


def _fitted(base: Space, values: TomlDocument) -> TomlDocument:
    """The overrides, and what of the base they leave no room for: depths of other rows, another resolution."""
    if "rows" in values:
        values = {"depths": None, "baseline_depths": None} | values
    if "resolution" in values:
        values = {"resolutions": ()} | values
    elif isinstance(sides := values.get("resolutions"), tuple) and sides and base.resolution not in sides:
        values["resolution"] = _last(sides)
    return values


def _last(resolutions: Any) -> Any:
    """The largest of the resolutions, or what they are instead, for the checks to refuse."""
    sides = resolutions if isinstance(resolutions, tuple) else ()
    return max((side for side in sides if type(side) is int), default=resolutions)


def _thawed(value: Any) -> Any:
    return list(map(_thawed, value)) if isinstance(value, tuple | list) else value


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _rows(stages: Any) -> Any:
    """Lists of five as `Row`s; anything else stays for the checks to refuse."""
    if not isinstance(stages, tuple) or not all(isinstance(stage, tuple) for stage in stages):
        return stages
    return tuple(
        tuple(Row(*row) if isinstance(row, tuple) and len(row) == 5 else row for row in stage) for stage in stages
    )
