"""What baselines reach at any cost, against closed forms."""

import math

import pytest

from search.engine.baselines import BaselineCurve

POINTS = (4.0, 0.7), (1.0, 0.5), (2.0, 0.4), (4.0, 0.65), (16.0, 0.8)  # unsorted, two of them beaten


def test_between_baselines_lines_are_straight_over_the_logarithm_of_the_cost():
    curve = BaselineCurve(POINTS)
    assert list(curve.costs) == [1, 4, 16] and list(curve.accuracies) == [0.5, 0.7, 0.8]
    assert curve.accuracy_at(2.0) == pytest.approx(0.6) and curve.accuracy_at(8.0) == pytest.approx(0.75)
    assert curve.cost_at(0.6) == pytest.approx(2.0) and curve.cost_at(0.75) == pytest.approx(8.0)
    assert curve.gain(2.0, 0.65) == pytest.approx(0.05) and curve.saving(1.5, 0.6) == pytest.approx(0.25)
    assert curve.saving(3.0, 0.6) == pytest.approx(-0.5)


@pytest.mark.parametrize("cost, accuracy", POINTS)
def test_a_baseline_gains_nothing_over_itself_or_less(cost, accuracy):
    curve = BaselineCurve(POINTS)
    assert curve.gain(cost, accuracy) <= 1e-12 and not curve.saving(cost, accuracy) > 1e-12


def test_beyond_the_baselines_there_is_nothing_or_the_most_accurate():
    curve = BaselineCurve(POINTS)
    assert math.isnan(curve.accuracy_at(0.9)) and math.isnan(curve.cost_at(0.81))
    assert curve.accuracy_at(100.0) == pytest.approx(0.8) and curve.cost_at(0.5) == pytest.approx(1.0)
    assert math.isnan(curve.cost_at(0.49))  # the cheapest has more, and nothing says what less would cost
    none = BaselineCurve([])
    assert math.isnan(none.accuracy_at(1.0)) and math.isnan(none.cost_at(0.5))
