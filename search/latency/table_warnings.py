"""What a latency table itself says against trusting it much."""

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


def print_table_warnings(table: LatencyTable) -> None:
    """Prints them on the terminal."""
    for each in table_warnings(table):
        warn(each)
