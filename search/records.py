"""What is in the files that this package writes, as types: one reader and one writer for all of them, one error where a
file breaks a rule. Each type stands beside its writer; names from files that become names of files or folders have a
type here.
"""

import json
import re
import reprlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from search.errors import UserError
from search.files import JsonObject, read_json, write_json
from spaces.encoding import check_code
from spaces.errors import SpaceError
from spaces.space import Space

R = TypeVar("R", bound=BaseModel)


class Record(BaseModel):
    """A file's content, or a line's. Values have their JSON type exactly, numbers are finite; keys that are not known
    are left alone, so that a later version may add some."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, populate_by_name=True)


def check_name(name: str) -> str:
    """The name again, if it may name a file or a folder inside the one where it is meant to be.

    Raises:
        ValueError: it may not.
    """
    if not re.fullmatch(r"\w[\w.-]{0,99}", name):
        raise ValueError(
            f"must be 1 to 100 letters, digits and . _ -, not beginning with . or -, but got {name[:100]!r}"
        )
    return name


def check_member(name: str) -> str:
    """A relative path of names with slashes: a file inside a folder.

    Raises:
        ValueError: it is another path.
    """
    if len(name) > 300:
        raise ValueError(f"must have at most 300 characters, but got {name[:80]!r}...")
    for part in name.split("/"):
        check_name(part)
    return name


Name = Annotated[str, AfterValidator(check_name)]
Member = Annotated[str, AfterValidator(check_member)]
ArchId = Annotated[str, Field(pattern=r"^[0-9a-f]{10}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
PositiveCount = Annotated[int, Field(ge=1)]
Code = Annotated[list[Annotated[int, Field(ge=0, le=1 << 20)]], Field(min_length=1, max_length=10_000)]  # of some space
FloatExactCount = Annotated[int, Field(ge=1, le=2**53)]  # positive, and the same number as a float
Share = Annotated[float, Field(ge=0, le=1)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]  # some thirty years
Milliseconds = Annotated[float, Field(ge=1e-6, le=1e7)]  # a nanosecond to some hours


def read_record(path: Path, kind: type[R]) -> R:
    """The record in a JSON file.

    Raises:
        UserError: no such file, not JSON, of another schema, or a value that breaks a rule; in one line with the place.
    """
    try:
        value = read_json(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    return parse_record(kind, value, str(path))


def parse_record(kind: type[R], value: Any, source: str) -> R:
    """The record that a JSON value is.

    Args:
        source: the file or the line that it comes from, for the message.

    Raises:
        UserError: it is another's, or breaks a rule.
    """
    if not isinstance(value, dict):
        raise UserError(f"{source} must be a JSON object, but got {brief(value)}")
    known, schema = schema_name(kind), value.get("schema")
    if known and schema != known and ("schema" in value or kind.model_fields["schema_"].is_required()):
        raise UserError(f"{source} has schema {brief(schema)}, but this version reads {known!r}")
    if "root" not in kind.model_fields and kind.model_config.get("extra", "ignore") == "ignore":
        keys = {field.alias or name for name, field in kind.model_fields.items()} | kind.model_fields.keys()
        value = {key: each for key, each in value.items() if key in keys or not _is_long(each)}
    try:
        return kind.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise UserError(f"{source}: {first_error(error, value)}") from None


def record_json(record: BaseModel) -> JsonObject:
    """A record as JSON has it: the schema first, then the fields that were given, by their keys."""
    name = schema_name(type(record))
    return ({"schema": name} if name else {}) | record.model_dump(mode="json", by_alias=True, exclude_unset=True)


def check_codes(codes: Iterable[Sequence[int]], space: Space, source: str) -> None:
    """Checks that what a file has for codes of networks are a space's.

    Args:
        source: the file or the line that they come from, for the message.

    Raises:
        UserError: one of them is none.
    """
    try:
        for code in codes:
            check_code(space.layout, code)
    except SpaceError as error:
        raise UserError(f"{source}: {error}") from None


def write_record(path: Path, record: BaseModel) -> None:
    """Writes a record to a JSON file, completely or not at all."""
    write_json(path, record_json(record))


def brief(value: Any) -> str:
    """What a value is, for a message: at most 200 characters, however large and deep it is."""
    return reprlib.repr(value)[:200]


def _is_long(value: Any) -> bool:
    """Whether a value is one that pydantic had better not copy into every error, where nobody asks for it."""
    return isinstance(value, list | dict | str) and len(value) > 100


def schema_name(kind: type[BaseModel]) -> str | None:
    """The schema's name, of a record that has one."""
    field = kind.model_fields.get("schema_")
    return field.annotation.__args__[0] if field and field.annotation else None


def first_error(error: ValidationError, value: Any = None) -> str:
    """What is wrong first, in a line: the place in the value, the rule, and what stands there.

    Args:
        value: what was validated, from a file; pydantic would make another of it for every error, however large it is.
    """
    first = error.errors(include_url=False, include_input=value is None)[0]
    where = repr(".".join(map(str, first["loc"])))[1:-1] or "the whole"  # keys may have line breaks and worse
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in ("missing", "value_error"):
        return f"{where[:120]}: {message}"
    return f"{where[:120]}: {message}, but got {brief(first['input'] if value is None else _at(value, first['loc']))}"


def _at(value: Any, place: Sequence[int | str]) -> Any:
    """What stands at a place in a JSON value; steps that name a kind of a union lead nowhere."""
    for step in place:
        known = isinstance(value, dict) and step in value
        if known or (isinstance(value, list) and isinstance(step, int) and step < len(value)):
            value = value[step]
    return value
