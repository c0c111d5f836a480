"""Units that were not timed, estimated by those that were: against made-up runtimes that know them all."""

import numpy as np
import pytest

from ghostnet.cost import unit_layers
from ghostnet.units import Bottleneck
from search.latency import fallback
from search.latency.bench import all_units
from search.latency.predictor import Units
from search.latency.table import Entry
from search.latency.unit_estimates import estimate_units
from spaces import named_space

SPACE = named_space("digits")
KNOWN = all_units(SPACE)


def takes(unit, register):
    """Milliseconds of a runtime that computes whole registers of so many output channels, and depthwise layers at a
    third of the speed of others."""
    ms = 0.003
    for layer in unit_layers(unit):
        filled = -(-layer.out_chs // register) * register / layer.out_chs
        ms += 0.001 + 1e-7 * layer.cost.macs * filled * (3 if layer.groups > 1 else 1)
    return ms


def timed(rng, share, register, noise=0.0):
    """Entries of some units, of every kind of layer."""
    stems_and_tails = [key for key, unit in KNOWN.items() if not isinstance(unit, Bottleneck)]
    some = {*rng.permutation([*KNOWN])[: round(share * len(KNOWN))], *stems_and_tails[::2]}
    return {
        key: Entry(ms=takes(KNOWN[key], register) * np.exp(noise * rng.normal()), low_ms=None, high_ms=None, visits=1)
        for key in sorted(some)
    }


def law_of(entries):
    return fallback.fit({KNOWN[key]: entry.ms for key, entry in entries.items()})


def errors(estimated, register):
    return np.array([np.log(entry.ms / takes(KNOWN[key], register)) for key, entry in estimated.entries.items()])


@pytest.mark.parametrize("register", [4, 8, 16])
def test_a_quarter_of_the_units_tells_the_others(register):
    entries = timed(np.random.default_rng(register), 0.25, register, noise=0.01)
    law = law_of(entries)
    estimated = estimate_units(KNOWN, entries, law)
    assert estimated.entries.keys() == KNOWN.keys() - entries.keys()
    wrong = errors(estimated, register)
    by_law = [np.log(fallback.estimate(law, KNOWN[key]) / takes(KNOWN[key], register)) for key in estimated.entries]
    assert np.sqrt(np.mean(wrong**2)) < np.sqrt(np.mean(np.square(by_law))) / 2
    assert 0.5 < estimated.error / np.sqrt(np.mean(wrong**2)) < 2  # what it says of itself
    inside = [entry.low_ms <= takes(KNOWN[key], register) <= entry.high_ms for key, entry in estimated.entries.items()]
    assert np.mean(inside) > 0.85


def test_more_timed_units_tell_more():
    wrong = []
    for share in (0.1, 0.3, 0.6):
        entries = timed(np.random.default_rng(0), share, 8)
        wrong.append(np.sqrt(np.mean(errors(estimate_units(KNOWN, entries, law_of(entries)), 8) ** 2)))
    assert wrong == sorted(wrong, reverse=True)


def test_kinds_of_which_few_were_timed_are_told_by_the_law():
    entries = timed(np.random.default_rng(0), 0.3, 8)
    _, *others = [key for key in entries if key.startswith("stem")]
    entries = {key: entry for key, entry in entries.items() if key not in others}
    law = law_of(entries)
    estimated = estimate_units(KNOWN, entries, law, quick=True)
    stems = [key for key in estimated.entries if key.startswith("stem")]
    assert stems
    for key in stems:
        entry = estimated.entries[key]
        assert entry.ms == pytest.approx(fallback.estimate(law, KNOWN[key]))
        assert entry.high_ms / entry.ms == pytest.approx((1 + law.error) ** 1.96)


def test_units_with_layers_of_which_none_was_timed_are_left_out():
    entries = {
        key: entry
        for key, entry in timed(np.random.default_rng(0), 0.3, 8).items()
        if not key.startswith("stem")  # the only dense 3x3 convolutions
    }
    estimated = estimate_units(KNOWN, entries, law_of(entries), quick=True)
    missing = KNOWN.keys() - entries.keys() - estimated.entries.keys()
    assert missing == {key for key in KNOWN if key.startswith("stem")}


def test_an_estimated_unit_counts_as_such():
    entries = timed(np.random.default_rng(0), 0.3, 8)
    estimated = estimate_units(KNOWN, entries, law_of(entries), quick=True)
    units = Units(SPACE, entries | estimated.entries, None)
    for key, unit in KNOWN.items():
        assert units.is_estimated(unit) == (key not in entries)
    key, entry = next(iter(estimated.entries.items()))
    assert units.unit_variance(KNOWN[key]) == pytest.approx(((entry.high_ms - entry.low_ms) / 3.92) ** 2)
