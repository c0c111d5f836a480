"""The search in process, by Optuna's samplers, one categorical parameter a gene.

The study lives in memory and is rebuilt from the trial log; each proposal draws from (seed, trial number). So a search
that was killed goes on exactly as it would have gone.
"""

import time
import warnings
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.engine.front import front
from search.engine.log import TrialLog
from search.engine.problem import FAILED, Problem, Trial
from search.progress import bar
from search.recipe import Sampler
from spaces.space import Space

PROPOSALS = 50  # a trial, before the search ends for want of new networks


def search(
    problem: Problem,
    log: TrialLog,
    *,
    trials: int,
    sampler: Sampler = "nsga2",
    population: int = 40,
    seed: int = 0,
    deadline: float | None = None,
    at_least: int = 1,
) -> None:
    """Evaluates different networks until the log has `trials`, or `deadline` (`time.monotonic()`) has passed and it has
    `at_least` so many.

    The first `population` are drawn inside the budget, uniformly; the sampler goes on from them.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    initial = problem.initial(np.random.default_rng([seed, 2]), min(population, trials))
    distributions = _distributions(problem.space)
    study = optuna.create_study(directions=["maximize", "minimize"])
    for row in log.trials:
        study.add_trial(_frozen(row, problem.space, distributions))
    parents: set[int] = set()
    with bar("search", trials) as progress:
        progress.at(log.spent)
        while log.spent < trials and len(log.trials) < PROPOSALS * trials:
            if deadline is not None and time.monotonic() > deadline and log.spent >= at_least:
                break
            number = len(log.trials)
            study.sampler = _sampler(sampler, population, seed, number)
            _settle_parents(study, population, parents)
            if number < len(initial):
                study.enqueue_trial(_params(problem.space, initial[number].tolist()))
            asked = study.ask(distributions)
            code = np.array([asked.params[gene.name] for gene in problem.space.genes], dtype=np.int64)
            row = problem.run(code, log.seen)
            asked.set_constraint("budget", row["excess"])
            told = study.tell(
                asked,
                _values(row) if row["state"] != FAILED else None,
                state=TrialState.COMPLETE if row["state"] != FAILED else TrialState.FAIL,
            )
            log.append({"number": number, **row, "backend": _backend_state(told)})
            progress.at(log.spent, f"front {len(front(log.evaluated))}")


def _settle_parents(study: optuna.Study, population: int, settled: set[int]) -> None:
    """Has a genetic sampler choose the parents of a new generation before it is asked for a child. It caches them in
    another order than it first returns them in; taken from the cache always, a resumed search draws as an unbroken one.
    """
    sampler = study.sampler
    if isinstance(sampler, optuna.samplers.BaseGASampler):
        generation = len(settled) + 1
        while len(sampler.get_population(study, generation - 1)) >= population:
            sampler.get_parent_population(study, generation)
            settled.add(generation)
            generation += 1


def _distributions(space: Space) -> dict[str, Any]:
    return {gene.name: CategoricalDistribution(tuple(range(len(gene.choices)))) for gene in space.genes}


def _params(space: Space, code: list[int]) -> dict[str, int]:
    return {gene.name: index for gene, index in zip(space.genes, code, strict=True)}


def _values(row: Trial) -> tuple[float, float]:
    """What the sampler is told; an infeasible network counts by its violation, its accuracy is unknown."""
    return (0.0 if row["accuracy"] is None else row["accuracy"], row["latency_ms"])


def _backend_state(told: FrozenTrial) -> dict[str, Any]:
    """What the sampler noted with the trial, such as its generation."""
    return {k: v for k, v in told._system_attrs.items() if not k.startswith(("fixed_params", "constraints"))}


def _frozen(row: Trial, space: Space, distributions: dict[str, Any]) -> FrozenTrial:
    failed = row["state"] == FAILED
    return create_trial(
        state=TrialState.FAIL if failed else TrialState.COMPLETE,
        values=None if failed else _values(row),
        params=_params(space, row["code"]),
        distributions=distributions,
        system_attrs=dict(row["backend"]),
        constraints={"budget": row["excess"]},
    )


def _sampler(name: Sampler, population: int, seed: int, number: int) -> optuna.samplers.BaseSampler:
    drawn = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    match name:
        case "nsga2":
            return optuna.samplers.NSGAIISampler(population_size=population, seed=drawn)
        case "nsga3":
            return optuna.samplers.NSGAIIISampler(population_size=population, seed=drawn)
        case "tpe":
            return optuna.samplers.TPESampler(n_startup_trials=population, seed=drawn)
        case "gp":
            return optuna.samplers.GPSampler(n_startup_trials=population, seed=drawn)
        case "random":
            return optuna.samplers.RandomSampler(seed=drawn)
