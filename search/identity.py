"""The record of what a file was made from. It is stored with the file and compared with what is asked for now.

That a file is there says only that something was finished. Whatever resumes, or takes what is finished, holds the
record against its own (`check_same`), so that another seed, data set or recipe never passes for the one that was meant.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.errors import UserError

Identity = Mapping[str, Any]  # JSON values, digests among them; never paths or times


def check_same(recorded: Any, asked: Identity, what: str) -> None:
    """Raises:
    UserError: `what` has another record than is asked for; says each field that differs, and both values.
    """
    if recorded is None:
        raise UserError(f"{what}: of an earlier version, which did not record what it is of")
    asked = json.loads(json.dumps(asked))  # tuples are lists in a file
    if different := list(_differences(recorded, asked, "")):
        more = f", and {len(different) - 3} more" if len(different) > 3 else ""
        raise UserError(f"{what}: {'; '.join(different[:3])}{more}")


def _differences(recorded: Any, asked: Any, where: str) -> list[str]:
    if isinstance(recorded, dict) and isinstance(asked, dict):
        keys = [*asked, *(key for key in recorded if key not in asked)]
        fields = ((recorded.get(key), asked.get(key), f"{where}.{key}".removeprefix(".")) for key in keys)
        return [line for each in fields for line in _differences(*each)]
    return [] if recorded == asked else [f"{where[:80] or 'it'} is {_short(recorded)}, not {_short(asked)}"]


def _short(value: Any) -> str:
    text = "unknown" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def digest(value: Any) -> str:
    """Ten hex digits of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's content.

    Raises:
        UserError: it can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
