"""The search in process, by Optuna's `ask` and `tell`.

The study is rebuilt from the trial log; each proposal draws from (seed, trial number). So a search that was killed goes
on exactly as it would have gone.
"""

import warnings
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.engine import optuna_study as studies
from search.engine.ahead import Ahead
from search.engine.front import Front
from search.engine.log import TrialLog
from search.engine.problem import Problem
from search.engine.samplers import samplers
from search.engine.samplers.initial import InitialSampler
from search.engine.samplers.proposer import Proposer
from search.engine.search_plan import SearchPlan
from search.engine.trial import COMPLETE, Trial
from search.files import JsonObject
from search.progress import bar


def search(problem: Problem, log: TrialLog, plan: SearchPlan) -> None:
    """Evaluates different networks until the plan is over.

    Raises:
        UserError: the plan's storage can't be opened, or fails on the way.
    """
    silence_optuna()
    initial_sampler = InitialSampler(problem, log, plan)
    search_space = studies.distributions(problem.space)
    with studies.using(plan.storage, begun=False):
        study = studies.rebuild(problem, log, search_space, plan.storage)
    sampler_for = samplers(problem, log, plan)
    best = Front(problem.objectives)
    best.add(log.evaluated)
    with Ahead(problem, log, plan) as ahead, bar("search", plan.trials, plan.deadline) as progress:
        progress.update(log.num_evaluated)
        while plan.end_reason(log, problem.objectives) is None:
            number = len(log.trials)
            study.sampler = sampler_for(number)
            sampled = initial_sampler(number)
            with studies.using(plan.storage):
                if sampled is not None:
                    study.enqueue_trial(studies.params(problem.space, sampled.tolist()))
                asked = study.ask(search_space)
            code = studies.code_from_params(problem.space, asked.params)
            settled = initial_sampler.settled(number + 1)
            if not len(settled) and isinstance(study.sampler, Proposer):
                settled = study.sampler.settled(number + 1)
            row = problem.run(code, log.seen, ahead.evaluation(code, settled))
            with studies.using(plan.storage):
                if plan.storage:
                    for key, value in studies.shown_attributes(row).items():
                        asked.set_user_attr(key, value)
                asked.set_constraint("budget", row.excess)
                trial = finish_trial(study, asked, row, problem)
            log.append(row, backend_state(trial))
            best.add([row] if row.state == COMPLETE else [])
            progress.update(log.num_evaluated, f"front {len(best)}")


def finish_trial(study: optuna.Study, asked: Any, row: Trial, problem: Problem) -> FrozenTrial:
    """Ends a trial of the study with its result."""
    if studies.failed(row):
        return study.tell(asked, state=TrialState.FAIL)
    return study.tell(asked, studies.objective_values(row, problem.sampler_objectives), state=TrialState.COMPLETE)


def silence_optuna() -> None:
    """Silences Optuna's message about every trial."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def backend_state(trial: FrozenTrial) -> JsonObject:
    """The sampler's own attributes of a trial, such as its generation, without those that the row has already."""
    known = ("fixed_params", "constraints", "tpe:relative_params")
    return {k: v for k, v in trial._system_attrs.items() if not k.startswith(known)}
