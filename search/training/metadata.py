"""A supernet's card, `supernet.json`: which space and data it is of. Read without torch."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from search.errors import UserError
from search.files import read_json
from search.recipes.schema import SupernetTraining
from spaces.custom import space_of
from spaces.errors import SpaceError
from spaces.presets import named_space
from spaces.space import Space

SCHEMA, CARD = "ghostnas.supernet/2", "supernet.json"


def read_card(folder: Path) -> tuple[dict[str, Any], Space]:
    """The card and the space of a finished supernet, without its weights.

    Raises:
        UserError: the folder holds none, or one of another space.
    """
    try:
        card = read_json(folder / CARD)
        if card["schema"] == "ghostnas.supernet/1":  # whose slices were not scaled where no norm follows
            raise UserError(f"{folder / CARD} is of an earlier version ({card['schema']}): train the supernet again")
        space = space_for(space_of(card["space"]), card["num_classes"], card["in_chs"])
    except OSError as error:
        raise UserError(f"{folder} holds no finished supernet: {CARD}: {error.strerror}") from None
    except (KeyError, TypeError, SpaceError) as error:
        raise UserError(f"{folder / CARD} is no supernet's card ({SCHEMA}): {error}") from None
    if card["space_id"] != space.id:
        raise UserError(
            f"the supernet in {folder} is of another space {space.name}: {card['space_id']}, not {space.id}"
        )
    return card, space


def space_for(space: Space | str, num_classes: int, in_chs: int) -> Space:
    """A space, or the preset of that name, for data of so many classes and channels.

    Raises:
        SpaceError: no such preset.
    """
    space = named_space(space) if isinstance(space, str) else space
    return replace(space, num_classes=num_classes, in_chs=in_chs)


def trained_by(card: dict[str, Any]) -> SupernetTraining:
    """How a supernet was trained, for recalibration to show its norms what they saw; the defaults for a card of an
    earlier version, which doesn't say.

    Raises:
        UserError: the card's recipe is none.
    """
    try:
        return SupernetTraining.model_validate(card.get("config", {"epochs": 1.0}), strict=False)
    except ValueError as error:
        raise UserError(f"{CARD}: `config` is no supernet's recipe: {str(error).splitlines()[0]}") from None


def card_id(folder: Path) -> str:
    """Ten hex digits that say which training a supernet came from."""
    return hashlib.sha256((folder / CARD).read_bytes()).hexdigest()[:10]
