"""What is known before a run: a recipe for pictures that nobody has written one for, and what a run will take."""

from pathlib import Path

from ghostnet.parent import is_path, load_parent
from ghostnet.weights import WeightsError
from search.api import Place
from search.data.survey import survey
from search.errors import UserError
from search.files import check_writable, write_text
from search.folders import locked
from search.pipeline.estimate import estimate
from search.pipeline.proposal import Proposal, propose, proposed_side, recipe_path
from search.recipes.schema import Recipe, load_recipe, parse_recipe
from search.run_folder.estimate import Estimate, write_estimate

__all__ = ["Estimate", "Proposal", "estimate_run", "propose_recipe"]


def propose_recipe(
    data: str,
    out: Place | None = None,
    *,
    size: int | None = None,
    flops_budget: str | None = None,
    parent: str | None = None,
) -> Proposal:
    """Looks at a folder of pictures and writes a commented recipe that fits them, for `run_recipe`.

    Args:
        data: the folder, or a name as `load_data` takes it.
        out: the recipe's file; None: named after the folder.
        size: side of the networks' input, in pixels; None: by the pictures.
        flops_budget: of multiply-adds, 30M or 20M..30M; None: what GhostNet 1.0x has.
        parent: a trained GhostNet to begin with: a file, a folder, timm:NAME; None: one is trained first.

    Raises:
        UserError, SpaceError: a folder, a parent or a budget that no recipe fits, or a file that is there already.
    """
    path = recipe_path(data, None if out is None else Path(out), flops_budget)
    arch = None
    if parent:
        try:
            arch = load_parent(parent).arch
        except WeightsError as error:
            raise UserError(str(error)) from None
        if is_path(parent):
            parent = str(Path(parent).resolve())  # so that the recipe runs from anywhere, as with the pictures
    pictures = survey(data)
    side = size or proposed_side(pictures.shorter_sides[1])
    text = propose(pictures, side, flops_budget, parent, arch)
    recipe = parse_recipe(text, path.stem)
    write_text(path, text)
    return Proposal(path, recipe, pictures, side)


def estimate_run(recipe: str | Recipe = "digits", out: Place | None = None) -> Estimate:
    """What each stage of a run will take here: steps, images, minutes from a few timed steps, bytes of disk and memory.

    Args:
        recipe: a name of ours, a .toml file, or a `Recipe`.
        out: the run's folder, where the estimate is kept for the report; None: nothing is written.

    Raises:
        UserError, SpaceError: what a run would refuse.
    """
    if out:
        check_writable(Path(out))
    known = estimate(recipe if isinstance(recipe, Recipe) else load_recipe(recipe))
    if out:
        with locked(Path(out)):
            write_estimate(Path(out), known)
    return known
