"""What a run will take, before it begins."""

from pathlib import Path

from search.api import Place
from search.data.names import data_source
from search.errors import UserError
from search.files import check_writable
from search.folders import locked
from search.pipeline.estimate import estimate
from search.pipeline.run import check
from search.recipes.schema import Recipe, load_recipe
from search.run_folder.estimate import Estimate, recipe_digest, write_estimate
from search.run_folder.run import RUN, recorded_recipe

CHECK_IMAGES_S = 10.0  # a run decodes them all before anything else; here a part of them says enough

__all__ = ["Estimate", "estimate_run"]


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
    plan = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    check(plan)
    data_source(plan.data).check_images(CHECK_IMAGES_S)
    if out and (Path(out) / RUN).exists() and recipe_digest(recorded_recipe(Path(out))) != recipe_digest(plan):
        raise UserError(f"{out} holds a run of another recipe: --out names another folder")
    known = estimate(plan)
    if out:
        with locked(Path(out)):
            write_estimate(Path(out), known)
    return known
