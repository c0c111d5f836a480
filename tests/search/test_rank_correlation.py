"""Rank correlations of resamples, against SciPy's of each."""

import itertools

import numpy as np
import pytest
from scipy.stats import kendalltau, spearmanr

from search.bootstrap import interval
from search.rank_correlation import KendallTau, SpearmanRho, kendall_tau, spearman_rho


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("ours", "theirs"), [(KendallTau, kendalltau), (SpearmanRho, spearmanr)])
def test_resamples_have_scipys_correlation(ours, theirs, ties):
    rng = np.random.default_rng(0)
    x = rng.normal(size=23)
    y = x + rng.normal(size=23)
    if ties:
        x, y = x.round(), y.round()
    correlation, picks = ours(x, y), rng.integers(23, size=(50, 23))
    assert correlation() == pytest.approx(theirs(x, y).statistic)
    expected = [theirs(x[each], y[each]).statistic for each in picks]
    np.testing.assert_allclose(correlation(picks), expected)
    assert correlation(picks[0]) == pytest.approx(expected[0])
    few = picks[:, :9]  # a resample may be smaller
    np.testing.assert_allclose(correlation(few), [theirs(x[each], y[each]).statistic for each in few])


@pytest.mark.parametrize("correlation", [KendallTau, SpearmanRho])
def test_equal_values_rank_nothing(correlation):
    x = np.arange(5.0)
    assert np.isnan(correlation(np.ones(5), x)()) and np.isnan(correlation(x, np.ones(5))())
    assert kendall_tau(np.ones(5), x) == spearman_rho(x, np.ones(5)) == 0
    assert np.isnan(correlation(x, x)(np.array([[2, 2, 2], [0, 1, 1]]))).tolist() == [True, False]


def test_kendalls_tau_within_groups_counts_pairs_inside_groups_alone():
    rng = np.random.default_rng(0)
    x, y = rng.random(20), rng.random(20).round(1)  # with ties
    group = np.arange(20) // 5
    pairs = [(i, j) for i, j in itertools.combinations(range(20), 2) if group[i] == group[j]]
    signs = [np.sign(x[i] - x[j]) * np.sign(y[i] - y[j]) for i, j in pairs]
    untied = sum(y[i] != y[j] for i, j in pairs)
    assert kendall_tau(x, y, group) == pytest.approx(sum(signs) / np.sqrt(len(pairs) * untied))
    assert kendall_tau(x, y, np.zeros(20, dtype=int)) == pytest.approx(kendalltau(x, y).statistic)


def test_an_interval_is_the_same_whether_draws_are_taken_one_by_one_or_at_once():
    rng = np.random.default_rng(3)
    values = rng.normal(size=30)
    one_by_one = interval(lambda picks: np.median(values[picks]), 30, np.random.default_rng(0))
    at_once = interval(lambda p: np.median(values[p], -1), 30, np.random.default_rng(0), vectorized=True)
    np.testing.assert_array_equal(one_by_one, at_once)
