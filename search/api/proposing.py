"""A recipe for pictures that nobody has written one for."""

from pathlib import Path

from ghostnet.parent import TIMM, is_path, load_parent
from ghostnet.weights import WeightsError
from search.api import Place
from search.data.names import LOCAL
from search.data.survey import survey
from search.errors import UserError, check_whole
from search.files import write_text
from search.pipeline.proposal import LEAST_SIDE, MOST_SIDE, Proposal, propose, proposed_side, recipe_path
from search.recipes.schema import parse_recipe

__all__ = ["Proposal", "propose_recipe"]


def propose_recipe(
    data: Place,
    out: Place | None = None,
    *,
    size: int | None = None,
    flops_budget: str | None = None,
    parent: Place | None = None,
) -> Proposal:
    """Looks at a folder of pictures and writes a commented recipe that fits them, for `run_recipe`.

    Args:
        data: the folder, or a name as `load_data` takes it.
        out: the recipe's file; None: named after the folder.
        size: side of the networks' input, from 8 to 1024 pixels; None: by the pictures.
        flops_budget: of multiply-adds, 30M or 20M..30M; None: what the parent has, or GhostNet 1.0x.
        parent: a trained GhostNet to begin with: a file, a folder, timm:NAME; None: one is trained first.

    Raises:
        UserError, SpaceError: a folder, a size, a parent or a budget that no recipe fits, or a file that is there
            already.
    """
    if size is not None:
        size = check_whole("`size`", size, LEAST_SIDE, MOST_SIDE)
    path = recipe_path(data, None if out is None else Path(out), flops_budget)
    arch, begin = None, _from_anywhere(str(parent)) if parent else None
    if begin:
        try:
            arch = load_parent(begin).arch
        except WeightsError as error:
            raise UserError(str(error)) from None
    pictures = survey(str(data))
    side = proposed_side(pictures.shorter_sides[1]) if size is None else size
    text = propose(pictures, side, flops_budget, begin, arch)
    recipe = parse_recipe(text, path.stem)
    write_text(path, text)
    return Proposal(path, recipe, pictures, side)


def _from_anywhere(parent: str) -> str:
    """A parent's name with its whole path, if it has one, so that the recipe runs from any folder."""
    before = "" if is_path(parent) else f"{TIMM}{LOCAL}"
    if not parent.startswith(before):
        return parent
    return f"{before}{Path(parent.removeprefix(before)).expanduser().resolve()}"
