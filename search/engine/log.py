"""The trial log, `trials.jsonl`: every network that a search proposed, in order. A search resumes from it alone, under
any backend.

A row has `number`, `state` (complete, repeated, infeasible, failed), `arch`, `code`, the objectives (`accuracy`,
`latency_ms` with its interval), `macs`, `params`, `excess`, `seconds`, and `backend`: what the backend needs to go on.
The first row is a header that says which search this is; another search is refused.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field, ValidationError, model_validator

from search.engine.problem import COMPLETE, FAILED, Problem, Trial
from search.errors import UserError
from search.files import JsonLines
from search.folders import locked
from search.identity import check_same
from search.records import ArchId, Count, Record, Seconds, first_error, parse_record
from spaces.space import Space

LARGEST_INDEX = 1 << 20  # of a gene's choice


def check_code(code: list[int]) -> list[int]:
    """The code unchanged, if it may be one of some space.

    Raises:
        ValueError: it can't.
    """
    if not code or min(code) < 0 or max(code) > LARGEST_INDEX:
        raise ValueError(f"a code must have indices from 0 to {LARGEST_INDEX}, but got {str(code)[:60]}")
    return code


class BackendState(Record):
    """What a backend needs to go on; Optuna's genetic samplers the `generation`."""

    model_config = ConfigDict(extra="allow")
    generation: Count = 0


class TrialRecord(Record):
    """A row of the log. Further columns are objectives, and what an evaluator or a latency table says beside them."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | str | None]
    number: Count
    state: Literal["complete", "repeated", "infeasible", "failed"]
    arch: ArchId
    code: Annotated[list[int], Field(min_length=1, max_length=10_000)]
    macs: Count
    params: Count
    excess: Annotated[float, Field(ge=0)]
    seconds: Seconds
    backend: BackendState
    accuracy: float | None = None

    @model_validator(mode="after")
    def _whole(self) -> "TrialRecord":
        check_code(self.code)
        if self.backend.generation > self.number:
            raise ValueError(f"trial {self.number} can't be of generation {self.backend.generation}")
        if self.state == COMPLETE and None in (self.accuracy, *(self.__pydantic_extra__ or {}).values()):
            raise ValueError("an evaluated network must have a number in every column, but got null")
        return self

    @classmethod
    def check(cls, row: Trial) -> Trial:
        """The row unchanged, if it is a valid trial.

        Raises:
            ValueError: it isn't.
        """
        try:
            cls.model_validate(row)
        except ValidationError as error:
            raise ValueError(first_error(error)) from None
        return row


def check_trials(
    lines: JsonLines, rows: Iterable[dict[str, Any]], space: Space | None = None, columns: Sequence[str] = ()
) -> list[Trial]:
    """The rows after a log's header, if they are whole trials in order.

    Args:
        space: whose codes they must have.
        columns: that every row must have, those of evaluated networks as numbers.

    Raises:
        UserError: a row is no trial, or of another search.
    """
    trials: list[Trial] = []
    numbers_before: set[str] | None = None
    for number, row in enumerate(rows):
        line = lines.line_name(number + 2)
        parse_record(TrialRecord, row, line)
        if row["number"] != number:
            raise UserError(f"{line} is trial {row['number']}, where {number} must follow")
        if missing := [name for name in columns if not _is_there(row, name)]:
            raise UserError(f"{line}: a trial with the state {row['state']!r} has no number as `{missing[0]}`")
        if space and (len(row["code"]) != len(space.choices) or not (np.array(row["code"]) < space.choices).all()):
            raise UserError(f"{line}: {str(row['code'])[:60]} is no code of space {space.name}")
        if row["state"] == COMPLETE:  # what an evaluator gives for one network, it gives for all
            numbers = {name for name, value in row.items() if isinstance(value, int | float)}
            if numbers_before is not None and numbers != numbers_before:
                other = sorted(numbers ^ numbers_before)[0][:80]
                raise UserError(f"{line}: one evaluated network has a number as {other!r}, another has none")
            numbers_before = numbers
        trials.append(row)
    return trials


def _is_there(row: Trial, name: str) -> bool:
    value = row.get(name, "")
    return isinstance(value, int | float) or (value is None and row["state"] != COMPLETE)


class TrialLog:
    """Trials on disk and in memory; one process at a time, for as long as it lives or until `close`.

    Args:
        header: what makes trials comparable: space, supernet, latency table, budget, sampler, seed.
        problem: what trials from before must be of; None leaves their codes and objectives unchecked.

    Raises:
        UserError: the file holds another search's trials or none, or another process is at work in its folder.
    """

    def __init__(self, path: Path, header: dict[str, Any], problem: Problem | None = None) -> None:
        self.path, self.header = path, header
        self._lines, self._open = JsonLines(path), ExitStack()
        with ExitStack() as opened:
            opened.enter_context(locked(path.parent))
            rows = list(self._lines)
            if not rows:
                self._lines.append(header)
            else:
                check_same(rows[0], header, f"{path} holds trials of another search")
            known = check_trials(self._lines, rows[1:], *((problem.space, _columns(problem)) if problem else ()))
            self._open = opened.pop_all()
        self.trials: list[Trial] = []
        self.seen: dict[str, Trial] = {}  # evaluated and failed, by architecture
        self.evaluated: list[Trial] = []  # complete: each a different network
        for trial in known:
            self._remember(trial)

    def __enter__(self) -> "TrialLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the log, so that another search may open it."""
        self._open.close()

    def append(self, trial: Trial) -> None:
        """Adds a trial; it is on the disk on return."""
        self._lines.append(trial)
        self._remember(trial)

    def _remember(self, trial: Trial) -> None:
        self.trials.append(trial)
        if trial["state"] == COMPLETE:
            self.evaluated.append(trial)
        if trial["state"] in (COMPLETE, FAILED):
            self.seen[trial["arch"]] = trial

    @property
    def num_evaluated(self) -> int:
        """Number of networks whose evaluation was paid for, failed ones included."""
        return len(self.seen)


def _columns(problem: Problem) -> list[str]:
    """What every row of a problem's log has: what is known of a network beforehand, and the objectives."""
    known = problem.columns(np.zeros((1, len(problem.space.choices)), dtype=np.int64))
    return [*known, *(o.name for o in problem.objectives if o.name not in known)]


def read_trials(path: Path, space: Space | None = None, columns: Sequence[str] = ()) -> list[Trial]:
    """All trials of a log.

    Args:
        space, columns: as `check_trials`.

    Raises:
        UserError: there is no such log, or it holds something else.
    """
    lines = JsonLines(path)
    rows = list(lines)
    if not rows:
        raise UserError(f"no trials in {path}")
    return check_trials(lines, rows[1:], space, columns)
