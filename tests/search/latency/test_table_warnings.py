"""A table that can't be trusted much says so, wherever it is made or shown."""

from pathlib import Path

import pytest

from search.latency.table import LatencyTable
from search.latency.table_warnings import DISTURBED, ROUGH, UNSTEADY, table_warnings

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
