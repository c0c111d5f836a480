"""The files of a fidelity study as types: the networks that it plans, and `fidelity.json`. Read without torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from ghostnet.arch import Arch, ArchError
from search.errors import UserError
from search.files import JsonLines, read_json
from search.records import ArchId, Code, Count, Record, Share, parse_record
from spaces.space import Space

SCHEMA: Literal["ghostnas.fidelity/1"] = "ghostnas.fidelity/1"
NORMS = "augmented as in training"  # what norms are shown; clean images gave an earlier version other accuracies
Rank = Annotated[float, Field(ge=-1.000001, le=1.000001)]


def _interval(ends: list[float]) -> list[float]:
    if len(ends) != 2 or not ends[0] <= ends[1]:
        raise ValueError(f"must be two numbers in order, but got {str(ends)[:60]}")
    return ends


Interval = Annotated[list[float], AfterValidator(_interval)]


def check_bins(networks: int, bins: int) -> None:
    """Raises:
    UserError: there are too few networks for so many bins of like multiply-adds, in each of which some are ranked.
    """
    if bins < 1:
        raise UserError(f"a study has one bin or more, not {bins}")
    if networks < 2 * bins:
        raise UserError(f"a bin needs two networks: at least {2 * bins} in {bins} bins, but got {networks}")


class StudyNetwork(Record):
    """A network that was trained fully: what the supernet said of it, and its accuracies on the test split and, for a
    correction, on the search split."""

    model_config = ConfigDict(extra="allow")
    arch: ArchId
    code: Code | None = None
    kind: Literal["spread", "front"] = "spread"
    macs: Annotated[int, Field(ge=1)]
    params: Annotated[int, Field(ge=1)]
    inherited: Share
    trained: Share
    trained_by_seed: list[Share] = Field(default_factory=list)
    trained_on_search: Share | None = None


class InheritedRow(Record):
    """A line of `inherited.jsonl`: a network's accuracy with the supernet's weights."""

    arch: ArchId
    accuracy: Share


class Bin(Record):
    """Networks of like multiply-adds, and what is lost by taking the best of them by inherited accuracy."""

    model_config = ConfigDict(extra="allow")
    macs: Annotated[list[Count], Field(min_length=2, max_length=2)]
    networks: Annotated[int, Field(ge=1)]
    kendall_tau: Rank
    spearman: Rank | None = None
    regret: Annotated[float, Field(ge=0)]
    regret_of_a_random_pick: float


class Corrected(Record):
    """Ranking and error of the corrected supernet, each network by a fit on the others."""

    kendall_tau: Rank
    tau_within_bins: Rank
    error: Annotated[float, Field(ge=0)]


class Epochs(Record):
    """How the networks were trained: a recipe's `[retrain]`."""

    model_config = ConfigDict(extra="allow")
    epochs: Annotated[float, Field(gt=0)]


class Agreement(Record):
    """How well one value of networks ranks another; `search.accuracy.ranking_study.agreement` says what is what."""

    model_config = ConfigDict(extra="allow")
    kendall_tau: Rank
    kendall_tau_95: Interval
    spearman: Rank
    spearman_95: Interval
    tau_within_bins: Rank
    tau_within_bins_95: Interval
    seed_tau: Rank | None
    ceiling_tau: Rank | None
    ceiling_within_bins: Rank | None
    macs_tau: Rank
    macs_within_bins: Rank
    mean_regret: float
    mean_regret_of_a_random_pick: float
    bins: Annotated[list[Bin], Field(min_length=1)]


class Study(Agreement):
    """`fidelity.json`."""

    schema_: Literal["ghostnas.fidelity/1"] = Field(alias="schema")
    space: str
    space_id: str = ""
    norms: str | None = None
    supernet_id: str | None = None
    data: str | None = None
    training_images: Count
    test_images: Annotated[int, Field(ge=1)]
    search_images: Count
    training: Epochs
    seed: Count | None = None
    seeds: Annotated[int, Field(ge=1)]
    corrected: Corrected | None = None
    networks: Annotated[list[StudyNetwork], Field(min_length=2)]


def read_study(file: Path) -> Study:
    """The result of a study.

    Raises:
        UserError: no such file, or no study.
    """
    try:
        content = read_json(file)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    study = parse_record(Study, content, str(file))
    for k, each in enumerate(study.bins):
        if not any(each.macs[0] <= network.macs <= each.macs[1] for network in study.networks):
            raise UserError(f"{file}: no network is in bin {k} of its `bins`")
    return study


def read_inherited(file: Path) -> dict[str, float]:
    """Inherited accuracies by the networks' ids, as far as a study has come; none where there is no such file.

    Raises:
        UserError: a line is something else.
    """
    log = JsonLines(file)
    rows = [parse_record(InheritedRow, row, log.line_name(k)) for k, row in enumerate(log, 1)]
    return {row.arch: row.accuracy for row in rows}


def read_plan(file: Path, space: Space) -> dict[str, Arch]:
    """The networks of a study by their ids, which name their folders.

    Raises:
        UserError: a network is none of the space's, or stands under another's id.
        OSError: there is no such file.
    """
    content = read_json(file)
    if not isinstance(content, dict):
        raise UserError(f"{file} must have architectures by their ids")
    archs: dict[str, Arch] = {}
    for name, value in content.items():
        try:
            archs[name] = Arch.from_dict(value)
        except ArchError as error:
            raise UserError(f"{file}: {name[:40]!r}: {error}") from None
        if archs[name].id != name:
            raise UserError(f"{file}: the architecture under {name[:40]!r} is {archs[name].id}")
        if archs[name] not in space:
            raise UserError(
                f"{file} is of another study: architecture {name} is not in space {space.name}; --out names a new one"
            )
    return archs
