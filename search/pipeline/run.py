"""The main job: a recipe is checked, its folder opened, and every stage run whose product is missing."""

import time
from pathlib import Path
from typing import Any

from search.data import names as sources
from search.errors import UserError
from search.files import read_json, write_json
from search.pipeline import stages
from search.pipeline.run_folder import RUN, SCHEMA, Run
from search.progress import say
from search.recipes.schema import Recipe
from spaces.custom import space_of

STAGES = {
    "train": stages.train,
    "calibrate": stages.calibrate,
    "fidelity": stages.fidelity,
    "search": stages.search,
    "retrain": stages.retrain,
    "export": stages.export,
    "report": stages.report,
}


def check(recipe: Recipe) -> None:
    """Everything that can be known to be wrong before anything is written or torch is loaded.

    Raises:
        UserError, SpaceError: what is wrong, in a line.
    """
    from search.engine.budgets import parse_milliseconds, parse_windows
    from search.latency.runtimes import runtime

    sources.check(recipe.data)
    space, config = space_of(recipe.space), recipe.search
    windows = parse_windows(config.flops_budget) | parse_windows(config.params_budget, "params")
    for window in windows.values():
        window.check(space)
    parse_milliseconds(config.latency_budget)
    runtime(recipe.latency.runtime, recipe.latency.threads, recipe.latency.dtype)
    for width in recipe.retrain.baseline_widths:
        space_of(recipe.space).uniform(width)


def start(recipe: Recipe, out: Path, resume: bool, minutes: float | None) -> Run:
    """Opens the run's folder.

    Raises:
        UserError: it holds another run, or one that `--resume` was not asked to go on with.
    """
    check(recipe)
    recorded = {"schema": SCHEMA, "recipe": recipe.model_dump(mode="json")}
    if (out / RUN).exists():
        if not resume:
            raise UserError(f"{out} holds a run already: --resume goes on with it, --out names another folder")
        if (found := read_json(out / RUN)) != recorded:
            raise UserError(f"{out} holds a run of another recipe: {_differing(found, recorded)} differs")
    elif out.exists() and (not out.is_dir() or any(path.suffix != ".tmp" for path in out.iterdir())):
        raise UserError(f"{out} is not empty and holds no run")
    run = Run(recipe, out, minutes)
    if recipe.threads:
        import torch

        torch.set_num_threads(recipe.threads)
    if not run.done("train"):
        _ = run.data  # what can't be loaded is said before anything is written
    write_json(out / RUN, recorded)
    return run


def _differing(found: Any, wanted: Any) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in wanted:
            if found.get(key) != wanted[key]:
                return f"{key}.{_differing(found.get(key), wanted[key])}".removesuffix(".")
    return ""


def run(job: Run) -> None:
    """Runs every stage whose product is missing, in order."""
    wanted = {name: stage for name, stage in STAGES.items() if job.wanted(name)}
    for number, (name, stage) in enumerate(wanted.items(), 1):
        if job.done(name):
            say(f"[dim]{number}/{len(wanted)} {name}: done before[/dim]")
            continue
        say(f"[bold]{number}/{len(wanted)} {name}[/bold]")
        begun = time.monotonic()
        stage(job)
        say(f"  done in {time.monotonic() - begun:.0f} s")
