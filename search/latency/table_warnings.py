"""What speaks against trusting a latency table much: what itself says, and what networks then take."""

from collections.abc import Iterable, Mapping

from search.latency.table import LatencyTable
from search.progress import warn

ROUGH = 0.05  # mean relative error on networks held out
DISTURBED = 0.1  # share of the measurements that other work spoilt
MISSING = 0.02  # of the intervals' coverage, which no quantile of so few networks that were held out can have
UNSTEADY = 0.025  # mean relative difference between two halves of the measurements of a network


def table_warnings(table: LatencyTable) -> list[str]:
    """Warnings where its error is large, other work disturbed it, or measurements did not agree with themselves; none
    of a table that can be trusted."""
    v, disturbed = table.validation, table.protocol.disturbed
    lines = []
    if v.mape > ROUGH:
        lines.append(
            "Predicted latencies are rough: on networks that the table was not fitted to, their mean error is "
            f"{v.mape:.1%}."
        )
    if (most := v.networks / (v.networks + 1)) < table.correction.coverage - MISSING:
        lines.append(
            f"The intervals hold {most:.0%} of latencies, not {table.correction.coverage:.0%}: {v.networks} networks "
            "are too few for more."
        )
    if disturbed > DISTURBED:
        lines.append(f"Noisy machine: other work disturbed {disturbed:.0%} of the latency measurements.")
    if v.ruler and v.ruler.mape > UNSTEADY:
        lines.append(
            f"Latency measurements were unsteady: two halves of a network's differ by {v.ruler.mape:.1%} on average. "
            "A longer calibration on a quieter machine would make a better table."
        )
    return lines


def timed_warnings(
    chosen: Mapping[str, Mapping[str, float | None]], measured: Mapping[str, float], budgets_ms: Iterable[float]
) -> list[str]:
    """Warnings where chosen networks take longer than a latency budget that their intervals lie within, or where most
    of several take longer, or less, than their intervals say.

    Args:
        chosen: the columns of a trial log, by the networks' names.
        measured: milliseconds of those that were timed, by the same names.
        budgets_ms: latency budgets.
    """
    ends = {name: (columns.get("latency_low_ms"), columns.get("latency_high_ms")) for name, columns in chosen.items()}
    timed = [
        (name, low, high, measured[name]) for name, (low, high) in ends.items() if low and high and name in measured
    ]
    lines = []
    for budget in sorted(budgets_ms):
        inside = [(name, ms) for name, _, high, ms in timed if high <= budget]
        if over := [f"{name} {ms:.3g}" for name, ms in inside if ms > budget]:
            lines.append(
                f"Over the latency budget of {budget:g} ms as timed here: {len(over)} of the {len(inside)} networks "
                f"that were chosen within it ({', '.join(over)} ms)."
            )
    longer, less = sum(ms > high for *_, high, ms in timed), sum(ms < low for _, low, _, ms in timed)
    for outside, how in ((longer, "longer than the upper ends"), (less, "less than the lower ends")):
        if outside > max(2, len(timed) / 2):
            lines.append(
                f"As timed here {outside} of {len(timed)} chosen networks take {how} of their predicted intervals: "
                "`ghostnas calibrate check` says whether the machine is as the table has it."
            )
    return lines


def print_table_warnings(table: LatencyTable) -> None:
    """Prints them on the terminal."""
    for each in table_warnings(table):
        warn(each)
