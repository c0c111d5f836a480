"""The search problem: a space, what to make large and small over it, and what is allowed.

Cheap before expensive: multiply-adds, parameters and predicted latency come from tables and are computed first. A
network over budget is never evaluated, and the result of one that was seen before is taken from the log.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ghostnet.arch import Arch
from search.engine import budgets
from search.engine.budgets import Budgets
from search.engine.ladder import Ladder, climbs, on_rung
from search.engine.limit import TimeLimit, time_limit
from search.engine.objectives import ACCURACY, MACS, Columns, Evaluate, Objective, evaluated_columns
from search.engine.predicted_front import in_turn, predicted_front
from search.engine.trial import (
    COMPLETE,
    FAILED,
    INFEASIBLE,
    NAMED_METRICS,
    REPEATED,
    Candidate,
    Evaluation,
    Rung,
    Trial,
)
from spaces.errors import SpaceError
from spaces.population import mutate, sample
from spaces.space import Codes, Space
from spaces.tables import UnitTable, macs_table, params_table

RESERVED = frozenset(Trial.model_fields) - {"macs", "params", *NAMED_METRICS}  # columns that no evaluator gives
SEARCHED = 10  # networks that are looked for inside a budget of several constraints, at least; fewer may be there
WALK = 400  # steps towards a budget in which nothing was drawn


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Objectives over a space, inside at least one of the budgets.

    Args:
        evaluate: architecture -> accuracy in [0, 1], or several columns by name; the only expensive part. A ladder of
            several is climbed rung by rung.
        objectives: what to make large or small.
        also: further columns to log, or for budgets to go by.
        trial_seconds: an evaluation that takes longer has failed.
        unit_losses: for every unit of the space what it costs in accuracy, in any measure whose sums rank networks.
    """

    space: Space
    evaluate: Evaluate
    objectives: tuple[Objective, ...]
    budgets: Budgets
    also: tuple[Objective, ...] = ()
    trial_seconds: float | None = None
    unit_losses: UnitTable | None = None

    @property
    def sampler_objectives(self) -> tuple[Objective, ...]:
        """The objectives for a sampler that knows no budgets.

        With several budgets multiply-adds are one of them, so that it finds networks for every budget: the front inside
        one budget is part of this larger front."""
        several = len(self.budgets) > 1 and MACS.name not in [o.name for o in self.objectives]
        return (*self.objectives, MACS) if several else self.objectives

    def check(self) -> None:
        """Refuses an infeasible budget at once.

        Raises:
            SpaceError: no network meets a constraint, or none was found that meets all of a budget's; says the space's
                range and the nearest network.
        """
        budgets.check_budgets(self.budgets, self.space)
        for name, budget in self.budgets.items():
            if len(budget) > 1:  # each of which can be met alone
                self._drawn(np.random.default_rng(0), SEARCHED, name)

    def columns(self, codes: Codes) -> Columns:
        """[n, genes] -> everything that is known of networks without evaluating them, each [n]"""
        codes = np.atleast_2d(codes)
        known: Columns = {
            "macs": macs_table(self.space).total(codes).astype(np.int64),
            "params": params_table(self.space).total(codes).astype(np.int64),
        }
        for objective in (*self.objectives, *self.also):
            known |= objective.known_metrics(codes)
        return known

    def excess(self, columns: Columns) -> NDArray[np.float64]:
        """[n] how far each network is outside the budget that is nearest to it; 0 inside one."""
        return np.min([budgets.excess(budget, columns) for budget in self.budgets.values()], axis=0)

    def initial(self, rng: np.random.Generator, count: int) -> Codes:
        """`count` networks inside the budgets, in turn, uniform as far as enough are found: [count, genes]

        Raises:
            SpaceError: none was found inside a budget, in which `check` would have found none either.
        """
        each = -(-count // len(self.budgets))
        sampled = [self._inside(rng, each, name) for name in self.budgets]
        return np.stack(sampled, 1).reshape(-1, len(self.space.choices))[:count]

    @cached_property
    def predicted_front(self) -> Codes:
        """The networks inside the budgets that are best by unit losses and the other objectives, exactly, from coarse
        to fine: [n, genes].

        Raises:
            UserError: an objective is no sum over units.
        """
        assert self.unit_losses is not None
        fronts = predicted_front(self.space, self.unit_losses, self.objectives, list(self.budgets.values()))
        inside = [front[self.excess(self.columns(front)) == 0] if len(front) else front for front in fronts]
        return in_turn(inside, len(self.space.genes))

    def _inside(self, rng: np.random.Generator, count: int, name: str) -> Codes:
        """`count` networks of a budget; where none is found, some of those that are always found in it."""
        try:
            return self._drawn(rng, count, name)
        except SpaceError:
            return rng.choice(self._always_found[name], count)

    @cached_property
    def _always_found(self) -> Mapping[str, Codes]:
        """Networks of each budget, as `check` finds them: the same in every process."""
        return {name: self._drawn(np.random.default_rng(0), SEARCHED, name) for name in self.budgets}

    def _drawn(self, rng: np.random.Generator, count: int, name: str) -> Codes:
        """`count` networks of a budget: of many drawn in its windows, those that meet the other constraints; if these
        are too few, the many walk towards the budget, and with them the networks that latency budgets are nearest to,
        which are taken last; if few arrive, mutants of theirs are taken that are inside, too."""
        budget = self.budgets[name]
        window = budgets.windows(budget)
        if len(window) == len(budget):
            return sample(self.space, rng, count, window)
        wanted = max(count, SEARCHED)  # of one alone there would be nothing to choose from
        codes, rate = sample(self.space, rng, 20 * wanted, window), 1.5 / len(self.space.choices)
        excess = budgets.excess(budget, self.columns(codes))
        if (excess == 0).sum() < wanted:
            codes = np.stack([*codes, *(each.nearest() for each in budget if isinstance(each, budgets.LatencyBudget))])
            excess = budgets.excess(budget, self.columns(codes))
        for _ in range(WALK):
            if (excess == 0).sum() >= wanted:
                break
            moved = mutate(self.space, rng, codes, rate)
            new = budgets.excess(budget, self.columns(moved))
            better = new < excess
            codes[better], excess[better] = moved[better], new[better]
        inside = codes[excess == 0]
        for _ in range(WALK if len(inside) else 0):
            if len(inside) >= wanted:
                break
            moved = mutate(self.space, rng, inside[np.arange(20 * wanted) % len(inside)], rate)
            moved = moved[budgets.excess(budget, self.columns(moved)) == 0]
            inside = rng.permutation(np.unique(np.concatenate([inside, moved]), axis=0))
        if not len(inside):
            raise SpaceError(
                f"no network of space {self.space.name} was found that meets every constraint of {name}; the nearest, "
                f"{self.space.decode(codes[excess.argmin()]).id}, is outside by {excess.min():.1%}"
            )
        return inside[np.arange(count) % len(inside)]

    def candidate(self, code: Codes) -> Candidate:
        """A network, and what is known of it without evaluating it."""
        columns = self.columns(code)
        return Candidate(
            arch=self.space.decode(code).id,
            code=np.asarray(code).tolist(),
            metrics={name: values[0].item() for name, values in columns.items()},
            excess=float(self.excess(columns)[0]),
        )

    def lookup(self, candidate: Candidate, seen: Mapping[str, Trial]) -> Trial | None:
        """The trial of a network that needs no evaluation, because it is outside the budgets, or was seen before and
        doesn't go on to a further rung; else None."""
        if candidate.excess:
            return candidate.trial(INFEASIBLE, self._unknown(candidate))
        if (before := seen.get(candidate.arch)) and not self.rungs_before(candidate, seen):
            return candidate.trial(REPEATED, before.metrics, Evaluation(error=before.error))
        return None

    def run(self, code: Codes, seen: Mapping[str, Trial], evaluation: Evaluation | None = None) -> Trial:
        """The trial of a network, which is evaluated only if that is needed.

        Args:
            seen: evaluated and failed trials by architecture.
            evaluation: the network's, where that was done ahead; of a ladder none is.
        """
        candidate = self.candidate(code)
        if known := self.lookup(candidate, seen):
            return known
        evaluation = evaluation or self.measure(self.space.decode(code), self.rungs_before(candidate, seen))
        while self.climbs(candidate, evaluation, seen):
            evaluation = self.measure(self.space.decode(code), evaluation.rungs)
        return self.finish(candidate, evaluation, seen)

    def climbs(self, candidate: Candidate, evaluation: Evaluation, seen: Mapping[str, Trial]) -> bool:
        """Whether a network is evaluated on a further rung: of those inside some budget it is one of the best.

        Args:
            evaluation: of the rungs so far.
            seen: evaluated and failed trials by architecture.
        """
        if self.sampler_promotes or self.is_over(evaluation) or self._failure(candidate, evaluation, seen) is not None:
            return False
        rung, mine = len(evaluation.rungs) - 1, {**evaluation.columns, **candidate.metrics}
        complete = (on_rung(trial, rung) for trial in seen.values() if trial.state == COMPLETE)
        before = [metrics for metrics in complete if metrics]
        columns = {name: np.array([row[name] for row in (*before, mine)]) for name in candidate.metrics}
        for budget in self.budgets.values():
            *inside, me = budgets.excess(budget, columns) == 0
            if me and climbs(mine, [row for row, kept in zip(before, inside, strict=True) if kept], self.objectives):
                return True
        return False

    @property
    def sampler_promotes(self) -> bool:
        """Whether it is the sampler that sends networks up a ladder, by proposing them again."""
        return isinstance(self.evaluate, Ladder) and self.evaluate.prices is not None

    @property
    def promoted_rungs(self) -> int:
        """The rungs of a ladder on which the sampler promotes; 1 where it doesn't."""
        return len(self.evaluate.rungs) if isinstance(self.evaluate, Ladder) and self.sampler_promotes else 1

    def rungs_before(self, candidate: Candidate, seen: Mapping[str, Trial]) -> tuple[Rung, ...]:
        """The rungs after which a network goes on that the sampler proposes again; none where it doesn't go on."""
        before = seen.get(candidate.arch)
        if before is None or before.state != COMPLETE or not self.sampler_promotes:
            return ()
        rungs = tuple(before.rungs or ())
        return () if self.is_over(Evaluation(rungs=rungs)) else rungs

    def is_over(self, evaluation: Evaluation) -> bool:
        """Whether there is nothing left to evaluate: it failed, or was on the last rung."""
        rungs = len(self.evaluate.rungs) if isinstance(self.evaluate, Ladder) else 0
        return evaluation.error is not None or len(evaluation.rungs) >= rungs

    def measure(self, arch: Arch, rungs: Sequence[Rung] = ()) -> Evaluation:
        """Evaluates a network. Raises nothing, whatever happens: its failure is the evaluation's `error`.

        Args:
            rungs: of a ladder, those that it had; the next one follows.
        """
        if not isinstance(self.evaluate, Ladder):
            return self._measure(self.evaluate, arch)
        name, evaluate = [*self.evaluate.rungs.items()][len(rungs)]
        result = self._measure(evaluate, arch)
        seconds = round(result.seconds + sum(rung.seconds for rung in rungs), 4)
        if ACCURACY.name in result.columns:
            rungs = *rungs, Rung(evaluate=name, accuracy=result.columns[ACCURACY.name], seconds=result.seconds)
        return replace(result, seconds=seconds, rungs=tuple(rungs))

    def _measure(self, evaluate: Evaluate, arch: Arch) -> Evaluation:
        start = time.monotonic()
        columns, error = {}, None
        try:
            with time_limit(self.trial_seconds):
                columns = evaluated_columns(evaluate(arch))
            odd = [f"{name} is {value}" for name, value in columns.items() if not math.isfinite(value)]
            if not 0 <= (accuracy := columns.get(ACCURACY.name, 0)) <= 1:
                odd.append(f"accuracy must be in [0, 1], but got {accuracy:g}")
            odd += [f"{name} is a column that a log has anyway" for name in columns if name in RESERVED]
            error = odd[0] if odd else None
        except (Exception, TimeLimit) as exception:  # one network's failure must not end the search; it is in the log
            error = f"{type(exception).__name__}: {exception}"
        return Evaluation(columns={} if error else columns, seconds=round(time.monotonic() - start, 4), error=error)

    def finish(self, candidate: Candidate, evaluation: Evaluation, seen: Mapping[str, Trial]) -> Trial:
        """The trial of a network from what is known of it and the result of its evaluation.

        Args:
            seen: evaluated and failed trials by architecture.
        """
        error, unknown = self._failure(candidate, evaluation, seen), self._unknown(candidate)
        if error is not None:
            return candidate.trial(FAILED, unknown, replace(evaluation, error=error))
        return candidate.trial(COMPLETE, {**unknown, **evaluation.columns}, evaluation)

    def _failure(self, candidate: Candidate, evaluation: Evaluation, seen: Mapping[str, Trial]) -> str | None:
        """Why an evaluation doesn't count: its own error, an objective that it doesn't tell, or other columns than the
        first network has, for which samplers and the log's readers have no number."""
        if evaluation.error is not None:
            return evaluation.error
        if known := [name for name in evaluation.columns if name in candidate.metrics]:
            return f"{known[0]} is known of every network beforehand, so an evaluator can't give it"
        if missing := [name for name in self._unknown(candidate) if name not in evaluation.columns]:
            return f"the evaluator gave no {missing[0]}"
        first = next((trial.metrics for trial in seen.values() if trial.state == COMPLETE), None)
        mine = {**candidate.metrics, **evaluation.columns}.keys()
        if first is None or mine == first.keys():
            return None
        missing = sorted(first.keys() - mine)
        return (
            f"the evaluator gave no {missing[0]}"
            if missing
            else f"only some networks have a column {min(mine - first.keys())}"
        )

    def _unknown(self, candidate: Candidate) -> dict[str, None]:
        """The objectives that only an evaluation tells."""
        return {o.name: None for o in self.objectives if o.name not in candidate.metrics}
