"""Everything that repeats a run: its recipe, seeds, data, device and versions."""

import json
from typing import Any

from search.files import read_json
from search.report import page
from search.report.summary import Summary


def section(summary: Summary) -> str:
    """The recipe in full, and what it ran on."""
    name = summary.recipe["name"]
    command = f"ghostnas run recipe.toml --out results/{name}   # the recipe lies beside this page"
    facts: dict[str, Any] = {"seed": summary.recipe["seed"], "space id": summary.space.id}
    if table := summary.table:
        device, setting = table.device, table.setting
        facts |= {
            "device": f"{device.cpu}, {device.cores} cores, {device.system}",
            "runtime": f"{setting.runtime} {setting.runtime_version}, {setting.dtype}, lowering {setting.lowering}",
            "calibrated": table.protocol.finished,
            "latency table": table.content_sha256,
        }
    manifests = sorted((summary.folder / "export").glob("*/manifest.json"))
    if manifests:
        facts |= {f"{key} version": value for key, value in read_json(manifests[0])["versions"].items()}
    rows: list[page.Row] = [("", [key, str(value)]) for key, value in facts.items()]
    hashes: list[page.Row] = []
    for path in manifests:
        for file, said in read_json(path)["files"].items():
            hashes.append(("", [f"{path.parent.name}/{file}", said["sha256"]]))
    parts = [
        f"<pre>{page.escape(command)}</pre>",
        page.details("The recipe", f"<pre>{page.escape(recipe_toml(summary.recipe))}</pre>"),
        page.details("Machine and versions", page.table(["", ""], rows)),
    ]
    if hashes:
        parts.append(page.details("SHA-256 of every exported file", page.table(["file", "SHA-256"], hashes)))
    return "".join(parts)


def recipe_toml(recipe: dict[str, Any]) -> str:
    """A recipe as the TOML that gives it again; what is None is left out."""
    lines, tables = [], []
    for key, value in recipe.items():
        if isinstance(value, dict):
            tables.append((key, value))
        elif value is not None and key != "name":
            lines.append(f"{key} = {_value(value)}")
    for key, values in tables:
        lines += ["", f"[{key}]", *(f"{k} = {_value(v)}" for k, v in values.items() if v is not None)]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """Strings, numbers, booleans and lists look alike in JSON and TOML; tables in line don't."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items() if v is not None) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)
