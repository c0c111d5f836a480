"""Everything that is needed to repeat a run: its recipe, seeds, data, device and versions."""

from typing import Any

import tomli_w

from search.export.manifest import read_manifest
from search.files import glob
from search.recipes.schema import Recipe
from search.report import page
from search.report.summary import Summary
from search.secrets import without_secrets


def section(summary: Summary) -> str:
    """The recipe in full, and what it ran on."""
    assert summary.recipe
    name = summary.recipe.name
    command = f"ghostnas run recipe.toml --out results/{name}   # the recipe lies beside this page"
    table_rows: dict[str, Any] = {"seed": summary.recipe.seed, "space id": summary.space.id}
    if table := summary.table:
        device, setting = table.device, table.setting
        table_rows |= {
            "device": f"{device.cpu}, {device.cores} cores, {device.system}",
            "runtime": f"{setting.runtime} {setting.runtime_version}, {setting.dtype}, lowering {setting.lowering}",
            "calibrated": table.protocol.finished,
            "latency table": table.content_sha256,
        }
    manifests = glob(summary.folder / "export", "*/manifest.json")
    if manifests:
        versions = read_manifest(manifests[0].parent).versions
        table_rows |= {f"{key} version": value for key, value in versions.items()}
    rows: list[page.Row] = [("", [key, str(value)]) for key, value in table_rows.items()]
    hashes: list[page.Row] = []
    for path in manifests:
        for file, recorded in read_manifest(path.parent).files.items():
            hashes.append(("", [f"{path.parent.name}/{file}", recorded.sha256]))
    parts = [
        f"<pre>{page.escape(command)}</pre>",
        page.details("The recipe", f"<pre>{page.escape(recipe_toml(summary.recipe))}</pre>"),
        page.details("Machine and versions", page.table(["", ""], rows)),
    ]
    if hashes:
        parts.append(page.details("SHA-256 of every exported file", page.table(["file", "SHA-256"], hashes)))
    return "".join(parts)


def recipe_toml(recipe: Recipe) -> str:
    """A recipe as the TOML that gives it again; what is None is left out."""
    values = recipe.model_dump(mode="json", exclude={"name"})
    return tomli_w.dumps({key: _for_toml(value) for key, value in values.items() if value is not None})


def _for_toml(value: Any) -> Any:
    """Without what is None, which TOML can't say, and without secrets, which runs of earlier versions kept."""
    if isinstance(value, dict):
        return {k: _for_toml(v) for k, v in value.items() if v is not None}
    return without_secrets(value) if isinstance(value, str) else value
