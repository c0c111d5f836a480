"""Builds a search problem from files and a configuration, and the header of its log. Torch is not loaded."""

import math
import re
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from ghostnet.arch import Arch
from ghostnet.memory import value_bytes
from search.accuracy.predictor import AccuracyCorrection
from search.accuracy.study import NORMS
from search.engine import budgets
from search.engine.budgets import LatencyBudget, Within
from search.engine.choose import WAY, check_ways
from search.engine.log import SearchHeader
from search.engine.objectives import (
    ACCURACY,
    LATENCY,
    MACS,
    PARAMS,
    LatencyObjective,
    Objective,
    Tabulated,
    ThroughputObjective,
)
from search.engine.optuna_study import open_storage
from search.engine.predicted_front import NO_SUM, sum_over_units
from search.engine.problem import Problem
from search.errors import UserError
from search.extras import check_extra, check_ray
from search.identity import file_digest
from search.latency.predictor import Predictor
from search.latency.table import LatencyTable
from search.parallel.cluster import HERE, Cluster
from search.recipes.choices import NO_SUMS, OBJECTIVES, THROUGHPUT
from search.recipes.schema import Search, check_has_parent, parse_milliseconds
from search.secrets import storage_address
from search.training.metadata import read_metadata, supernet_id
from spaces.quantities import Window
from spaces.tables import memory_table, weights_table


def build_problem(
    supernet: Path,
    tables: Sequence[Path],
    config: Search,
    latency_budgets: Sequence[Mapping[str, float]] | None = None,
    own: Sequence[Objective] = (),
) -> Problem:
    """Builds a feasible problem, without its evaluator, from files and a configuration. Torch is not loaded.

    Args:
        tables: of one or several targets; the first is `latency_ms`, others are named after their files. Without any,
            multiply-adds stand in for latency.
        latency_budgets: for each table milliseconds by their text; None: the configuration's, for the first one.
        own: objectives of the user's, next to the configuration's.

    Raises:
        UserError, SpaceError: files that don't fit together, or a budget that no network meets.
    """
    metadata, space = read_metadata(supernet)
    check_has_parent(config, metadata.kind, space)
    loaded = [LatencyTable.load(table) for table in tables]
    predictors = [Predictor(table, space) for table in loaded]
    names = ["latency_ms", *(f"latency_{_column_name(table)}_ms" for table in tables[1:])][: len(tables)]
    latencies = {name: LatencyObjective(name, predict=each) for name, each in zip(names, predictors, strict=True)}
    columns = [column for each in latencies.values() for column in (each.name, each.low, each.high)]
    if len(set(columns)) < 3 * len(tables):  # a table named `high` has the column of the first one's upper ends
        twice = next((column for column in columns if columns.count(column) > 1), names[-1])
        raise UserError(
            f"latency tables of several targets must have different names, not {', '.join(names[1:])}: two of them "
            f"would have the column {twice}"
        )
    size, dtype = _value_bytes(loaded)
    sizes: dict[Any, Tabulated] = {
        "memory": Tabulated("memory", table=memory_table(space, size)),
        "weights": Tabulated("weights", table=weights_table(space, dtype)),
    }
    known: dict[str, Objective] = {"accuracy": ACCURACY, **latencies, "macs": MACS, "params": PARAMS, **sizes}
    targets = [(table.setting.batch, predict) for table, predict in zip(loaded, predictors, strict=True)]
    rates = {text: _throughput(text, targets) for text in config.objectives if text.startswith(THROUGHPUT)}
    if len(rates) > 1:
        raise UserError(f"the objective {THROUGHPUT} goes with one limit, not {', '.join(rates)}")
    names_of_objectives = [*known, THROUGHPUT]
    known |= {objective.name: objective for objective in rates.values()}
    wanted = [rates[text].name if text in rates else text for text in config.objectives]
    if wanted == ["accuracy", "latency_ms"]:
        wanted = ["accuracy", *(names or ["macs"])]  # every target
    if taken := [each.name for each in own if each.name in known]:
        raise UserError(f"an objective of one's own needs another name than {taken[0]!r}, which a log has anyway")
    known |= {objective.name: objective for objective in own}
    names_of_objectives += [objective.name for objective in own]
    wanted += [objective.name for objective in own]
    check_objectives(wanted, known, names_of_objectives)
    if latency_budgets is None:
        latency_budgets = [config.milliseconds][: len(tables)]
    if len(latency_budgets) > len(names):
        raise UserError(f"{len(latency_budgets)} latency budgets for {len(names)} latency tables")
    bounds = [
        {
            f"{name.removesuffix('_ms')} {label}" if len(names) > 1 else label: LatencyBudget(
                latencies[name], ms, predict.least_high
            )
            for label, ms in milliseconds.items()
        }
        for name, predict, milliseconds in zip(names, predictors, latency_budgets, strict=False)
    ]
    counts = config.windows(size)
    flops, *others = (
        {label if quantity == "macs" else f"{label} {quantity}": Within(window) for label, window in windows.items()}
        for quantity, windows in counts.items()
    )
    also: list[Objective] = [latency for name, latency in latencies.items() if name not in wanted]
    also += [size for name, size in sizes.items() if counts.get(name) and name not in wanted]
    problem = Problem(
        space=space,
        evaluate=_unset,
        objectives=tuple(known[name] for name in wanted),
        also=tuple(also),
        budgets=budgets.combine_budgets(flops, *bounds, *others),  # type: ignore[arg-type]
        trial_seconds=config.trial_seconds,
    )
    problem.check()
    if config.sampler == "exact":
        for objective in problem.objectives[1:]:
            sum_over_units(space, objective)
    return problem


def _throughput(text: str, targets: Sequence[tuple[int, Predictor]]) -> ThroughputObjective:
    """The objective that `images_per_second` is, or `images_per_second@20ms`, in which a whole batch must be done.

    Raises:
        UserError: it is none, or there are no latency tables, or two of one batch.
    """
    _, at, limit = text.partition("@")
    if text != f"{THROUGHPUT}{at}{limit}" or (at and not limit):
        raise UserError(f"an objective is {THROUGHPUT}, or with a limit for a batch {THROUGHPUT}@20ms, not {text!r}")
    limits = [*parse_milliseconds(limit).values()] if limit else [float("inf")]
    if len(limits) > 1:
        raise UserError(f"the objective {THROUGHPUT} goes with one limit, not {text!r}")
    (limit_ms,) = limits
    batches = sorted(batch for batch, _ in targets)
    if not batches or len(set(batches)) < len(batches):
        raise UserError(
            f"the objective {THROUGHPUT} wants latency tables of different batches, not of "
            f"{', '.join(map(str, batches)) or 'none'}"
        )
    name = f"{THROUGHPUT}_in_{limit_ms:g}ms" if limit else THROUGHPUT
    return ThroughputObjective(name, targets=tuple(targets), limit_ms=limit_ms)


def _value_bytes(tables: Sequence[LatencyTable]) -> tuple[int, str]:
    """Bytes of an activation, for the whole batch, and the data type that the first table is of."""
    if not tables:
        return value_bytes(1, "float32"), "float32"
    setting = tables[0].setting
    return value_bytes(setting.batch, setting.dtype), setting.dtype


def _column_name(table: Path) -> str:
    return re.sub(r"\W+", "_", table.name.removesuffix(".json").removesuffix(".lat"))


def _unset(arch: Arch) -> float:
    raise AssertionError("no evaluator yet")


def header(
    supernet: Path,
    tables: Sequence[Path],
    data: str,
    config: Search,
    problem: Problem,
    seed: int,
    **evaluation: Any,
) -> SearchHeader:
    """The header of a search's log.

    Args:
        data: the data set's fingerprint.
        evaluation: where it isn't by inherited accuracy as that is: `fidelity`; `evaluate`, `training` and
            `transplants`; or `evaluator`.
    """
    return SearchHeader(
        schema="ghostnas.trials/3",
        space_id=problem.space.id,
        supernet=supernet_id(supernet),
        latency_tables=[file_digest(table) for table in tables],
        data=data,
        norms=NORMS,
        objectives=[objective.name for objective in problem.objectives],
        budgets=list(problem.budgets),
        sampler=config.sampler,
        population=config.first,
        seed=seed,
        **evaluation,
    )


def check_objectives(wanted: Sequence[str], known: Container[str], named: Sequence[str] = OBJECTIVES) -> None:
    """Whether objectives are accuracy and others of those that are known.

    Raises:
        UserError: they are not; names those that there are.
    """
    for name in wanted:
        if name not in known:
            raise UserError(f"an objective is one of {', '.join(named)}, not {name!r}")
    if len(wanted) < 2 or wanted[0] != "accuracy" or len(set(wanted)) < len(wanted):
        raise UserError(f"objectives are accuracy and at least one more, each once, not {', '.join(wanted)}")


def check_run_search(config: Search) -> None:
    """Whether the search of a run, which has one table yet to come, has objectives that there are, and its backend.

    Raises:
        UserError: it lacks one.
    """
    wanted = [THROUGHPUT if name.startswith(f"{THROUGHPUT}@") else name for name in config.objectives]
    check_objectives(wanted, OBJECTIVES)
    if config.sampler == "exact" and (others := [name for name in wanted if name in NO_SUMS]):
        raise UserError(f"{NO_SUM} {others[0]}")
    check_backend(config)


def check_backend(config: Search, cluster: Cluster = HERE, gpus: float = 0.0) -> None:
    """Whether a search's backend has work elsewhere than in this process and a storage, as far as it is given them, and
    whether its package is there.

    Args:
        cluster, gpus: as `search_networks` has them.

    Raises:
        UserError: it has not, or is not.
    """
    if not 0 <= gpus < math.inf or (gpus > 1 and gpus % 1):  # as Ray gives them
        raise UserError(f"gpus of a worker must be a share from 0 to 1, or a whole number, but got {gpus:g}")
    here = config.backend == "optuna" and cluster.is_spread
    if here or (config.backend != "ray" and (cluster.address is not None or gpus)):
        what = "address and gpus" if config.backend == "nni" else "workers, address and gpus"
        raise UserError(f"{what} go with the backend ray, not {config.backend}")
    if config.storage and config.backend == "nni":
        raise UserError("a storage is Optuna's: it goes with the backend optuna or ray, not nni")
    if config.backend == "nni":
        check_extra("nni", "nni")
    if config.backend == "ray":
        check_ray("the backend ray needs")


def check_storage(config: Search) -> None:
    """Whether the storage of a search can be opened, where it has one.

    Raises:
        UserError: it can't.
    """
    if config.backend != "nni" and (address := storage_address(config.storage)):
        open_storage(address)


def check_choice(ways: str, problem: Problem) -> None:
    """Raises:
    UserError, SpaceError: a way of choosing that is none; or within milliseconds or multiply-adds that no network of
        the space has.
    """
    check_ways(ways)
    every = (*problem.objectives, *problem.also)
    latencies = [each for each in every if isinstance(each, LatencyObjective) and each.name == LATENCY.name]
    for way in map(str.strip, ways.split(",")):
        if not way.endswith("ms"):
            if (match := WAY.fullmatch(way)) and match["window"]:
                Window.parse(way).check(problem.space)
        elif not latencies:
            raise UserError(f"a choice within {way} wants a latency table")
        elif isinstance(predict := latencies[0].predict, Predictor):
            LatencyBudget(latencies[0], float(way.removesuffix("ms")), predict.least_high).check(problem.space)


def check_search(
    supernet: Path,
    tables: Sequence[Path],
    config: Search,
    latency_budgets: Sequence[Mapping[str, float]],
    own: Sequence[Objective],
    fidelity: Path | None,
    choose: str | None = None,
) -> None:
    """Everything that can be known to be wrong with a search before anything is written or torch is loaded.

    Args:
        choose: how networks are to be chosen then, as `search.engine.choose.pick` has it.

    Raises:
        UserError, SpaceError: files that don't fit together, a budget that no network meets, or a choice that none can
            answer, a storage that is none.
    """
    check_backend(config)
    problem = build_problem(supernet, tables, config, latency_budgets, own)
    if choose:
        check_choice(choose, problem)
    if fidelity:
        AccuracyCorrection.load(fidelity, supernet)
    check_storage(config)
