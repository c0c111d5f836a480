"""Objectives of the user's own: a Python function, or an `Objective`; on the command line `module:Name`.

def depth(arch, metrics):
    return len(arch.blocks)

depth.maximise = False   # the default; `depth.name` would be another name than the function's
"""

import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from operator import attrgetter
from types import CodeType
from typing import Any

from ghostnet.arch import Arch
from search.engine.ladder import Ladder
from search.engine.objectives import Evaluate, Objective, evaluated_columns, prepare
from search.engine.problem import Problem
from search.engine.trial import Trial
from search.errors import UserError
from search.identity import digest

Metrics = Mapping[str, float]


@dataclass(frozen=True)
class CustomObjective(Objective):
    """What a function of the user's says of a network once it is evaluated.

    Args:
        function: an architecture, and the metrics that are known of it by then (multiply-adds, parameters, predicted
            latencies, accuracy, earlier objectives of this kind) -> a finite number.
    """

    function: Callable[[Arch, Metrics], float] = field(kw_only=True)


def objective_of(value: object, place: str = "an objective") -> Objective:
    """An objective from what a user hands over: an `Objective`, or a function (architecture, metrics) -> number, whose
    attributes `name` and `maximise` count where it has them.

    Args:
        place: where it is from, for the message.

    Raises:
        UserError: it is neither, or has a name that no column of a log can have.
    """
    if isinstance(value, Objective):
        return _named(value, place)
    if not callable(value) or isinstance(value, type):
        raise UserError(
            f"{place} must be a function of an architecture and its metrics, or an Objective, not {value!r}"
        )
    try:
        inspect.signature(value).bind(None, None)
    except (TypeError, ValueError):
        raise UserError(f"{place} must take two arguments, an architecture and its metrics") from None
    name, maximise = getattr(value, "name", getattr(value, "__name__", "")), getattr(value, "maximise", False)
    if not isinstance(maximise, bool):
        raise UserError(f"{place}: `maximise` must be True or False, not {maximise!r}")
    return _named(CustomObjective(name, maximise, function=value), place)


def _named(objective: Objective, place: str) -> Objective:
    name = objective.name
    right = isinstance(name, str) and re.fullmatch(r"[A-Za-z]\w{0,49}", name)
    if not right or name in Trial.model_fields or "latency" in name:
        raise UserError(
            f"{place}: its name must be letters, digits and _, without `latency`, which stands for predicted ones, and "
            f"no column that a log has anyway, not {name!r}"
        )
    return objective


def code_digests(evaluate: Evaluate | None, objectives: Sequence[Objective]) -> dict[str, str]:
    """Ten hex digits of the code of each of the user's functions, by what it is called: without that of what it calls
    and what it closes over, and of Python's functions alone."""
    functions: dict[str, Any] = {each.name: each.function for each in objectives if isinstance(each, CustomObjective)}
    if evaluate is not None:
        functions["the evaluator"] = evaluate
    codes = {name: _code(function) for name, function in functions.items()}
    return {name: digest(_code_parts(code)) for name, code in codes.items() if isinstance(code, CodeType)}


def _code(function: Any) -> object:
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)


def _code_parts(code: CodeType) -> list[object]:
    def constant(value: object) -> object:
        if isinstance(value, frozenset):
            return sorted(map(repr, value))  # their order changes from process to process
        return _code_parts(value) if isinstance(value, CodeType) else repr(value)

    return [code.co_code.hex(), [*code.co_names], [constant(value) for value in code.co_consts]]


def load_objective(path: str) -> Objective:
    """The objective that `module:Name` is, from a module of the user's: in the current folder, or installed. The module
    is run.

    Raises:
        UserError: there is no such module or name, the module fails, or it has something else there.
    """
    module_name, _, name = path.partition(":")
    if not re.fullmatch(r"[\w.]+:[\w.]+", path):
        raise UserError(f"an objective from Python is MODULE:NAME, not {path!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        value: Any = attrgetter(name)(import_module(module_name))
    except ModuleNotFoundError as error:
        raise UserError(f"the objective {path!r}: no module {error.name!r}, neither here nor installed") from None
    except Exception as error:  # whatever the user's module does
        reason = str(error).strip().splitlines()[:1]
        raise UserError(f"the objective {path!r}: {': '.join([type(error).__name__, *reason])}") from None
    return objective_of(value, f"the objective {path!r}")


def with_objectives(problem: Problem, evaluate: Evaluate, objectives: Sequence[Objective]) -> Evaluate:
    """An evaluator, or a ladder of several, that also gives the user's own objectives."""
    own = [each for each in objectives if isinstance(each, CustomObjective)]
    if not own:
        return evaluate
    if isinstance(evaluate, Ladder):
        rungs = {name: CustomEvaluation(problem, each, own) for name, each in evaluate.rungs.items()}
        return replace(evaluate, rungs=rungs)
    return CustomEvaluation(problem, evaluate, own)


class CustomEvaluation:
    """An evaluator that also gives the user's own objectives.

    Args:
        problem: what is known of a network beforehand.
        evaluate: accuracy, or several columns.
    """

    def __init__(self, problem: Problem, evaluate: Evaluate, objectives: Sequence[CustomObjective]) -> None:
        self.problem, self.evaluate, self.objectives = problem, evaluate, objectives

    def prepare(self) -> None:
        """Gets the evaluator ready in this process."""
        prepare(self.evaluate)

    def __call__(self, arch: Arch) -> dict[str, float]:
        columns = evaluated_columns(self.evaluate(arch))
        known = self.problem.columns(self.problem.space.encode(arch))
        metrics = {name: values[0].item() for name, values in known.items()} | columns
        for own in self.objectives:
            columns |= evaluated_columns({own.name: own.function(arch, metrics)})
            metrics[own.name] = columns[own.name]
        return columns
