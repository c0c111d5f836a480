"""`result.json`: the result of a run's search, and which networks are trained fully."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, RootModel

from search.engine.search_plan import SearchEnd
from search.engine.trial import Trial
from search.records import ArchId, Code, Count, Name, Record, Seconds, Share, read_record

SCHEMA: Literal["ghostnas.result/1"] = "ghostnas.result/1"


class SearchResult(Record):
    """The front and, by the names of their folders, the networks to train: `chosen` ones, each with its row of the log,
    and `random` ones by their codes. `planned` is how many networks were to be evaluated, `ended` why no more were: of
    files of earlier versions, the time box where fewer were. `seconds` are the stage's since it was last begun, what it
    does before its first evaluation included."""

    schema_: Literal["ghostnas.result/1"] = Field(default=SCHEMA, alias="schema")
    evaluated: Count
    planned: Count
    ended: SearchEnd = Field(
        default_factory=lambda data: "time box" if data["evaluated"] < data["planned"] else "trials"
    )
    front: list[ArchId]
    fronts: dict[str, list[ArchId]] = Field(default_factory=dict)
    chosen: dict[Name, Trial]
    random: dict[Name, Code] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
    seconds: Seconds = 0.0


class Exported(Record):
    """`export/done.json`: the chosen networks that were exported, and those that could not be, with the reason."""

    exported: list[Name]
    left_out: dict[Name, str] = Field(default_factory=dict)


class Figures(RootModel[dict[Name, Annotated[float, Field(gt=0)]]]):
    """A number for each fully trained network: `latency.json` in milliseconds."""

    model_config = ConfigDict(frozen=True, strict=True)


class Shares(RootModel[dict[Name, Share]]):
    """A share for each fully trained network: `inherited.json` the accuracy."""

    model_config = ConfigDict(frozen=True, strict=True)


class NetworkEnergy(Record):
    """Joules of a run, with their standard error."""

    joules: Annotated[float, Field(ge=0)]
    error: Annotated[float, Field(ge=0)]


class EnergyFigures(Record):
    """`energy.json`: the energy of the fully trained networks by a counter, or why it was not measured."""

    counter: str | None
    why_not: str | None = None
    networks: dict[Name, NetworkEnergy] = Field(default_factory=dict)


def read_figures(path: Path) -> dict[str, float]:
    """A number for each network, by its name.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    return read_record(path, Figures).root


def read_shares(path: Path) -> dict[str, float]:
    """A share for each network, by its name.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    return read_record(path, Shares).root


def read_result(path: Path) -> SearchResult:
    """The result of a run's search.

    Raises:
        UserError: there is none, or it breaks a rule.
    """
    return read_record(path, SearchResult)
