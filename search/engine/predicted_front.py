"""The front that unit losses predict: with a loss for every unit of a space, a sum stands for accuracy, as one does for
latency, and the whole front is found exactly (`search.engine.pareto`) before any network is evaluated."""

from collections.abc import Sequence

import numpy as np

from search.engine.budgets import Budget, LatencyBudget, Within
from search.engine.objectives import ACCURACY, LatencyObjective, Objective, Tabulated
from search.engine.pareto import Limit, pareto_front
from search.errors import UserError
from search.latency.predictor import Predictor
from spaces.space import Codes, Space
from spaces.tables import UnitTable, macs_table, params_table

NO_SUM = "the sampler exact wants objectives that are sums over units, such as latency_ms or macs, not"


def predicted_front(
    space: Space,
    unit_losses: UnitTable,
    objectives: Sequence[Objective],
    within: Sequence[Budget],
) -> list[Codes]:
    """The networks that no other betters in the sum of unit losses and in the other objectives: for each budget
    [n, genes], from one end of the front to the other.

    Raises:
        UserError: an objective is no sum over units.
    """
    tables = [sum_over_units(space, objective) for objective in objectives if objective.name != ACCURACY.name]
    return [pareto_front([*tables, unit_losses], _limits(space, budget))[0] for budget in within]


def coarse_to_fine(count: int) -> list[int]:
    """The numbers from 0 to count - 1, so ordered that those taken first are spread evenly: the ends, the middle, the
    quarters, and so on."""
    order = dict.fromkeys((0, count - 1)) if count else {}
    parts = 2
    while len(order) < count:
        order |= dict.fromkeys(round(k * (count - 1) / parts) for k in range(1, parts))
        parts *= 2
    return list(order)


def in_turn(fronts: Sequence[Codes], genes: int) -> Codes:
    """Several fronts as one list of networks, each front from coarse to fine and all in turn; each network once."""
    queues = [[tuple(front[k].tolist()) for k in coarse_to_fine(len(front))] for front in fronts]
    longest = max(map(len, queues), default=0)
    order = dict.fromkeys(queue[k] for k in range(longest) for queue in queues if k < len(queue))
    return np.array(list(order), dtype=np.int64).reshape(-1, genes)


def sum_over_units(space: Space, objective: Objective) -> UnitTable:
    """The table whose sums an objective is, up to a constant; of latencies their tangent (`Predictor.tangent`).

    Raises:
        UserError: there is none.
    """
    if isinstance(objective, LatencyObjective) and isinstance(objective.predict, Predictor):
        return objective.predict.tangent.table
    if isinstance(objective, Tabulated) and objective.table.join is np.add:
        return objective.table
    if objective.name == "macs":
        return macs_table(space)
    if objective.name == "params":
        return params_table(space)
    raise UserError(f"{NO_SUM} {objective.name}")


def _limits(space: Space, budget: Budget) -> list[Limit]:
    """A budget's constraints as bounds on sums. A latency's interval is no sum: its prediction is bounded, by that of
    the surest network whose interval ends there, and what has its upper end outside is left to the problem to see."""
    limits: list[Limit] = []
    for constraint in budget:
        if isinstance(constraint, Within):
            window, table = constraint.window, constraint.window.table(space)
            if table.join is np.maximum:  # no unit may be larger, and one must be large enough: sums of those that are
                larger = UnitTable.of(space, [(values > window.high).astype(np.float64) for values in table.values])
                limits.append(Limit(larger, 0.5))
                if window.low:
                    enough = [-(values >= window.low).astype(np.float64) for values in table.values]
                    limits.append(Limit(UnitTable.of(space, enough), -0.5))
                continue
            limits.append(Limit(table, window.high))
            if window.low:
                limits.append(Limit(UnitTable.of(space, [-values for values in table.values]), -window.low))
        elif isinstance(constraint, LatencyBudget) and isinstance(predict := constraint.latency.predict, Predictor):
            most = predict.most_ms(constraint.high_ms)
            limits.append(Limit(predict.tangent.table, most - predict.tangent.intercept_ms))
    return limits
