"""The trial log as an Optuna study, one categorical parameter a gene: rebuilt from the log, in memory or in a
storage of the user's where optuna-dashboard shows it."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.engine.log import TrialLog
from search.engine.objectives import Objective
from search.engine.problem import Problem
from search.engine.trial import FAILED, REPEATED, Trial
from search.errors import UserError
from search.secrets import without_secrets
from search.terminal import printable
from spaces.genes import Gene
from spaces.space import Codes, Space

LOCK_FILE_SUFFIX = ".lock"  # Optuna's
LOCK_SECONDS = 10  # after which a lock that nobody lets go of is a dead process's; an entry takes milliseconds
Distributions = dict[str, BaseDistribution]


class FixedSpaceSampler(BaseSampler):
    """To be mixed in before a sampler that would infer the search space from all trials."""

    distributions: Distributions

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> Distributions:
        return {name: each for name, each in self.distributions.items() if not each.single()}


DRIVERS = {"MySQLdb": "mysqlclient", "psycopg2": "psycopg2-binary"}  # whose packages are called otherwise


@cache
def choice_labels(gene: Gene) -> tuple[str | float, ...]:
    """A gene's choices as a dashboard shows them."""
    return gene.labels


def distributions(space: Space) -> Distributions:
    return {gene.name: CategoricalDistribution(choice_labels(gene)) for gene in space.genes}


def params(space: Space, code: list[int]) -> dict[str, str | float]:
    return {gene.name: choice_labels(gene)[index] for gene, index in zip(space.genes, code, strict=True)}


def code_from_params(space: Space, params: Mapping[str, object]) -> Codes:
    """[genes]: as a sampler proposed it, which a resumed one must see again; not always canonical."""
    return np.array([choice_labels(gene).index(params[gene.name]) for gene in space.genes], dtype=np.int64)


def failed(row: Trial) -> bool:
    """Whether a trial has no values, because it failed or repeats one that failed."""
    return row.state == FAILED or (row.state == REPEATED and row.error is not None)


def objective_values(row: Trial, objectives: tuple[Objective, ...]) -> list[float]:
    """The values that the sampler gets. An infeasible network counts by its violation, its accuracy is unknown."""
    return [float(row.metrics.get(o.name) or 0.0) for o in objectives]


def shown_attributes(row: Trial) -> dict[str, str | int]:
    """What a dashboard shows of a trial besides its values."""
    return {"arch": row.arch, "macs": row.macs, "params": row.params, "state": row.state}


def frozen_trial(row: Trial, problem: Problem, search_space: Distributions) -> FrozenTrial:
    """A row of the log as a finished trial."""
    return create_trial(
        state=TrialState.FAIL if failed(row) else TrialState.COMPLETE,
        values=None if failed(row) else objective_values(row, problem.sampler_objectives),
        params=params(problem.space, row.code),
        distributions=search_space,
        system_attrs=row.backend.model_dump(exclude_unset=True),
        constraints={"budget": row.excess},
        user_attrs=shown_attributes(row),
    )


def rebuild(problem: Problem, log: TrialLog, search_space: Distributions, storage: str | None) -> optuna.Study:
    """The study of all trials in the log. A storage's is made anew, under the log's folder and a hash of what it is."""
    directions = [
        StudyDirection.MAXIMIZE if o.maximise else StudyDirection.MINIMIZE for o in problem.sampler_objectives
    ]
    folder, where = log.path.parent.resolve(), open_storage(storage)
    mark = hashlib.sha256(f"{folder} {log.header}".encode(errors="surrogateescape")).hexdigest()[:8]
    name = f"{printable(folder.name)}-{mark}"
    if where is not None and name in optuna.get_all_study_names(where):
        optuna.delete_study(study_name=name, storage=where)
    study = optuna.create_study(directions=directions, study_name=name, storage=where)
    study.set_metric_names([o.name for o in problem.sampler_objectives])
    for row in log.trials:
        study.add_trial(frozen_trial(row, problem, search_space))
    return study


def open_storage(storage: str | None) -> Any:
    """A journal file by its path (`search.journal`), a database by its address (`sqlite:///search.db`,
    `postgresql://...`, `mysql://...`), or None for memory.

    Raises:
        UserError: it can't be opened.
    """
    if storage is None:
        return None
    try:
        if "://" in storage:
            return optuna.storages.RDBStorage(storage)
        return _journal(Path(storage).absolute())
    except ImportError as error:
        module = getattr(error.__cause__, "name", None) or "its driver"
        raise UserError(
            f"the storage {without_secrets(storage)} needs another package: pip install {DRIVERS.get(module, module)}"
        ) from None
    except Exception as error:  # SQLAlchemy's, of many kinds
        raise UserError(
            f"the storage {without_secrets(storage)} can't be opened: {_first_line(error, storage)}"
        ) from None


@contextmanager
def using(storage: str | None, begun: bool = True) -> Iterator[None]:
    """Around whatever reads or writes the study while a search is at work.

    Args:
        begun: the study is there; a journal that is not was taken away, and Optuna would begin another, unnoticed.

    Raises:
        UserError: the storage fails: it is gone, locked or read-only. The trials are in the log.
    """
    try:
        if begun and storage and "://" not in storage and not Path(storage).exists():
            raise FileNotFoundError("it is gone")
        yield
    except Exception as error:  # of the driver's, SQLAlchemy's and Optuna's kinds
        if storage is None or isinstance(error, UserError):
            raise
        raise UserError(
            f"the storage {without_secrets(storage)} fails: {_first_line(error, storage)}; the evaluated networks are "
            f"in the log, and --resume goes on with them"
        ) from None


def _journal(path: Path) -> JournalStorage:
    """A journal file by its whole path: Optuna locks it with a link to it, and looks through the link for how old the
    lock is. A link that leads nowhere, as a relative one does, would be waited for without end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    link = path.with_name(path.name + LOCK_FILE_SUFFIX)
    if link.is_symlink() and not link.exists():
        link.unlink(missing_ok=True)
    return JournalStorage(JournalFileBackend(str(path), JournalFileSymlinkLock(str(path), LOCK_SECONDS)))


def _first_line(error: BaseException, storage: str) -> str:
    text = str(error.__cause__ or error).strip() or type(error).__name__
    return without_secrets(text.splitlines()[0][:200].replace(storage, without_secrets(storage)))
