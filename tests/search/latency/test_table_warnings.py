"""A table that can't be trusted much says so, wherever it is made or shown."""

from pathlib import Path

import pytest

from search.latency.table import LatencyTable
from search.latency.table_warnings import DISTURBED, ROUGH, UNSTEADY, table_warnings, timed_warnings

PUBLISHED = Path(__file__).parents[3] / "results" / "latency" / "digits-onnxruntime-int8-1t-b1.lat.json"


@pytest.fixture
def quiet() -> LatencyTable:
    """A table whose error, disturbance and ruler all are far within the limits."""
    return LatencyTable.load(PUBLISHED)


def test_a_good_table_is_not_doubted(quiet: LatencyTable) -> None:
    assert table_warnings(quiet) == []


def test_each_doubt_has_its_line_and_figure(quiet: LatencyTable) -> None:
    ruler = quiet.validation.ruler
    assert ruler
    validation = quiet.validation.model_copy(
        update={"mape": 1.5 * ROUGH, "ruler": ruler.model_copy(update={"mape": 2 * UNSTEADY})}
    )
    protocol = quiet.protocol.model_copy(update={"disturbed": 3 * DISTURBED})
    lines = table_warnings(quiet.model_copy(update={"validation": validation, "protocol": protocol}))
    assert len(lines) == 3
    for line, figure in zip(lines, (f"{1.5 * ROUGH:.1%}", f"{3 * DISTURBED:.0%}", f"{2 * UNSTEADY:.1%}"), strict=True):
        assert figure in line


def test_too_few_networks_for_the_intervals_coverage_are_said(quiet: LatencyTable) -> None:
    """Of n that were held out, the largest error is not reached by the next one n times in n + 1."""
    for networks, said in ((2, "67%"), (7, "88%"), (8, None), (32, None)):
        validation = quiet.validation.model_copy(update={"networks": networks})
        lines = table_warnings(quiet.model_copy(update={"validation": validation}))
        expected = f"The intervals hold {said} of latencies, not 90%: {networks} networks are too few for more."
        assert lines == ([] if said is None else [expected])


def test_a_table_measured_once_has_no_ruler_to_doubt(quiet: LatencyTable) -> None:
    assert (
        table_warnings(quiet.model_copy(update={"validation": quiet.validation.model_copy(update={"ruler": None})}))
        == []
    )


def columns(*intervals: tuple[float, float]) -> dict[str, dict[str, float | None]]:
    return {
        name: {"latency_low_ms": low, "latency_high_ms": high}
        for name, (low, high) in zip("ABCDE", intervals, strict=False)
    }


def test_a_network_that_breaks_the_latency_budget_it_was_chosen_within_is_told() -> None:
    chosen = columns((0.10, 0.12), (0.17, 0.195), (0.25, 0.29))
    times = {"A": 0.11, "B": 0.219, "C": 0.28}
    (line,) = timed_warnings(chosen, times, [0.2, 0.3])
    assert line == (
        "Over the latency budget of 0.2 ms as timed here: 1 of the 2 networks that were chosen within it (B 0.219 ms)."
    )
    assert timed_warnings(chosen, times | {"B": 0.2}, [0.2, 0.3]) == []
    assert timed_warnings(chosen, {}, [0.2]) == timed_warnings({"A": {}}, times, [0.1]) == []  # not timed, no latency


def test_networks_that_leave_their_intervals_to_one_side_are_told_where_they_are_most() -> None:
    chosen = columns(*[(0.9, 1.1)] * 5)
    for ms, how in ((1.2, "longer than the upper ends"), (0.8, "less than the lower ends")):
        (line,) = timed_warnings(chosen, dict.fromkeys("ABC", ms) | dict.fromkeys("DE", 1.0), [])
        assert line.startswith(f"As timed here 3 of 5 chosen networks take {how}")
        assert timed_warnings(chosen, dict.fromkeys("AB", ms) | dict.fromkeys("CDE", 1.0), []) == []
    assert timed_warnings(chosen, dict.fromkeys("AB", 0.8) | dict.fromkeys("CDE", 1.2), []) != []
    assert timed_warnings(columns((0.9, 1.1), (0.9, 1.1)), {"A": 2.0, "B": 2.0}, []) == []  # one of ten does
