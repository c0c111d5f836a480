"""Everything that is needed to repeat a run, or a part of it: commands, the recipe, seeds, data, device and versions.

Commands are for a shell in the page's folder, which has the recipe.
"""

import os
from dataclasses import asdict
from pathlib import Path
from shlex import join
from typing import Any

import tomli_w

from ghostnet.files import WEIGHTS_FILE
from search.data.names import image_files
from search.export.manifest import MANIFEST, read_manifest
from search.files import glob
from search.recipes.schema import Recipe
from search.report import page
from search.report.summary import Summary, TrainedNetwork
from search.run_folder.run import EXPORTS, REPORT, final_supernet, initial_weights
from search.secrets import without_secrets

FOLDER, RECIPE = Path(REPORT).parent, "recipe.toml"


def section(summary: Summary) -> str:
    """The recipe in full, and what it ran on."""
    assert summary.recipe
    command = ["ghostnas", "run", RECIPE, "--data", _data(summary), "--out", f"results/{summary.recipe.name}"]
    table_rows: dict[str, object] = {"seed": summary.recipe.seed, "space id": summary.space.id}
    if table := summary.table:
        device, setting = table.device, table.setting
        table_rows |= {
            "device": f"{device.cpu}, {device.cores} cores, {device.system}",
            "runtime": f"{setting.runtime} {setting.runtime_version}, {setting.dtype}, lowering {setting.lowering}",
            "calibrated": table.protocol.finished,
            "latency table": table.content_sha256,
        }
    manifests = glob(summary.folder / EXPORTS, f"*/{MANIFEST}")
    if manifests:
        versions = read_manifest(manifests[0].parent).versions
        table_rows |= {f"{key} version": value for key, value in versions.items()}
    rows: list[page.Row] = [("", [key, str(value)]) for key, value in table_rows.items()]
    hashes: list[page.Row] = []
    for path in manifests:
        for file, recorded in read_manifest(path.parent).files.items():
            hashes.append(("", [f"{path.parent.name}/{file}", recorded.sha256]))
    parts = [
        page.paragraph(f"In a shell in this page's folder, which has the recipe as {RECIPE}:"),
        page.code(join(command)),
        page.details("The recipe", f"<pre>{page.escape(recipe_toml(summary.recipe, summary.folder / FOLDER))}</pre>"),
        page.details("Machine and versions", page.table(["", ""], rows)),
    ]
    if hashes:
        parts.append(page.details("SHA-256 of every exported file", page.table(["file", "SHA-256"], hashes)))
    return "".join(parts)


def commands(summary: Summary, network: TrainedNetwork) -> list[str]:
    """How to train a network again (unless it is the parent, which a run's first stage trains, or the recipe is not
    known), and how to export it."""
    folder = _up(network.folder, summary)
    lines = []
    if summary.recipe and network.kind != "parent":
        seeds = ["--seeds" if len(network.seeds) > 1 else "--seed", ",".join(map(str, network.seeds))]
        begin = initial_weights(summary.recipe, Path("..") / final_supernet(summary.folder).name)
        options = [text for key, value in asdict(begin).items() if value for text in (f"--{key}", str(value))]
        if network.stretched or network.ended != "schedule":  # by a time box
            options += ["--epochs", f"{network.repeated_epochs:.10g}"]
        words = [folder, "--data", _data(summary), "--recipe", RECIPE, *seeds, *options]
        lines.append(join(["ghostnas", "retrain", *words, "--out", f"results/{network.name}-again"]))
    words = [folder, "--weights", f"{folder}/{WEIGHTS_FILE}", "--to", "onnx,safetensors"]
    lines.append(join(["ghostnas", "export", *words, "--out", f"results/{network.name}-exported"]))
    return lines


def _up(folder: Path, summary: Summary) -> str:
    """A folder of the run, seen from the page's."""
    return (Path("..") / folder.relative_to(summary.folder)).as_posix()


def _data(summary: Summary) -> str:
    """The data set's name, its path seen from the page's folder where it is relative and there."""
    source = image_files(summary.data)
    if source is None or source.folder.is_absolute() or not source.folder.exists():
        return summary.data
    return source.moved(Path(os.path.relpath(source.folder, summary.folder / FOLDER))).name


def recipe_toml(recipe: Recipe, folder: Path | None = None) -> str:
    """A recipe as the TOML that gives it again; what is None is left out.

    Args:
        folder: from which its parent is seen, where that is a relative path.
    """
    values = recipe.model_dump(mode="json", exclude={"name"})
    parent = values["supernet"].get("parent")
    if folder and parent and Path(parent).exists() and not Path(parent).is_absolute():
        values["supernet"]["parent"] = Path(os.path.relpath(parent, folder)).as_posix()
    return tomli_w.dumps({key: _for_toml(value) for key, value in values.items() if value is not None})


def _for_toml(value: Any) -> Any:
    """Without what is None, which TOML can't say, and without secrets, which runs of earlier versions kept."""
    if isinstance(value, dict):
        return {k: _for_toml(v) for k, v in value.items() if v is not None}
    return without_secrets(value) if isinstance(value, str) else value
