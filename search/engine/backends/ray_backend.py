"""The search on Ray Tune: one machine's processes, or a cluster's.

Proposals come from Optuna through Ray's `OptunaSearch`, its study rebuilt from the trial log; a network that needs no
evaluation never becomes a Ray trial. Workers are class trainables that live on from trial to trial (a process each
costs over a second), and fetch the evaluator from the object store once. A trial whose worker or node died is started
again; a driver that died is restored from the log, not from Ray's own checkpoints.
"""

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from optuna.trial import TrialState
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch
from ray.tune.utils.util import flatten_dict

from search.engine import optuna_study as studies
from search.engine.backends.optuna_backend import backend_state, finish_trial, silence_optuna
from search.engine.backends.ray_worker import RESULT, EvaluationWorker
from search.engine.front import Front
from search.engine.log import TrialLog
from search.engine.problem import Problem
from search.engine.samplers import samplers
from search.engine.samplers.initial import InitialSampler
from search.engine.search_plan import SearchPlan
from search.engine.trial import COMPLETE, Candidate, Evaluation, Rung, Trial
from search.errors import UserError
from search.parallel.cluster import connect
from search.progress import Bar, bar
from search.records import record_json

RETRIES = 3  # of a trial whose worker died
DEATHS = 3  # trials of one network that end so, before it counts as failed


def search(problem: Problem, log: TrialLog, plan: SearchPlan) -> None:
    """Evaluates different networks, as many at a time as there are workers, until the plan is over.

    Raises:
        UserError: no cluster, or the plan's storage can't be opened, or fails on the way.
    """
    silence_optuna()
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # whose table of settings no verbosity silences
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # which takes Ctrl-C for the end of the search
    connect(plan.cluster)
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    needs = {"cpu": 1, **({"gpu": plan.gpus} if plan.gpus else {})}
    with (
        bar("search", plan.trials, plan.deadline) as progress,
        tempfile.TemporaryDirectory(prefix="ghostnas-ray-") as scratch,
    ):
        searcher = LoggedSearch(problem, log, plan, progress)
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(EvaluationWorker, problem=problem), needs),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=RungScheduler(searcher),
                num_samples=-1,
                max_concurrent_trials=plan.cluster.num_workers,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                storage_path=scratch,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=RETRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[],
            ),
        )
        tuner.fit()
        if searcher.error:
            raise searcher.error


class RungScheduler(FIFOScheduler):
    """After every rung of a ladder: whether a network goes on to the next."""

    def __init__(self, search: "LoggedSearch") -> None:
        super().__init__()
        self.search = search

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        climbs = self.search.climbs(trial.trial_id, flatten_dict(result))
        return TrialScheduler.CONTINUE if climbs else TrialScheduler.STOP


class LoggedSearch(OptunaSearch):
    """Ray's searcher over our log: it proposes only what must be evaluated, and logs the results."""

    def __init__(self, problem: Problem, log: TrialLog, plan: SearchPlan, progress: Bar) -> None:
        self.problem, self.log, self.plan, self.progress = problem, log, plan, progress
        self.waiting: dict[str, Candidate] = {}  # by Ray's trial
        self.error: UserError | OSError | None = None  # what ends the search
        self.deaths: Counter[str] = Counter()
        self.best = Front(problem.objectives)
        self.best.add(log.evaluated)
        with studies.using(plan.storage, begun=False):
            self.study = studies.rebuild(problem, log, studies.distributions(problem.space), plan.storage)
        super().__init__(
            space=self._suggest,
            metric=[o.name for o in problem.sampler_objectives],
            mode=["max" if o.maximise else "min" for o in problem.sampler_objectives],
            storage=self.study._storage,
            study_name=self.study.study_name,
        )
        self._ot_study: Any = self.study
        self.sampler_for = samplers(problem, log, plan)
        self.initial_sampler = InitialSampler(problem, log, plan)
        self.proposed = len(log.trials)
        progress.update(log.num_evaluated)

    def _suggest(self, trial: Any) -> None:
        """Ray's define-by-run space: every gene, and the budget as the trial's constraint."""
        space = self.problem.space
        params = {gene.name: trial.suggest_categorical(gene.name, studies.choice_labels(gene)) for gene in space.genes}
        code = studies.code_from_params(space, params)
        trial.set_constraint("budget", self.problem.candidate(code).excess)

    @contextmanager
    def _ends(self) -> Iterator[None]:
        """Around what reads or writes the storage or the log: a failure ends the search. Ray would take it for one of
        the trial's."""
        try:
            yield
        except (UserError, OSError) as error:
            self.error = error

    def suggest(self, trial_id: str) -> Any:
        """The next network's code, None while there is nothing to do, or `FINISHED`."""
        with self._ends():
            return Searcher.FINISHED if self.error else self._next(trial_id)
        return Searcher.FINISHED

    def _next(self, trial_id: str) -> Any:
        study = self.study
        while True:
            running = {each.arch for each in self.waiting.values()}
            if self.plan.end_reason(self.log, self.problem.objectives, self.proposed):
                return Searcher.FINISHED
            new = running - self.log.seen.keys()
            no_more = self.log.num_evaluated + len(new) >= self.plan.trials
            sampled = None if new and no_more else self.initial_sampler(self.proposed, running)
            if sampled is None and no_more:
                return None  # whether there is more to do, those that run will tell
            study.sampler = self.sampler_for(self.proposed)
            self.proposed += 1
            with studies.using(self.plan.storage):
                if sampled is not None:
                    study.enqueue_trial(studies.params(self.problem.space, sampled.tolist()))
                params = super().suggest(trial_id)
            assert isinstance(params, dict)
            code = studies.code_from_params(self.problem.space, params)
            candidate = self.problem.candidate(code)
            known = self.problem.lookup(candidate, self.log.seen)
            if known is None and candidate.arch in running:
                asked = self._ot_trials.pop(trial_id)  # is on its way already
                with studies.using(self.plan.storage):
                    study.tell(asked, state=TrialState.FAIL)
            elif known is None:
                self.waiting[trial_id] = candidate
                rungs = self.problem.rungs_before(candidate, self.log.seen)
                return {"code": code.tolist(), "rungs": [record_json(rung) for rung in rungs]}
            else:
                self._write(self._ot_trials.pop(trial_id), known)

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Nothing to do: the result is handled when the trial is complete."""

    def climbs(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether a network is evaluated on a further rung."""
        candidate, evaluation = self.waiting.get(trial_id), _evaluation(result)
        return bool(candidate and evaluation and self.problem.climbs(candidate, evaluation, self.log.seen))

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        candidate, asked = self.waiting.pop(trial_id, None), self._ot_trials.pop(trial_id, None)
        if candidate is None or asked is None or self.error:
            return
        with self._ends():
            self._complete(candidate, asked, result)

    def _complete(self, candidate: Candidate, asked: Any, result: Mapping[str, Any] | None) -> None:
        evaluation = _evaluation(result or {})
        if evaluation is None:  # no fault of the network's, as far as is known: a dying node takes several along
            self.deaths[candidate.arch] += 1
            if self.deaths[candidate.arch] < DEATHS:
                with studies.using(self.plan.storage):
                    self.study.tell(asked, state=TrialState.FAIL)
                    self.study.enqueue_trial(studies.params(self.problem.space, candidate.code))
                return
            reason = f"its workers died in {DEATHS} trials of {RETRIES + 1} starts"
            evaluation = Evaluation(columns={}, seconds=0.0, error=reason)
        self._write(asked, self.problem.finish(candidate, evaluation, self.log.seen))

    def _write(self, asked: Any, row: Trial) -> None:
        with studies.using(self.plan.storage):
            trial = finish_trial(self.study, asked, row, self.problem)
        self.log.append(row, backend_state(trial))
        if row.state == COMPLETE:
            self.best.add([row])
        self.progress.update(self.log.num_evaluated, f"front {len(self.best)}")

    def __reduce__(self) -> Any:
        """Ray pickles the searcher of a run. The log holds all state of this one, so that an empty searcher will do."""
        return Searcher, ()

    def __deepcopy__(self, memo: Any) -> "LoggedSearch":
        return self

    def save(self, checkpoint_path: str) -> None:
        """The log is what a search is restored from."""
        with open(checkpoint_path, "wb"):
            pass

    def restore(self, checkpoint_path: str) -> None:
        """From the log, when it was opened."""


def _evaluation(result: Mapping[str, Any]) -> Evaluation | None:
    """What a worker gave, which Ray flattens; None where it gave nothing."""
    given = {key.removeprefix(f"{RESULT}/"): value for key, value in result.items() if key.startswith(f"{RESULT}/")}
    if not given:
        return None
    columns = {key.removeprefix("columns/"): value for key, value in given.items() if key.startswith("columns/")}
    rungs = tuple(Rung.model_validate(rung) for rung in given["rungs"])
    return Evaluation(columns=columns, seconds=given["seconds"], error=given.get("error"), rungs=rungs)
