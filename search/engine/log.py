"""The trial log, `trials.jsonl`: every network that a search proposed, in order. A search resumes from it alone, under
any backend.

A row is a `search.engine.trial.Trial`. The first row is a header that says which search this is; another search is
refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ConfigDict, Field

from search.engine.objectives import ACCURACY, LATENCY
from search.engine.problem import Problem
from search.engine.trial import COMPLETE, BackendState, Trial, evaluated, latest
from search.errors import UserError
from search.files import JsonLines, JsonObject
from search.folders import locked
from search.identity import check_same
from search.recipes.choices import Sampler
from search.records import Count, Record, check_codes, parse_record, record_json
from spaces.space import Space


def check_trials(
    lines: JsonLines, rows: Iterable[Mapping[str, object]], space: Space | None = None, columns: Sequence[str] = ()
) -> list[Trial]:
    """The rows after a log's header, if they are whole trials in order.

    Args:
        space: whose codes they must have.
        columns: that every row must have, those of evaluated networks as numbers.

    Raises:
        UserError: a row is no trial, or of another search.
    """
    trials: list[Trial] = []
    complete: dict[str, Trial] = {}
    numbers_before: set[str] | None = None
    for number, row in enumerate(rows):
        line = lines.line_name(number + 2)
        trial = parse_record(Trial, row, line)
        if trial.number != number:
            raise UserError(f"{line} is trial {trial.number}, where {number} must follow")
        if missing := [name for name in columns if not _is_there(trial, name)]:
            raise UserError(f"{line}: a trial with the state {trial.state!r} has no number as `{missing[0]}`")
        if space:
            check_codes([trial.code], space, line)
        if trial.state == COMPLETE:  # what an evaluator gives for one network, it gives for all
            numbers = set(trial.metrics)
            if numbers_before is not None and numbers != numbers_before:
                other = sorted(numbers ^ numbers_before)[0][:80]
                raise UserError(f"{line}: one evaluated network has a number as {other!r}, another has none")
            numbers_before = numbers
            if (before := complete.get(trial.arch)) and not _goes_on(before, trial):
                raise UserError(f"{line}: network {trial.arch} was evaluated before, and this is no further rung")
            complete[trial.arch] = trial
        trials.append(trial)
    return trials


def _goes_on(before: Trial, trial: Trial) -> bool:
    """Whether a row has what an earlier one of its network has, and further rungs."""
    had, has = before.rungs or [], trial.rungs or []
    return 0 < len(had) < len(has) and has[: len(had)] == had


def _is_there(trial: Trial, name: str) -> bool:
    return trial.metrics.get(name, ...) is not ... if trial.state != COMPLETE else trial.metrics.get(name) is not None


class LogHeader(Record):
    """The first line of a log, of any version, as far as it is read: the rest only tells one search from another.

    Args:
        objectives: what the search went by, as columns of the log.
        evaluator: the user's own, in place of what `evaluate` says.
        supernet: its id.
        data: the data set's fingerprint.
    """

    space_id: str | None = None
    budgets: list[str] = Field(default_factory=list)
    seed: Count | None = None
    sampler: str | None = None
    evaluate: str = "inherited"
    evaluator: str | None = None
    supernet: str | None = None
    data: str | None = None
    objectives: list[str] = Field(default_factory=lambda: [ACCURACY.name, LATENCY.name])

    @property
    def evaluation(self) -> str:
        """How networks were evaluated; `own`, where a function of the user's did it."""
        return self.evaluate if self.evaluator is None else "own"


class SearchHeader(LogHeader):
    """The first line of a log, as it is written: what makes trials comparable, and a resumed search the same; the
    backend may change.

    Args:
        latency_tables: SHA-256 of each.
        fidelity: SHA-256 of the study that inherited accuracy is corrected by.
        training: how networks are trained that are evaluated so.
        measured: how many unit losses, and transplants that expected accuracy is calibrated on, the search goes by: a
            later one may measure more.
        transplants: a digest of these; of earlier versions, which have no `measured`, of the latter's record.
        functions: digests of the code of the user's evaluator and objectives when the search began, by name.
    """

    model_config = ConfigDict(extra="forbid")
    schema_: Literal["ghostnas.trials/3"] = Field(alias="schema")
    supernet: str
    latency_tables: list[str]
    data: str
    norms: str
    objectives: list[str]
    sampler: Sampler
    population: Count
    fidelity: str | None = None
    training: JsonObject | None = None
    measured: tuple[Count, Count] | None = None
    transplants: str | None = None
    functions: dict[str, str] = Field(default_factory=dict)

    def to_json(self) -> JsonObject:
        """Its JSON, without what is as usual."""
        return {"schema": self.schema_} | self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def read_header(path: Path) -> LogHeader:
    """The header of a log; an empty one where there is no log.

    Raises:
        UserError: the first line is something else.
    """
    lines = JsonLines(path)
    return parse_record(LogHeader, next(iter(lines), {}), lines.line_name(1))


def read_search_header(path: Path) -> SearchHeader | None:
    """The header of a search's log; None where there is no log, or it is of something else."""
    lines = JsonLines(path)
    with suppress(UserError):  # told by who opens it
        if row := next(iter(lines), None):
            return parse_record(SearchHeader, row, lines.line_name(1))
    return None


class TrialLog:
    """Trials on disk and in memory; one process at a time, for as long as it lives or until `close`.

    Args:
        header: what makes trials comparable: space, supernet, latency table, budget, sampler, seed.
        problem: what trials from before must be of; None leaves their codes and objectives unchecked.

    Raises:
        UserError: the file holds another search's trials or none, or another process is at work in its folder.
    """

    def __init__(self, path: Path, header: Mapping[str, object], problem: Problem | None = None) -> None:
        self.path, self.header = path, header
        self._lines, self._open = JsonLines(path), ExitStack()
        with ExitStack() as opened:
            opened.enter_context(locked(path.parent))
            rows = list(self._lines)
            if not rows:
                self._lines.append(dict(header))
            else:
                check_same(rows[0], header, f"{path} holds trials of another search")
            known = check_trials(self._lines, rows[1:], *((problem.space, _columns(problem)) if problem else ()))
            self._open = opened.pop_all()
        self.trials: list[Trial] = []
        self.seen: dict[str, Trial] = {}  # as `latest` has it
        for trial in known:
            self._remember(trial)

    def __enter__(self) -> "TrialLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the log, so that another search may open it."""
        self._open.close()

    def append(self, trial: Trial, backend: Mapping[str, object] | None = None) -> Trial:
        """Adds a trial, which gets the next number; it is on the disk on return.

        Args:
            backend: what the backend needs to go on from it.
        """
        state = BackendState.model_validate(backend or {})
        trial = trial.model_copy(update={"number": len(self.trials), "backend": state})
        self._lines.append(record_json(trial))
        self._remember(trial)
        return trial

    def _remember(self, trial: Trial) -> None:
        self.trials.append(trial)
        self.seen |= latest([trial])

    @property
    def evaluated(self) -> list[Trial]:
        """Complete: each a different network, by its last row."""
        return evaluated(self.seen.values())

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
