"""A whole run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Unpack

import typer

import search as api
from search.commands.report import print_run
from search.commands.shared import (
    Json,
    Minutes,
    Resume,
    check_has_recipe,
    print_json,
    spread,
)
from search.errors import UserError
from search.parallel.cluster import ClusterOptions
from search.recipes.choices import whole_recipes
from search.seeds import LARGEST_SEED
from search.terminal import show, show_table

if TYPE_CHECKING:
    from search.recipes.schema import Recipe
    from search.run_folder.estimate import StageEstimate

NOT_EXPORTED = 1  # exit code of a run that is complete but for networks that could not be exported


@spread
def run(
    recipe: Annotated[
        str | None,
        typer.Argument(help=f"{', '.join(whole_recipes())} (default: digits), or a .toml file.", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The run's folder (default results/RECIPE).")] = None,
    resume: Resume = False,
    data: Annotated[str | None, typer.Option("--data", help="Another data set than the recipe's.")] = None,
    flops_budget: Annotated[str | None, typer.Option("--flops-budget", help="60M or 40M..60M.")] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Another seed than the recipe's.")
    ] = None,
    minutes: Minutes = None,
    estimate: Annotated[
        bool,
        typer.Option(
            "--plan", help="Say what each stage will take here, and do nothing; with --out for the report, too."
        ),
    ] = False,
    as_json: Json = False,
    **cluster: Unpack[ClusterOptions],
) -> None:
    """Everything: train the supernet, calibrate latency, search, retrain, export, report."""
    from search.recipes.schema import load_recipe
    from search.run_folder.run import RUN, recorded_recipe

    if not resume:
        check_has_recipe(data, recipe)
    if resume and out and recipe is None:
        if not (out / RUN).exists():
            raise UserError(f"{out} holds no run to resume; name its recipe")
        loaded = recorded_recipe(out)
    else:
        loaded = load_recipe("digits" if recipe is None else recipe)
    loaded = loaded.changed(data=data, seed=seed, search=loaded.search.changed(flops_budget=flops_budget))
    if estimate:
        show_estimate(loaded, out, as_json, minutes)
        return
    summary = api.run_recipe(loaded, out, minutes=minutes, resume=resume, **cluster)
    print_run(summary, as_json)
    if summary.left_out:  # said in the notes
        raise typer.Exit(NOT_EXPORTED)


def show_estimate(recipe: "Recipe", out: Path | None, as_json: bool, minutes: float | None = None) -> None:
    """What a run will take, stage by stage, and what a time box gives each; also written where its folder is named."""
    from search.pipeline.current_run import SHARES, STRETCHED, needed_minutes, share_minutes
    from search.pipeline.run import ESTIMATED_FROM
    from search.run_folder.estimate import ESTIMATE
    from search.training.time_box import LONGEST

    result = api.estimate_run(recipe, out)
    total = result.total
    boxes = [each.stage for each in result.stages if each.stage in SHARES]
    known = out is not None or (minutes or 0) >= ESTIMATED_FROM  # to the run, too
    given = share_minutes(minutes, needed_minutes(boxes, result if known else None)) if minutes else {}
    if as_json:
        stages = result.model_dump(mode="json", exclude={"schema_"})
        boxed = {"time_box": given} if given else {}
        print_json({**stages, "total": total.model_dump(mode="json", exclude={"stage", "networks"}), **boxed})
        return
    rows = [_row(each) for each in (*result.stages, total)]
    show_table(["stage", "networks", "steps", "images", "minutes", "disk", "memory"], rows, bold=[len(rows) - 1])
    kept = f"kept in {out / ESTIMATE}, for the report" if out else "nothing is written"
    if given:
        most = {each.stage: each.minutes * (LONGEST if each.stage in STRETCHED else 1) for each in result.stages}
        parts = [f"{stage} {min(given.get(stage, 0.0), most[stage]):.1f}" for stage in most]
        more = (
            f"Where it is more than the recipe needs, up to {LONGEST:g} times its steps are trained, and networks "
            "evaluated."
            if known
            else f"Below {ESTIMATED_FROM:g} minutes a run makes no estimate: it goes by fixed shares, and no further "
            "than the recipe."
        )
        shares = ", ".join(parts)
        show(f"A time box of {minutes:g} minutes is shared as {shares}; what a stage leaves, later ones get. {more}")
    show(f"Minutes are for this machine as it is now, from a few timed steps; {kept}.")


def _row(stage: "StageEstimate") -> list[str]:
    counts = [f"{count:,}" if count else "" for count in (stage.networks, stage.steps, stage.images)]
    disk, memory = stage.disk / 1e6, stage.memory / 1e9
    return [
        stage.stage,
        *counts,
        f"{stage.minutes:.1f}",
        f"{disk:.1f} MB" if disk else "",
        f"{memory:.1f} GB" if memory else "",
    ]
