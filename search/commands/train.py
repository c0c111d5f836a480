"""The supernet's training."""

from pathlib import Path
from typing import Annotated, Unpack

import typer

import search as api
from search.commands.shared import (
    SPACE,
    DataName,
    Epochs,
    Json,
    Minutes,
    Out,
    Rate,
    RecipeName,
    Resume,
    Seed,
    check_has_recipe,
    check_output,
    print_result,
    spread,
)
from search.parallel.cluster import ClusterOptions


@spread
def train(
    space: Annotated[str | None, typer.Option("--space", help=SPACE)] = None,
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
    epochs: Epochs = None,
    lr: Rate = None,
    seed: Seed = 0,
    minutes: Minutes = None,
    resume: Resume = False,
    as_json: Json = False,
    **cluster: Unpack[ClusterOptions],
) -> None:
    """Train a supernet, which gives weights to every network of a space: its [supernet] part is the recipe's.

    A transplanted one is a single trained GhostNet, the parent, that every network is fitted to. Also under torchrun.
    """
    from search.data import names as sources
    from search.recipes.schema import load_recipe, recipe_name, supernet_part
    from search.records import record_json
    from search.training.records import SUPERNET_FILE
    from spaces.custom import load_space

    check_has_recipe(data, recipe, space)
    loaded_recipe, chosen = load_recipe(recipe_name(recipe, data)), load_space("digits" if space is None else space)
    supernet_part(loaded_recipe.supernet, kind, init)
    sources.check_data_name(data)
    check_output(out, resume, SUPERNET_FILE)
    loaded = api.load_data(data, chosen.resolution_choices[-1], loaded_recipe.train_images)
    metadata = api.train_supernet(
        chosen,
        loaded,
        out,
        recipe=recipe,
        kind=kind,  # type: ignore[arg-type]
        parent=init,
        epochs=epochs,
        lr=lr,
        seed=seed,
        minutes=minutes,
        **cluster,
    )
    message = f"{metadata.training.epochs:g} epochs in {metadata.training.seconds:.0f} s: {out}"
    if parent := metadata.parent:
        message = f"parent {parent.arch}: {parent.test_accuracy:.2%} on the test split; {message}"
    print_result(record_json(metadata), message, as_json)
