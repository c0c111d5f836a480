"""Whether a supernet ranks networks as full training does."""

from pathlib import Path
from typing import Annotated, Unpack

import typer

import search as api
from search.commands.shared import Epochs, Json, Out, Rate, RecipeName, Seed, print_result, spread
from search.errors import UserError
from search.parallel.cluster import ClusterOptions


@spread
def fidelity(
    supernet: Annotated[Path, typer.Option("--supernet", help="A trained supernet's folder.")],
    count: Annotated[int, typer.Option("--count", min=8, help="Networks to train fully.")] = 24,
    epochs: Epochs = None,
    lr: Rate = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Full trainings of each network.")] = 1,
    bins: Annotated[int, typer.Option("--bins", min=1, help="Stretches of like MACs.")] = 4,
    recipe: RecipeName = None,
    data: Annotated[str | None, typer.Option("--data", help="Where the supernet's data lies now.")] = None,
    trained: Annotated[Path | None, typer.Option("--networks", help="Trained networks to share.")] = None,
    trials: Annotated[
        Path | None, typer.Option("--trials", help="A search's trials.jsonl: networks of its front, too.")
    ] = None,
    front: Annotated[int, typer.Option("--front", min=1, help="How many of these.")] = 8,
    out: Out = Path("results/fidelity-run"),
    seed: Seed = 0,
    as_json: Json = False,
    **cluster: Unpack[ClusterOptions],
) -> None:
    """Measure whether the supernet ranks networks as full training does. Goes on with what is in --out."""
    from search.accuracy.study import check_bins
    from search.data import names as sources
    from search.files import check_writable
    from search.recipes.schema import load_retraining, recipe_name
    from search.training.metadata import read_metadata
    from search.training.records import SUPERNET_FILE

    check_bins(count + (front if trials else 0), bins)
    check_writable(out)
    for path in (supernet / SUPERNET_FILE, *([trials] if trials else [])):
        if not path.exists():
            raise UserError(f"no file {path}")
    metadata, space = read_metadata(supernet)
    name = data or metadata.data
    sources.check_data_name(name)
    _, limit = load_retraining(recipe_name(recipe, name))
    study = api.measure_fidelity(
        supernet,
        api.load_data(name, space.resolution_choices[-1], limit),
        out,
        count=count,
        epochs=epochs,
        lr=lr,
        seeds=seeds,
        bins=bins,
        recipe=recipe,
        networks=trained,
        trials=trials,
        front=front,
        seed=seed,
        **cluster,
    )
    low, high = study.kendall_tau_95
    message = (
        f"{out}: Kendall tau {study.kendall_tau:.2f} ({low:.2f} to {high:.2f}), within {bins} bins of like MACs "
        f"{study.tau_within_bins:.2f}; MACs alone reach {study.macs_tau:.2f}, "
    )
    message += (
        "and what would be reached by knowing each network's expected accuracy takes several --seeds"
        if study.ceiling_tau is None
        else f"and knowing each network's expected accuracy would reach {study.ceiling_tau:.2f}"
    )
    if study.corrected:
        message += f", the supernet corrected by the others {study.corrected.kendall_tau:.2f}"
    print_result(study.model_dump(mode="json", by_alias=True), message, as_json)
