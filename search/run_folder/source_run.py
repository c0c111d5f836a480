"""The run that a network came from, for what is said of the network elsewhere. Read without torch."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from search.recipes.schema import Search
from search.records import Count, Name, Record, read_record
from search.run_folder.result import read_result
from search.run_folder.run import EXPORTS, NETWORKS, RESULT, RUN, SUPERNET, recorded_recipe, trained_parent
from search.training.records import PARENT, SUPERNET_FILE, TRAINED_FILE, SupernetMetadata, read_trained
from spaces.custom import parse_space

BUDGETS = tuple(key for key in Search.model_fields if key.endswith("_budget"))
Text = Annotated[str, Field(max_length=1000)]


class SourceRun(Record):
    """A network's run, without any path of the machine that it ran on.

    Args:
        recipe: its name.
        data: the data set's name; of a path only its last part.
        network: the name of the network's folder.
        role: chosen by the search, the parent that others were fitted to, a random one, or the family's at some width.
        budgets: that the search had to keep, by the recipe's keys.
        evaluated: networks that the search evaluated.
        parent: of a transplanted supernet: where it came from, or that the run trained it.
        parent_accuracy: on the test split, where the run trained it.
    """

    recipe: Name
    data: Text
    seed: Count
    network: Name
    role: Literal["chosen", "parent", "random", "family"]
    budgets: dict[Text, Text] = Field(default_factory=dict)
    evaluated: Count
    parent: Text | None = None
    parent_accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    space: Text
    space_id: Text


def source_run(weights: Path) -> SourceRun | None:
    """The run in whose folder a network's weights lie; None where they lie elsewhere, or its search is not finished.

    Raises:
        UserError: a file of the run breaks a rule.
    """
    for folder in weights.absolute().parents:
        if (folder / RUN).exists():
            place = weights.absolute().relative_to(folder).parts
            if place[:2] == (SUPERNET, PARENT):
                return read_source_runs(folder, [PARENT]).get(PARENT)
            if place[0] in (NETWORKS, EXPORTS) and len(place) > 2:
                return read_source_runs(folder, [place[1]]).get(place[1])
            return None
    return None


def read_source_runs(folder: Path, networks: Iterable[str]) -> dict[str, SourceRun]:
    """What a run says of its networks, by the names of their folders; nothing before its search is finished.

    Raises:
        UserError: a file of the run breaks a rule.
    """
    if not (folder / RESULT).exists():
        return {}
    recipe, result = recorded_recipe(folder), read_result(folder / RESULT)
    supernet = read_record(folder / SUPERNET / SUPERNET_FILE, SupernetMetadata)
    roles: dict[str, Any] = dict.fromkeys(result.chosen, "chosen")
    roles |= dict.fromkeys(result.random, "random") | {PARENT: "parent"}
    trained = trained_parent(folder) / TRAINED_FILE
    known: dict[str, Any] = {
        "recipe": recipe.name,
        "data": last_part(recipe.data),
        "seed": recipe.seed,
        "budgets": {key: value for key in BUDGETS if (value := getattr(recipe.search, key))},
        "evaluated": result.evaluated,
        "parent": _parent(recipe.supernet),
        "parent_accuracy": read_trained(trained).test_accuracy if trained.exists() else None,
        "space": parse_space(supernet.space).name,
        "space_id": supernet.space_id,
    }
    return {name: SourceRun(network=name, role=roles.get(name, "family"), **known) for name in networks}


def last_part(name: str) -> str:
    """A name of data or of weights, of a path its last part: `imagefolder:/home/me/birds` as `imagefolder: birds`."""
    kind, colon, path = name.partition(":")
    return f"{kind}: {Path(path).name}" if colon else Path(name).name


def _parent(supernet: object) -> str | None:
    """Of a transplanted supernet."""
    if getattr(supernet, "kind", None) != "transplant":
        return None
    given = getattr(supernet, "parent", None)
    return last_part(given) if given else "trained by the run"
