"""Budgets of several kinds, and children that stay inside the space and the budget."""

from dataclasses import replace

import numpy as np
import pytest

from spaces import SpaceError, Window, named_space
from spaces.canonical import canonical_codes
from spaces.population import crossover, mutate, sample, sample_evenly
from spaces.tables import macs_table, params_table
from tests.spaces.test_spaces import tiny_space

NAMES = ("digits", "digits-plus", "cifar-plus")


def middle(space, of: str, low: float = 0.2, high: float = 0.5) -> Window:
    """A window somewhere between what a space's networks have at most and at least."""
    counts = Window(0, 1, of).table(space).total(sample(space, np.random.default_rng(9), 2000))
    return Window(*(int(count) for count in np.quantile(counts, (low, high))), of)


@pytest.mark.parametrize("name", NAMES)
def test_windows_of_parameters_and_both_at_once_are_met(name):
    space = named_space(name)
    macs, params = middle(space, "macs"), middle(space, "params")
    for windows in (params, [params], [macs, params]):
        codes = sample(space, np.random.default_rng(0), 200, windows)
        assert params.holds(params_table(space).total(codes)).all() and len(codes) == 200
        assert (space.canonical(codes) == codes).all()
    assert macs.holds(macs_table(space).total(codes)).all()


def test_sampling_inside_a_window_is_even():
    """Every gene's shares are those of the networks inside among all drawn, within 5 sigma: a false failure has odds
    below 1 in 10,000."""
    space = named_space("digits-plus")
    window = middle(space, "params")
    everywhere = sample(space, np.random.default_rng(1), 60_000)
    expected = everywhere[window.holds(params_table(space).total(everywhere))]
    codes = sample(space, np.random.default_rng(2), 10_000, window)
    for gene, n in enumerate(space.choices):
        a, b = (np.bincount(each[:, gene], minlength=n) / len(each) for each in (codes, expected))
        sigma = np.sqrt(b * (1 - b) * (1 / len(codes) + 1 / len(expected)))
        assert (abs(a - b) <= 5 * sigma + 1e-3).all()


def test_parameter_budgets_as_people_write_them():
    assert Window.parse("2.6M", "params") == Window(0, 2_600_000, "params")
    assert str(Window.parse("1M..2M", "params")) == "1M to 2M parameters"
    assert str(Window.parse("5M", "params")) == "at most 5M parameters" and str(Window(0, 10**6)) == "at most 1M MACs"
    with pytest.raises(SpaceError, match=r"a parameter budget is like .* not 'lots'"):
        Window.parse("lots", "params")


@pytest.mark.parametrize("name", NAMES)
def test_infeasible_windows_name_the_nearest_and_impossible_pairs_end(name):
    space = named_space(name)
    table = params_table(space)
    with pytest.raises(SpaceError, match=f"has at most 10 parameters: .* {space.decode(table.extreme()).id}, has"):
        sample(space, np.random.default_rng(0), 3, Window(0, 10, "params"))
    with pytest.raises(SpaceError, match=space.decode(table.extreme(True)).id):
        sample(space, np.random.default_rng(0), 3, Window.parse("1G..2G", "params"))


def test_windows_that_are_met_one_by_one_but_not_together_end_with_the_nearest():
    space = named_space("digits")
    small = Window(0, round(1.01 * macs_table(space).total(macs_table(space).extreme())[0]))
    large = Window(round(0.99 * params_table(space).total(params_table(space).extreme(True))[0]), 10**9, "params")
    with pytest.raises(SpaceError, match=r"at most .* MACs and .* parameters found in space digits; the nearest has"):
        sample(space, np.random.default_rng(0), 5, [small, large])


@pytest.mark.parametrize(("name", "low", "high"), [("digits", 136_727, 137_001), ("cifar", 22_809_296, 22_854_960)])
def test_a_few_networks_of_a_narrow_window_are_found_as_well_as_many(name, low, high):
    space, window = named_space(name), Window(low, high)
    for seed in range(8 if name == "digits" else 2):
        codes = sample(space, np.random.default_rng(seed), 1, window)
        assert len(codes) == 1 and window.holds(macs_table(space).total(codes)).all()
        assert (codes == sample(space, np.random.default_rng(seed), 1, window)).all()


@pytest.mark.parametrize("name", NAMES)
def test_children_stay_inside_space_and_budget(name):
    space, rng = named_space(name), np.random.default_rng(0)
    windows = [middle(space, "macs"), middle(space, "params")]
    a, b = sample(space, rng, 300, windows), sample(space, rng, 300, windows)
    for children in (mutate(space, rng, a, 0.2, windows), crossover(space, rng, a, b, windows)):
        assert children.shape == a.shape and (space.canonical(children) == children).all()
        assert all(window.holds(window.table(space).total(children)).all() for window in windows)
        assert (children != a).any(1).mean() > 0.5  # not for want of children
    for children in (mutate(space, rng, a, 0.2), crossover(space, rng, a, b)):
        assert ((children >= 0) & (children < space.choices)).all() and (space.canonical(children) == children).all()


def test_a_child_that_finds_no_budget_leaves_its_parent():
    space, rng = named_space("digits-plus"), np.random.default_rng(0)
    codes = sample(space, rng, 50)
    nowhere = Window(1, 1)
    assert (mutate(space, rng, codes, 0.9, nowhere) == codes).all()
    assert (crossover(space, rng, codes, codes[::-1], nowhere) == codes).all()


@pytest.mark.parametrize("name", NAMES)
def test_crossover_takes_living_genes_from_the_parents_only(name):
    space, rng = named_space(name), np.random.default_rng(0)
    a, b = sample(space, rng, 500), sample(space, rng, 500)
    child = crossover(space, rng, a, b)
    alive_a, alive_b, alive = map(space.active, (a, b, child))
    # An expansion or a ratio may become the smaller one that makes the same block at the child's width.
    shapes = [g for b in canonical_codes(space.layout).canonical_shape for g in (b.ghost, b.expansion) if g is not None]
    reshaped = np.isin(np.arange(len(space.genes)), shapes)
    foreign = ((child != a) | ~alive_a) & ((child != b) | ~alive_b) & alive & (alive_a | alive_b) & ~reshaped
    assert not foreign.any()
    both = alive_a & alive_b & (a != b) & alive & ~reshaped
    taken = (child == a)[both].mean()
    assert abs(taken - 0.5) < 5 * 0.5 / np.sqrt(both.sum())


def test_networks_are_spread_over_macs_and_the_same_for_a_seed():
    space = named_space("digits")
    codes = sample_evenly(space, np.random.default_rng(3), 12)
    macs = macs_table(space).total(codes)
    gaps = np.diff(macs)
    assert (gaps > 0).all() and gaps.max() < 3 * (macs[-1] - macs[0]) / 12
    assert (codes == sample_evenly(space, np.random.default_rng(3), 12)).all()
    assert not (codes == sample_evenly(space, np.random.default_rng(4), 12)).all()
    low, high = np.quantile(macs_table(space).total(sample(space, np.random.default_rng(9), 5000)), (0.005, 0.995))
    stretch = (high - low) / 12
    assert abs(macs[0] - low) < 1.2 * stretch and abs(macs[-1] - high) < 1.2 * stretch  # over all that there is


def test_a_spread_over_a_tiny_space_repeats_nothing_until_it_must():
    space = tiny_space()
    for count in (200, int(space.size)):
        assert len(np.unique(sample_evenly(space, np.random.default_rng(0), count), axis=0)) == count
    assert len(sample_evenly(space, np.random.default_rng(0), int(space.size) + 50)) == space.size + 50


def test_a_spread_over_all_of_a_space_has_each_network():
    two = replace(tiny_space(), rows=tiny_space().rows[:1], widths=(0.5,), ratios=(1,), cheap_kernels=(3,))
    assert two.size == 2
    _, times = np.unique(sample_evenly(two, np.random.default_rng(0), 8), axis=0, return_counts=True)
    assert times.tolist() == [4, 4]
    large = named_space("digits")
    large = replace(large, rows=large.rows[:2], widths=(0.5, 0.75, 1.0), ratios=(1, 2))
    assert large.size == 17_496
    for count in (int(large.size), int(large.size) - 3):
        assert len(np.unique(sample_evenly(large, np.random.default_rng(0), count), axis=0)) == count
    window = Window(0, int(np.quantile(macs_table(large).total(sample(large, np.random.default_rng(0), 5000)), 0.3)))
    some = sample_evenly(large, np.random.default_rng(0), 6000, window)  # of fewer
    assert len(some) == 6000 and window.holds(macs_table(large).total(some)).all()
