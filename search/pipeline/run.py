"""The main job: a recipe is checked, its folder opened, and every stage run whose product is missing."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from search.data import names as sources
from search.errors import UserError
from search.files import JsonObject, check_writable, read_json, write_json
from search.folders import is_empty, locked
from search.identity import Identity, check_same
from search.latency.runtimes import runtime
from search.parallel.cluster import connect
from search.pipeline.search_problem import check_run_search, check_storage
from search.pipeline.settings import RunSettings
from search.progress import best_effort
from search.recipes.schema import ParentTraining, Recipe, check_has_parent
from search.run_folder.estimate import ESTIMATE, read_estimate, write_estimate
from search.run_folder.run import RUN, SCHEMA, SUPERNET, recorded_recipe
from search.terminal import say
from search.training.records import PARENT
from spaces.population import sample

if TYPE_CHECKING:  # torch is loaded once the recipe is known to be right
    from search.pipeline.current_run import Run


ESTIMATED_FROM = 3.0  # minutes of a time box that is shared by what stages need, of which some steps are timed first


def check(recipe: Recipe) -> None:
    """Everything that can be known to be wrong before anything is written or torch is loaded.

    Raises:
        UserError, SpaceError: what is wrong, in a line.
    """
    sources.check_data_name(recipe.data)
    space = recipe.search_space
    check_has_parent(recipe.search, recipe.supernet.kind, space)
    for windows in recipe.windows.values():
        for window in windows.values():
            window.check(space)
    for together in product(*(windows.values() for windows in recipe.windows.values() if windows)):
        if len(together) > 1:  # each of which can be met alone
            sample(space, np.random.default_rng(0), 1, together)
    runtime(recipe.latency.runtime, recipe.latency.threads, recipe.latency.dtype)
    check_run_search(recipe.search)
    for width in recipe.retrain.baseline_widths:
        if width not in space.family:
            known = ", ".join(f"{each:g}" for each in space.family) or "none"
            raise UserError(f"retrain.baseline_widths: space {space.name} has GhostNet at {known}, not at {width:g}")


@contextmanager
def open_run(recipe: Recipe, out: Path, settings: RunSettings) -> "Iterator[Run]":
    """The run in a folder, which no other process may write meanwhile. A data set may lie elsewhere than when the run
    began, as long as its content is the same.

    Raises:
        UserError: the folder holds another run, or one that `--resume` was not asked to go on with, or another process
            is at work in it; or there is no cluster at the address.
    """
    check(recipe)
    check_writable(out)
    with locked(out):
        yield _start(recipe, out, settings)


def _start(recipe: Recipe, out: Path, settings: RunSettings) -> "Run":
    identity = sources.data_source(recipe.data).fingerprint()
    recorded = {"schema": SCHEMA, "recipe": recipe.model_dump(mode="json"), "data": identity}
    if (out / RUN).exists():
        if not settings.resume:
            raise UserError(f"{out} holds a run already: --resume goes on with it, --out names another folder")
        recorded_recipe(out)  # refuses what is no run's
        check_same(_identity(read_json(out / RUN)), _identity(recorded), f"{out} holds another run")
    elif not is_empty(out, but=(ESTIMATE,)):
        raise UserError(f"{out} is not empty and holds no run")
    from search.pipeline.current_run import Run
    from search.training.supernets import given_parent

    run = Run(recipe, out, settings)
    run.set_threads()
    if not run.done("train"):
        _ = run.data  # what can't be loaded, or fitted to, is said before anything is written
        if isinstance(recipe.supernet, ParentTraining):
            given_parent(run.space, recipe.supernet)
    if not run.done("search"):
        check_storage(recipe.search)
    if settings.cluster.address is not None and not (out / RUN).exists():
        connect(settings.cluster)
    write_json(out / RUN, recorded)
    return run


def _identity(recorded: JsonObject) -> Identity:
    """What makes two runs the same: the recipe, the data by what it is rather than by where it lies."""
    return {**recorded, "recipe": {key: value for key, value in recorded["recipe"].items() if key != "data"}}


def run(run: "Run") -> None:
    """Runs every stage whose product is missing, in order."""
    from search.pipeline import stages
    from search.pipeline.estimate import estimate

    if (run.settings.minutes or 0) >= ESTIMATED_FROM and read_estimate(run.out, run.recipe) is None:
        parent = getattr(run.recipe.supernet, "parent", None)
        located = {Path(parent): run.out / SUPERNET / PARENT} if parent and run.done("train") else {}
        with best_effort("an estimate of what the stages take"):
            # As all work is done in a time box.
            write_estimate(run.out, estimate(run.recipe, processes=1, located=located))
    names = run.stages
    for number, name in enumerate(names, 1):
        if run.done(name):
            say(f"{number}/{len(names)} {name}: done before", "dim")
            continue
        say(f"{number}/{len(names)} {name}", "bold")
        started = time.monotonic()
        getattr(stages, name)(run)
        say(f"  done in {time.monotonic() - started:.0f} s")
