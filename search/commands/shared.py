"""What commands share: their options, and how they answer."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ghostnet.arch import Arch
from ghostnet.published import published
from search.errors import UserError

stdout = Console(highlight=False)

Out = Annotated[Path, typer.Option("--out", help="Where the results go.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
DataName = Annotated[str, typer.Option("--data", help="digits, cifar10, imagefolder:PATH or parquet:PATH.")]
Minutes = Annotated[float | None, typer.Option("--minutes", min=0.01, help="Time box for what is still to do.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Source of all randomness.")]
SpaceName = Annotated[str, typer.Option("--space", help="digits, cifar, imagenet, their -plus, or a .toml.")]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Processes side by side, through Ray.")]
Address = Annotated[str | None, typer.Option("--address", help="Of a Ray cluster; default: this machine.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what is in the folder.")]
RecipeName = Annotated[
    str | None, typer.Option("--recipe", help="A recipe of ours, or a .toml file (default: by data).")
]


def find_arch(name: str) -> Arch:
    """An architecture by file, folder or published name."""
    path = Path(name)
    if path.is_dir():
        return Arch.load(path / "arch.json")
    if path.suffix == ".json" or path.exists():
        return Arch.load(path)
    return published(name)


def recipe_for(data: str) -> str:
    return "digits" if data == "digits" else "cifar10"


def fresh(folder: Path, resume: bool, product: str) -> None:
    if (folder / product).exists() and not resume:
        raise UserError(
            f"{folder / product} is there already: --out names another place, --resume goes on where it can"
        )


def answer(facts: dict[str, Any], words: str, as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        stdout.print(words, soft_wrap=True)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))
