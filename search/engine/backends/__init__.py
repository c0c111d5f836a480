"""The backends by name. Each runs the same problem into the same log."""

from collections.abc import Callable
from importlib import import_module

from search.engine.log import TrialLog
from search.engine.problem import Problem
from search.engine.search_plan import SearchPlan
from search.recipes.choices import Backend

Run = Callable[[Problem, TrialLog, SearchPlan], None]


def backend(name: Backend) -> Run:
    """The search function of a backend, whose module is loaded only now."""
    module = import_module(f"search.engine.backends.{name}_backend")
    return module.search
