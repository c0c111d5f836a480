"""What a space holds."""

from dataclasses import asdict
from typing import Annotated

import typer

from search.commands.shared import Json, print_result


def space(
    name: Annotated[str, typer.Argument(help="digits, cifar or imagenet, each also with -plus, or a .toml file.")],
    as_json: Json = False,
) -> None:
    """A space: its dimensions, exact size, smallest and largest, and a histogram of multiply-adds."""
    from search.report.space import describe_space, format_space
    from spaces.custom import load_space

    description = describe_space(load_space(name))
    print_result(asdict(description), format_space(description), as_json)
