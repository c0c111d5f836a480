"""Tables of READMEs that name keys and fields name all of them, with the defaults that they have."""

import json
import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from search.export.consistency import EMBEDDED
from search.export.manifest import ExportedFile, Manifest
from search.recipes import schema
from spaces.custom import KEYS
from spaces.spec import SpaceSpec

ROOT = Path(__file__).parent.parent
PARTS = {
    "search/README.md": [schema.Recipe],
    "search/training/README.md": [schema.Retraining, schema.ParentTraining, schema.SupernetTraining],
    "search/latency/README.md": [schema.Calibration],
    "search/accuracy/README.md": [schema.Fidelity],
    "search/engine/README.md": [schema.Search],
}


def shown(default: object) -> str:
    """A default as the tables have it: as in JSON, but for what a key needs and what it lacks."""
    if default in (PydanticUndefined, MISSING):
        return "required"
    if isinstance(default, BaseModel):
        return "table"
    return "none" if default is None else json.dumps(default)


def table_rows(readme: str, head: str) -> list[list[list[str]]]:
    """Rows of the tables whose first heads begin so, as the `names` in each cell."""
    tables = re.findall(rf"^\| {head}[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n)+)", (ROOT / readme).read_text(), re.MULTILINE)
    assert tables, f"{readme} has no table of {head}"
    rows = [row for table in tables for row in table.splitlines()]
    return [[re.findall(r"`([^`]*)`", cell) for cell in row.strip("|").split("|")] for row in rows]


def keys_of(readme: str) -> set[tuple[str, str]]:
    """The keys of a recipe that a README has in its tables, with their defaults."""
    return {pair for keys, defaults, *_ in table_rows(readme, "key") for pair in zip(keys, defaults, strict=True)}


def test_every_part_of_a_recipe_has_a_room():
    parts = {kind for kinds in PARTS.values() for kind in kinds}
    inside = {name: field.annotation for name, field in schema.Recipe.model_fields.items()}
    supernets = set(schema.KINDS.values())
    assert parts == {
        schema.Recipe,
        *supernets,
        *(inside[name] for name in ("latency", "fidelity", "search", "retrain")),
    }
    others = {name for name, kind in inside.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}
    assert others == {"latency", "fidelity", "search", "retrain"}


@pytest.mark.parametrize("readme", PARTS)
def test_every_key_of_a_recipe_stands_in_the_readme_of_its_room(readme):
    fields_of = [(kind, name, field) for kind in PARTS[readme] for name, field in kind.model_fields.items()]
    # A recipe that doesn't say a supernet's kind means the elastic one.
    usual = {(n, shown(f.default)) for kind, n, f in fields_of if (kind, n) != (schema.ParentTraining, "kind")}
    assert keys_of(readme) == usual


def test_every_key_of_a_space_stands_in_its_readme():
    defaults = {field.name: shown(field.default) for field in fields(SpaceSpec)}
    assert keys_of("spaces/README.md") == {(key, defaults[name]) for key, name in KEYS.items()}


def test_every_field_of_a_manifest_stands_in_the_readme_of_exports():
    rows = table_rows("search/export/README.md", "field of `manifest.json`")
    known = [field.alias or name for name, field in Manifest.model_fields.items()]
    assert sorted(name for names, *_ in rows for name in names) == sorted(known)
    (files,) = (text for names, text in rows if names == ["files"])
    assert (
        {"sha256", "bytes", "format", "macs", "latency_ms", "run_with"} == set(files) <= set(ExportedFile.model_fields)
    )


def test_what_exported_files_say_of_their_network_stands_in_the_readme_of_exports():
    text = (ROOT / "search/export/README.md").read_text()
    carried = re.search(r"ONNX and LiteRT files carry.*?JSON\)", text, re.DOTALL)
    assert carried and {*EMBEDDED, "input", "producer"} <= set(re.findall(r"`([^`]*)`", carried[0]))
