"""What a space holds."""

from typing import Annotated

import typer

from search.commands.shared import Json, answer


def space(
    name: Annotated[str, typer.Argument(help="digits, cifar or imagenet, each also with -plus, or a .toml file.")],
    as_json: Json = False,
) -> None:
    """A space: its dimensions, exact size, smallest and largest, and a histogram of multiply-adds."""
    from search.report.space import facts, words
    from spaces.custom import load_space

    found = facts(load_space(name))
    answer(found, words(found), as_json)
