"""The supernet's training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.commands.shared import (
    Address,
    DataName,
    Json,
    Minutes,
    Out,
    RecipeName,
    Resume,
    Seed,
    Workers,
    answer,
    check_has_recipe,
    fresh,
    recipe_for,
)
from search.errors import UserError
from search.recipes.schema import ParentTraining, SupernetPart, SupernetTraining

if TYPE_CHECKING:
    pass


def train(
    space: Annotated[
        str | None, typer.Option("--space", help="A preset (digits, cifar, imagenet; -plus) or a .toml file.")
    ] = None,
    data: DataName = "digits",
    out: Out = Path("results/supernet"),
    kind: Annotated[
        str | None, typer.Option("--kind", help="transplant or elastic (default: the recipe's).", show_default=False)
    ] = None,
    init: Annotated[
        str | None,
        typer.Option("--init", help="A transplanted one's parent: a checkpoint, a folder or timm:NAME."),
    ] = None,
    recipe: RecipeName = None,
    seed: Seed = 0,
    minutes: Minutes = None,
    workers: Workers = 1,
    address: Address = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Train a supernet, which gives weights to every network of a space: its [supernet] part is the recipe's.

    A transplanted one is a single trained GhostNet, the parent, that every network is fitted to. Also under torchrun.
    """
    from search.data import names as sources
    from search.recipes.schema import load
    from spaces.custom import load_space

    check_has_recipe(data, recipe, space)
    plan, chosen = load(recipe or recipe_for(data)), load_space(space or "digits")
    config, resolution = supernet_part(plan.supernet, kind, init), chosen.resolution_choices[-1]
    sources.check(data)
    fresh(out, resume, "supernet.json")
    from search.data.datasets import load as load_data
    from search.training.distributed import best_device
    from search.training.doubts import warn_of
    from search.training.metadata import space_for
    from search.training.supernets import make_supernet

    loaded = load_data(data, resolution, plan.train_images)
    fitted = space_for(chosen, loaded.num_classes, loaded.in_chs)
    seconds = None if minutes is None else 60 * minutes
    if workers > 1 or address:
        from search.parallel import workers as several

        card = several.train_supernet(
            fitted, loaded, config, out, seed=seed, seconds=seconds, workers=workers, address=address
        )
    else:
        card = make_supernet(fitted, loaded, config, out, seed=seed, device=best_device(), seconds=seconds)
    if not card:  # another process of torchrun's speaks
        return
    warn_of("supernet", card.get("warnings", []))
    words = f"{card['training']['epochs']:g} epochs in {card['training']['seconds']:.0f} s: {out}"
    if parent := card.get("parent"):
        words = f"parent {parent['arch']}: {parent['test_accuracy']:.2%} on the test split; {words}"
    answer(card, words, as_json)


def supernet_part(config: SupernetPart, kind: str | None, init: str | None) -> SupernetPart:
    """A recipe's part of a supernet, of another kind or with another parent where that is asked for.

    Raises:
        UserError: no such kind, or a parent for an elastic one.
    """
    if kind not in (None, "transplant", "elastic"):
        raise UserError(f"a supernet's kind is transplant or elastic, not {kind!r}")
    if kind and kind != config.kind:
        other = ParentTraining if kind == "transplant" else SupernetTraining
        config = other(**config.alone().model_dump())
    if init is None:
        return config
    if not isinstance(config, ParentTraining):
        raise UserError("--init names the parent of a transplanted supernet: it goes with --kind transplant")
    return config.model_copy(update={"parent": init})
