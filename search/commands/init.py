"""A recipe that fits a folder of pictures."""

from pathlib import Path
from typing import Annotated

import typer

import search as api
from search.commands.shared import Json, print_result


def init(
    data: Annotated[str, typer.Argument(help="A folder of pictures, imagefolder:PATH or parquet:PATH.")],
    size: Annotated[
        int | None,
        typer.Option("--size", min=8, max=1024, help="Side of the networks' input (default: by the pictures)."),
    ] = None,
    flops_budget: Annotated[
        str | None, typer.Option("--flops-budget", help="30M or 20M..30M (default: the parent's, or GhostNet 1.0x's).")
    ] = None,
    parent: Annotated[
        str | None,
        typer.Option("--parent", help="A trained GhostNet to begin with: a file, a folder, timm:NAME."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The recipe (default NAME.toml, by the folder).")] = None,
    as_json: Json = False,
) -> None:
    """Look at pictures and write a recipe that fits them, for `ghostnas run`."""
    from search.pipeline.proposal import recipe_path
    from search.progress import warn

    recipe_path(data, out, flops_budget)
    proposal = api.propose_recipe(data, out, size=size, flops_budget=flops_budget, parent=parent)
    for line in proposal.warnings:
        warn(line)
    print_result(proposal.to_json(), proposal.message, as_json)
