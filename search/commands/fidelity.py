"""Whether a supernet ranks networks as full training does."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search.commands.shared import (
    Address,
    Json,
    Out,
    RecipeName,
    Seed,
    Workers,
    answer,
    recipe_for,
)
from search.errors import UserError
from search.files import check_writable
from search.progress import best_effort

if TYPE_CHECKING:
    from ghostnet.arch import Arch
    from spaces.space import Space


def fidelity(
    supernet: Annotated[Path, typer.Option("--supernet", help="A trained supernet's folder.")],
    count: Annotated[int, typer.Option("--count", min=8, help="Networks to train fully.")] = 24,
    epochs: Annotated[float | None, typer.Option("--epochs", min=0.01, help="Of full training.")] = None,
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
    workers: Workers = 1,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Measure whether the supernet ranks networks as full training does. Goes on with what is in --out."""
    from search.data import names as sources
    from search.recipes.schema import load

    if count < 2 * bins:
        raise UserError(f"a bin needs two networks: at least {2 * bins} in {bins} bins, but got --count {count}")
    check_writable(out)
    for path in (supernet / "supernet.json", *([trials] if trials else [])):
        if not path.exists():
            raise UserError(f"no file {path}")
    from search.training.metadata import read_card

    name = data or read_card(supernet)[0]["data"]
    sources.check(name)
    plan = load(recipe or recipe_for(name))
    config = plan.retrain.model_copy(update={"epochs": epochs} if epochs else {})
    from search.accuracy.ranking_study import fidelity as measure
    from search.data.datasets import load as load_data
    from search.folders import locked
    from search.report.fidelity import write_page
    from search.training.distributed import best_device
    from search.training.inherited import inherited_accuracy
    from search.training.metadata import check_data, supernet_id

    space = read_card(supernet)[1]
    chosen = _front_of(trials, space, front) if trials else []
    loaded = load_data(name, space.resolution_choices[-1], plan.train_images)
    check_data(supernet, loaded)
    beside = None
    if workers > 1 or address:
        from search.parallel.workers import SideBySide

        beside = SideBySide(loaded, workers, address)
    found = measure(
        lambda: inherited_accuracy(supernet, loaded),
        space,
        loaded,
        config,
        out,
        count=count,
        bins=bins,
        seed=seed,
        device=best_device(),
        seeds=seeds,
        trained=trained,
        beside=beside,
        front=chosen,
        supernet_id=supernet_id(supernet),
    )
    with locked(out), best_effort("the study's page"):
        write_page(found, out)
    words = (
        f"{out}: Kendall tau {found['kendall_tau']:.2f} ({found['kendall_tau_95'][0]:.2f} to "
        f"{found['kendall_tau_95'][1]:.2f}), within {bins} bins of like MACs {found['tau_within_bins']:.2f}; "
        f"knowing each network's expected accuracy would reach {found['ceiling_tau']:.2f}, "
        f"MACs alone {found['macs_tau']:.2f}, the supernet corrected by the others "
        f"{found['corrected']['kendall_tau']:.2f}"
    )
    answer(found, words, as_json)


def _front_of(log: Path, space: "Space", count: int) -> "list[Arch]":
    """Networks along a search's front.

    Raises:
        UserError: the log is of another space, or of no search.
    """
    from search.engine.choose import choose
    from search.engine.log import read_trials
    from search.engine.problem import COMPLETE
    from search.files import JsonLines

    if (of := next(iter(JsonLines(log)), {}).get("space_id")) != space.id:
        raise UserError(f"{log} is of another space ({of}) than {space.name} ({space.id})")
    complete = [trial for trial in read_trials(log, space) if trial["state"] == COMPLETE]
    return [space.decode(trial["code"]) for trial in choose(complete, count)]
