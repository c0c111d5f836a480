"""A whole run, and pages: its report, several runs compared, a latency table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from search.api import Place
from search.errors import UserError, check_minutes
from search.latency.table import LatencyTable
from search.parallel.cluster import Cluster, ClusterOptions, show_options
from search.pipeline import run as pipeline
from search.pipeline.settings import RunSettings
from search.recipes.schema import Recipe, load_recipe
from search.report.comparison import Comparison, write_comparison
from search.report.latency_page import write_page as write_page_of_table
from search.report.report import write_report as write_page_of_run
from search.report.summary import Summary, summarise

__all__ = [
    "Recipe",
    "Summary",
    "UserError",
    "compare_runs",
    "run_recipe",
    "write_latency_page",
    "write_report",
]


@show_options
def run_recipe(
    recipe: str | Recipe = "digits",
    out: Place | None = None,
    *,
    minutes: float | None = None,
    resume: bool = False,
    **cluster: Unpack[ClusterOptions],
) -> Summary:
    """Everything that a recipe says: trains the supernet, calibrates latency, searches, retrains, exports, reports.

    Args:
        recipe: a name of ours, a .toml file, or a `Recipe`.
        out: the run's folder; None: `results/` and the recipe's name.
        minutes: a time box for all that is still to do.
        resume: go on with what is in the folder.
        workers, address: processes of Ray's that train and search side by side, and the cluster that they are on; None:
            what the recipe says, on this machine. Latency is calibrated here, wherever the workers are.

    Raises:
        UserError, SpaceError: what is wrong with the recipe, the folder or the cluster.
    """
    check_minutes(minutes)
    plan = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    folder = Path("results") / plan.name if out is None else Path(out)
    settings = RunSettings(resume=resume, minutes=minutes, cluster=Cluster(**cluster))
    with pipeline.open_run(plan, folder, settings) as run:
        pipeline.run(run)
    return summarise(folder)


def write_report(folder: Place) -> Path:
    """Writes `report/` into a run's folder, or one whose parts lie where a run has them (`supernet/`,
    `latency/table.lat.json`, `search/`, `networks/NAME/`, `export/NAME/`), as far as it goes.

    Returns the page, one HTML file with figures beside it.

    Raises:
        UserError: the folder holds no run and no supernet, or another process is writing its report.
    """
    return write_page_of_run(Path(folder))


def compare_runs(folders: Sequence[Place], out: Place = "results/comparison") -> Comparison:
    """The fronts of several runs overlaid, in the folder `out`. Returns the page, a row for each run, and in what they
    are not alike.

    Raises:
        UserError: no folder, or one that holds no finished search.
    """
    if isinstance(folders, str):  # a sequence of letters
        raise UserError(f"`folders` lists the runs' folders, but got the one name {folders!r}")
    return write_comparison([Path(folder) for folder in folders], Path(out))


def write_latency_page(table: LatencyTable, out: Place) -> Path:
    """How good a table is, as one HTML page in the file `out`."""
    write_page_of_table(table, Path(out))
    return Path(out)
