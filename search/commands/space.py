"""What a space holds."""

from dataclasses import asdict
from typing import Annotated

import typer

import search as api
from search.commands.shared import SPACE, Json, print_result


def space(
    name: Annotated[str, typer.Argument(help=SPACE)],
    as_json: Json = False,
) -> None:
    """A space: its dimensions, exact size, smallest and largest, and a histogram of multiply-adds."""
    from search.report.space import format_space
    from spaces.custom import load_space

    description = api.describe_space(load_space(name))
    print_result(asdict(description), format_space(description), as_json)
