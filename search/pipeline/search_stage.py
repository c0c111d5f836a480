"""The search stage: files become a problem, a backend searches it, the trials become fronts."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ghostnet.arch import Arch
from search.accuracy.predictor import Correction
from search.engine import budgets
from search.engine.budgets import LatencyBudget, Within, parse_milliseconds, parse_windows
from search.engine.front import front
from search.engine.log import TrialLog
from search.engine.objectives import ACCURACY, MACS, PARAMS, Latency, Objective
from search.engine.plan import Plan
from search.engine.problem import Problem, Trial
from search.errors import UserError
from search.identity import file_digest
from search.latency.predictor import Predictor
from search.latency.ruler.device import this_device
from search.latency.table import LatencyTable
from search.recipes.schema import Search
from search.secrets import storage_address
from search.training.metadata import check_data, read_card, supernet_id
from spaces.space import Space

if TYPE_CHECKING:  # torch is loaded when a network is evaluated
    from search.data.datasets import Data


LEAST_TAU = 0.7  # of a latency table on networks that it never saw


@dataclass(frozen=True)
class Found:
    """What a search came to: the evaluated trials, a front for each budget, and what makes them doubtful."""

    problem: Problem
    trials: list[Trial]
    warnings: list[str]

    @property
    def front(self) -> list[Trial]:
        """Over all budgets together."""
        return front(self.trials, self.problem.objectives)

    @property
    def inside(self) -> dict[str, list[Trial]]:
        """The trials that each budget admits."""
        return {
            name: [t for t in self.trials if not _excess(budget, t)] for name, budget in self.problem.budgets.items()
        }

    @property
    def fronts(self) -> dict[str, list[Trial]]:
        """Budget by budget, from the same evaluations."""
        return {name: front(trials, self.problem.objectives) for name, trials in self.inside.items()}


def _excess(budget: budgets.Budget, trial: Trial) -> float:
    columns = {k: np.array([v]) for k, v in trial.items() if isinstance(v, int | float)}
    return float(budgets.excess(budget, columns)[0])


def problem_of(
    supernet: Path, tables: Sequence[Path], config: Search, latency_budgets: Sequence[str] | None = None
) -> Problem:
    """The problem that files and a configuration say, all but the evaluator; feasible. Torch is not loaded.

    Args:
        tables: of one or several targets; the first is `latency_ms`, others are named after their files.
        latency_budgets: one for each table, in their order; None: the configuration's, for the first.

    Raises:
        UserError, SpaceError: files that don't fit together, or a budget that no network meets.
    """
    space = read_card(supernet)[1]
    predictors = [Predictor(LatencyTable.load(table), space) for table in tables]
    names = ["latency_ms", *(f"latency_{_plain(table)}_ms" for table in tables[1:])]
    latencies = {name: Latency(name, predict=each) for name, each in zip(names, predictors, strict=True)}
    if len(latencies) < len(tables):
        raise UserError(f"latency tables of several targets must have different names, not {', '.join(names[1:])}")
    known: dict[str, Objective] = {"accuracy": ACCURACY, **latencies, "macs": MACS, "params": PARAMS}
    wanted = list(config.objectives)
    if wanted == ["accuracy", "latency_ms"]:
        wanted = ["accuracy", *names]  # every target
    for name in wanted:
        if name not in known:
            raise UserError(f"an objective is one of {', '.join(known)}, not {name!r}")
    if len(wanted) < 2 or wanted[0] != "accuracy" or len(set(wanted)) < len(wanted):
        raise UserError(f"objectives are accuracy and at least one more, each once, not {', '.join(wanted)}")
    said = latency_budgets if latency_budgets is not None else [config.latency_budget or ""]
    if len(said) > len(names):
        raise UserError(f"{len(said)} latency budgets for {len(names)} latency tables")
    bounds = [
        {
            f"{name.removesuffix('_ms')} {words}" if len(names) > 1 else words: LatencyBudget(
                latencies[name], ms, predict.fastest
            )
            for words, ms in parse_milliseconds(text or None).items()
        }
        for name, predict, text in zip(names, predictors, said, strict=False)
    ]
    flops = {words: Within(window) for words, window in parse_windows(config.flops_budget).items()}
    params = {f"{words} params": Within(w) for words, w in parse_windows(config.params_budget, "params").items()}
    problem = Problem(
        space=space,
        evaluate=_unset,
        objectives=tuple(known[name] for name in wanted),
        also=tuple(latency for name, latency in latencies.items() if name not in wanted),
        budgets=budgets.every(flops, *bounds, params),  # type: ignore[arg-type]
        trial_seconds=config.trial_seconds,
    )
    problem.check()
    return problem


def _plain(table: Path) -> str:
    return re.sub(r"\W+", "_", table.name.removesuffix(".json").removesuffix(".lat"))


def _unset(arch: Arch) -> float:
    raise AssertionError("no evaluator yet")


def search_networks(
    supernet: Path,
    tables: Sequence[Path],
    log: Path,
    data: "Callable[[], Data]",
    config: Search,
    *,
    seed: int,
    latency_budgets: Sequence[str] | None = None,
    address: str | None = None,
    gpus: float = 0.0,
    deadline: float | None = None,
    at_least: int = 1,
    fidelity: Path | None = None,
) -> Found:
    """Searches with a finished supernet and latency tables; the trials go to `log`, on from what is there.

    Args:
        fidelity: `fidelity.json`, by which inherited accuracy is corrected; None: it is taken as it is.

    Raises:
        UserError, SpaceError: files that don't fit together, a budget that no network meets, another search's log, or
            another process at work in its folder.
    """
    problem = problem_of(supernet, tables, config, latency_budgets)
    correction = Correction.load(fidelity, supernet) if fidelity else None
    plan = Plan(
        trials=config.trials,
        sampler=config.sampler,
        population=config.population,
        seed=seed,
        deadline=deadline,
        at_least=at_least,
        storage=storage_address(config.storage) if config.backend != "nni" else None,
        workers=config.workers,
        address=address,
        gpus=gpus,
    )
    check_data(supernet, data())
    about = header(supernet, tables, data().fingerprint, config, problem, seed)
    if fidelity:
        about["fidelity"] = file_digest(fidelity)
    from search.accuracy.predictor import ExpectedAccuracy
    from search.engine.backends import backend
    from search.training.inherited import inherited_accuracy

    inherited = inherited_accuracy(supernet, data())
    evaluate = ExpectedAccuracy(inherited, correction) if correction else inherited
    with TrialLog(log, about) as trials:  # now that everything is read that it takes
        if config.backend != "ray":  # whose workers settle in where they are
            evaluate.settle_in()
        backend(config.backend)(replace(problem, evaluate=evaluate), trials, plan)
        return Found(problem, trials.evaluated, [*rank_doubts(tables), *accuracy_doubts(trials.evaluated, data())])


def rank_doubts(tables: Sequence[Path]) -> list[str]:
    """A warning for each latency table that ranks networks poorly."""
    taus = {table: LatencyTable.load(table).validation.kendall_tau for table in tables}
    return [
        f"{table.name} ranks networks that it never saw to a Kendall tau of {tau:.2f}, below {LEAST_TAU}: its front "
        "may be another's; a longer calibration on a quieter machine ranks better"
        for table, tau in taus.items()
        if tau < LEAST_TAU
    ]


def accuracy_doubts(evaluated: Sequence[Trial], data: "Data") -> list[str]:
    """A warning where the middle one of the evaluated networks is no better than chance."""
    from search.training.doubts import chance_doubts

    known = sorted(trial["accuracy"] for trial in evaluated if trial.get("accuracy") is not None)
    if not known:
        return []
    return chance_doubts(known[len(known) // 2], data.search.labels, "the evaluated networks' median accuracy")


def header(
    supernet: Path,
    tables: Sequence[Path],
    data: str,
    config: Search,
    problem: Problem,
    seed: int,
) -> dict[str, Any]:
    """What makes a log's trials comparable, and a resumed search the same; the backend may change."""
    return {
        "schema": "ghostnas.trials/3",
        "space_id": problem.space.id,
        "supernet": supernet_id(supernet),
        "latency_tables": [file_digest(table) for table in tables],
        "data": data,
        "norms": "augmented as in training",  # clean images gave an earlier version other accuracies
        "objectives": [objective.name for objective in problem.objectives],
        "budgets": list(problem.budgets),
        "sampler": config.sampler,
        "population": config.population,
        "seed": seed,
    }


def measured(trials: Sequence[Trial], space: Space, table: Path) -> dict[str, float]:
    """Milliseconds of networks by their id, timed side by side on the table's runtime; none where this is not the
    machine that the table is of."""
    made = LatencyTable.load(table)
    here = this_device()
    if (made.device.machine, made.device.cpu, made.device.cores) != (here["machine"], here["cpu"], here["cores"]):
        return {}
    from ghostnet.network import GhostNet
    from search.latency.measure import measure
    from search.latency.runtimes import runtime

    setting = made.setting
    run = runtime(setting.runtime, setting.threads, setting.dtype, setting.lowering)  # type: ignore[arg-type]
    archs = [space.decode(np.array(trial["code"])) for trial in trials]
    nets = {  # with any weights: they don't change the time
        arch.id: (GhostNet(arch, space.num_classes, space.in_chs).eval(), (space.in_chs, *(arch.resolution,) * 2))
        for arch in archs
    }
    return measure(run, nets, batch=setting.batch)
