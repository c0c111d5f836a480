"""`manifest.json`: what an export is, and every file of it with its SHA-256."""

from pathlib import Path
from typing import Any

from search.errors import UserError
from search.files import read_json

SCHEMA = "ghostnas.manifest/1"
MANIFEST, ARCH = "manifest.json", "arch.json"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an export.

    Raises:
        UserError: there is none, or one that this version can't read.
    """
    try:
        manifest = read_json(folder / MANIFEST)
    except OSError as error:
        raise UserError(f"{folder} holds no export: {MANIFEST}: {error.strerror}") from None
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema != SCHEMA:
        raise UserError(f"`schema` of {folder / MANIFEST} must be {SCHEMA!r}, but got {schema!r}")
    wanted = {"arch": str, "macs": int, "num_classes": int, "in_chs": int, "files": dict}
    for key, kind in wanted.items():
        if not isinstance(manifest.get(key), kind):
            raise UserError(f"{folder / MANIFEST} has no `{key}`")
    for name, said in manifest["files"].items():
        inside = not Path(name).is_absolute() and ".." not in Path(name).parts
        if not inside or not isinstance(said, dict) or not isinstance(said.get("sha256"), str):
            raise UserError(f"{folder / MANIFEST} lists {name!r}, which is no file of the folder with a SHA-256")
    return manifest
