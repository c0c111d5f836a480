"""A run's folder: what stands where in it, and how far it has come.

A stage is done when its product lies in the folder, and only then; that is all the state there is. So a run that was
killed anywhere goes on from the first product that is missing, and each stage resumes from its own log or checkpoint.
Stages hand each other plain files.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from search.errors import UserError
from search.files import glob
from search.recipes.schema import Recipe
from search.records import Record, read_record
from search.training.origin import Origin
from search.training.records import PARENT, SUPERNET_FILE, TRAINED_FILE

SCHEMA = "ghostnas.run/1"
RUN, SUPERNET, TABLE, TRIALS = "run.json", "supernet", "latency/table.lat.json", "search/trials.jsonl"
RESULT, NETWORKS, EXPORTS = "search/result.json", "networks", "export"
FRONT = "search/front"  # of a search that is no run's
FINAL_SUPERNET = "final-supernet"  # where full trainings don't begin with the search's
INHERITED, TIMES, ENERGY = "networks/inherited.json", "networks/latency.json", "networks/energy.json"
FIRST_TRIALS, FIDELITY = "fidelity/trials.jsonl", "fidelity/fidelity.json"
REPORT = "report/report.html"
SUMMARY_FILE = "summary.json"  # beside several networks' folders, of all their seeds
LONGEST_NAME = 255  # bytes of a folder's name: Linux' own bound
OWN_TEACHER = "teacher"  # in the folder of a parent that was taught by itself: what it was before
OF_SEEDS = f"seed-*/{TRAINED_FILE}"  # in a network's folder
PRODUCTS = {
    "train": f"{SUPERNET}/{SUPERNET_FILE}",
    "calibrate": TABLE,
    "fidelity": FIDELITY,
    "search": RESULT,
    "retrain": TIMES,
    "export": f"{EXPORTS}/done.json",
    "report": REPORT,
}


class RunRecord(Record):
    """`run.json`: the recipe that a run is of."""

    schema_: Literal["ghostnas.run/1"] = Field(alias="schema")
    recipe: Recipe


def recorded_recipe(out: Path) -> Recipe:
    """The recipe of the run in a folder.

    Raises:
        UserError: it holds no run that this version can read.
    """
    return read_record(out / RUN, RunRecord).recipe


def initial_weights(recipe: Recipe, supernet: Path) -> Origin:
    """The initial weights and the teacher of full trainings, as `ghostnas retrain` takes them: where
    networks are transplants, these and their parent, unless the recipe says otherwise."""
    transplanted, config = recipe.supernet.kind == "transplant", recipe.retrain
    inherits = config.init == "supernet" or (config.init == "auto" and transplanted)
    taught = config.teacher == "supernet" or (config.teacher == "auto" and transplanted and inherits)
    return Origin(init=supernet if inherits else None, teacher=f"supernet:{supernet}" if taught else None)


def retrains_parent(recipe: Recipe) -> bool:
    """Whether a parent that a run trains is trained again before the networks that begin with its transplants or learn
    from it. They see the images that were held out for the search, and should be taught by one that has, too."""
    begin = initial_weights(recipe, Path())
    return recipe.supernet.kind == "transplant" and recipe.retrain.use_held_out and begin != Origin()


def final_supernet(out: Path) -> Path:
    """The supernet that a run's full trainings begin with."""
    final = out / FINAL_SUPERNET
    return final if (final / SUPERNET_FILE).exists() else out / SUPERNET


def trained_parent(out: Path) -> Path:
    """The folder of a run's parent, as it was trained last."""
    again = out / NETWORKS / PARENT
    return again if (again / TRAINED_FILE).exists() else out / SUPERNET / PARENT


def trained_networks(folder: Path) -> list[Path]:
    """Where the metadata lie of networks that are trained fully, in the folder of a run or of a ranking study."""
    return [file for file in glob(folder / NETWORKS, f"*/{TRAINED_FILE}") if file.parent.name != PARENT]


def retrained_folders(out: Path, names: Sequence[str], seeds: Sequence[int]) -> dict[tuple[str, int], Path]:
    """Where `ghostnas retrain` puts a network by a seed: `out` itself if it is the only one, else a folder for each.

    Raises:
        UserError: there is no network or no seed, one seed twice, or a name that no folder inside `out` can have,
            `summary.json` among them, which stands there.
    """
    if not names or not seeds:
        raise UserError(f"there must be a network and a seed or more, but got {len(names)} and {len(seeds)}")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"seeds must be different, but got {', '.join(map(str, seeds))}")
    for name in names:
        taken = ("", ".", "..", SUMMARY_FILE)
        if not isinstance(name, str) or name in taken or Path(name).name != name or "\0" in name:
            raise UserError(f"a network's name must be that of a folder, such as A, but got {name!r:.80}")
        if len(name.encode(errors="replace")) > LONGEST_NAME:
            raise UserError(f"a network's name, a folder's, has at most {LONGEST_NAME} bytes, but got {name!r:.80}")
    return {
        (name, seed): (out / name if len(names) > 1 else out) / (f"seed-{seed}" if len(seeds) > 1 else "")
        for name in names
        for seed in seeds
    }
