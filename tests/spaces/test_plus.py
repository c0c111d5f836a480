"""Spaces with dead choices: by enumeration, every network has one canonical code, and all are drawn evenly."""

import itertools
from collections import defaultdict
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

from ghostnet import Arch, GhostNet, cost
from ghostnet.network import unit_module
from ghostnet.units import Bottleneck, chain, units
from spaces import Space, named_space
from spaces.canonical import canonical_codes
from spaces.population import sample
from spaces.tables import UnitTable, macs_table, params_table, space_units
from tests.helpers import plus_space, spaces


def everything(space: Space) -> np.ndarray:
    return np.array(list(itertools.product(*(range(n) for n in space.choices))))


def networks(space: Space) -> set[Arch]:
    """All of them, each by one of its codes."""
    return {space.decode(code) for code in np.unique(space.canonical(everything(space)), axis=0)}


@settings(max_examples=30, deadline=None)
@given(spaces())
def test_exhaustively_one_canonical_code_for_each_network(space):
    codes = everything(space)
    canonical = space.canonical(codes)
    archs = [space.decode(code) for code in codes]
    assert (space.canonical(canonical) == canonical).all()
    code_of = dict(zip(archs, map(tuple, canonical.tolist()), strict=True))
    assert len(code_of) == len(set(code_of.values())) == len(np.unique(canonical, axis=0)) == space.size
    for arch, code in itertools.islice(code_of.items(), 0, None, 7):
        assert tuple(space.encode(arch).tolist()) == code and arch in space
    for code, built in zip(canonical[::11].tolist(), codes[::11], strict=True):
        assert space.decode(code) == space.decode(built)


@settings(max_examples=15, deadline=None)
@given(spaces(), st.sampled_from((1, 4)))
def test_exhaustively_no_two_networks_have_the_same_tensors(space, align):
    """Against what is really built: names and shapes of all tensors, and the resolution."""
    space = replace(space, align=align)
    built = set()
    for arch in networks(space):
        with torch.device("meta"):
            state = GhostNet(arch, space.num_classes, space.in_chs).state_dict()
        built.add((arch.resolution, *((name, tuple(tensor.shape)) for name, tensor in state.items())))
    assert len(built) == space.size


@settings(max_examples=15, deadline=None)
@given(spaces())
def test_exhaustively_sums_and_extremes(space):
    codes = everything(space)
    counted = [cost(space.decode(code), space.num_classes, space.in_chs) for code in codes]
    for table, key in ((macs_table(space), "macs"), (params_table(space), "params")):
        totals = table.total(codes)
        assert totals.tolist() == [getattr(each, key) for each in counted]
        assert (table.per_position(codes).sum(1) == totals).all()
        for largest, end in ((False, totals.min()), (True, totals.max())):
            code = table.extreme(largest)
            assert table.total(code)[0] == end and (space.canonical(code) == code).all()


@settings(max_examples=25, deadline=None)
@given(spaces(), st.sampled_from((1, 4)), st.integers(0, 9))
@example(plus_space(), 1, 0)
def test_exhaustively_sums_and_extremes_where_values_have_no_order(space, align, seed):
    """Such as latencies: what makes a block in two ways, as ratios that round to the same channels, is one unit, and a
    network has one sum, whichever of its codes is asked for."""
    space, rng, values = replace(space, align=align), np.random.default_rng(seed), dict[str, float]()
    table = UnitTable(space, lambda unit: values.setdefault(unit.key, rng.normal()))
    codes = everything(space)
    made = [units(space.decode(code), space.num_classes, space.in_chs) for code in codes]
    wanted = [sum(values[unit.key] for unit in network) for network in made]
    assert table.total(codes) == pytest.approx(wanted)
    assert table.total(table.extreme())[0] == pytest.approx(min(wanted))
    assert table.total(table.extreme(largest=True))[0] == pytest.approx(max(wanted))


def test_the_example_has_every_kind_of_dead_choice():
    space = plus_space()
    dead = canonical_codes(space.layout)
    assert space.size < space.choices.prod() and dead.kernel_used and dead.canonical_shape and dead.droppable
    assert not space.injective
    assert space.size == len({space.decode(code) for code in everything(space)})
    own = space.uniform(1.0)
    assert own in space and len(own.blocks) == 2 and own.resolution == 9


@settings(max_examples=15, deadline=None)
@given(spaces(), st.sampled_from((1, 4)))
@example(plus_space(ratios=(1, 2, 3)), 1)
def test_exhaustively_every_block_that_is_built_is_listed_as_one_unit(space, align):
    """Against the units of all networks as modules: names and shapes of all tensors, the stride, the input's shape."""
    space = replace(space, align=align)

    @cache
    def built(unit):
        with torch.device("meta"):
            state = unit_module(unit).state_dict()
        stride = unit.block.stride if isinstance(unit, Bottleneck) else None
        return (unit.in_chs, unit.size, stride, *((name, tuple(tensor.shape)) for name, tensor in state.items()))

    made = defaultdict(set)
    for arch in networks(space):
        for name, unit in chain(arch, space.num_classes, space.in_chs).named.items():
            made[name].add(built(unit))
    for position, array in zip(space.layout.positions, space_units(space), strict=True):
        listed = {unit for unit in array.flat if unit}
        assert len({built(unit) for unit in listed}) == len(listed)
        assert {built(unit) for unit in listed} == made[position.name]


@pytest.mark.parametrize("name", ["digits-plus", "cifar-plus", "imagenet-plus"])
def test_positions_hold_the_units_of_decoded_networks_by_name(name):
    space = named_space(name)
    for code in sample(space, np.random.default_rng(2), 20):
        built = {
            position.name: array[tuple(code[list(position.genes)])]
            for position, array in zip(space.layout.positions, space_units(space), strict=True)
        }
        named = chain(space.decode(code), space.num_classes, space.in_chs).named
        assert [(name, unit) for name, unit in built.items() if unit is not None] == list(named.items())
        for block in space.layout.blocks:
            unit = built[block.name]
            widths = [space.genes[gene].choices[code[gene]] for gene in (block.before, block.width)]
            assert unit is None or unit.uses_dw_kernel == block.uses_kernel(*widths)


@pytest.mark.parametrize("space", [plus_space(), plus_space(ratios=(1, 2), expansions=(1.0,))], ids=["all", "no exp"])
def test_networks_are_drawn_evenly(space):
    """Chi-square over all networks, 20 draws expected of each: a false failure has odds of about 1 in a million."""
    networks = len({space.decode(code) for code in everything(space)})
    result, counts = np.unique(sample(space, np.random.default_rng(0), 20 * networks), axis=0, return_counts=True)
    assert len({space.decode(code) for code in result}) == len(result)
    never = networks - len(result)
    assert ((counts - 20) ** 2 / 20).sum() + 20 * never < chi2.isf(1e-6, networks - 1)
    assert space.sample(np.random.default_rng(1)) in space


def test_draws_of_many_are_canonical_and_in_range():
    space = named_space("imagenet-plus")
    codes = sample(space, np.random.default_rng(0), 50_000)
    assert ((codes >= 0) & (codes < space.choices)).all() and (space.canonical(codes) == codes).all()


def test_four_dimensions_are_drawn_as_a_plain_product():
    space = named_space("imagenet")
    one, many = (np.random.default_rng(5) for _ in range(2))
    assert space.sample(one) == space.decode(many.integers(space.choices))
    assert (sample(space, one, 9) == many.integers(space.choices, size=(9, len(space.choices)))).all()


@settings(max_examples=20, deadline=None)
@given(spaces())
def test_features_tell_networks_apart_and_nothing_else(space):
    codes = everything(space)
    features = space.features(codes)
    assert features.shape == (len(codes), len(space.feature_columns)) and np.isfinite(features).all()
    assert len(np.unique(features, axis=0)) == space.size
    assert (space.features(space.canonical(codes)) == features).all()


def test_a_feature_is_meaningful_where_the_network_has_what_it_tells_of():
    space = named_space("digits-plus")
    codes = sample(space, np.random.default_rng(0), 200)
    meaningful = space.meaningful_features(codes)
    assert (meaningful == space.meaningful_features(space.canonical(codes))).all()
    for arch, row in zip(map(space.decode, codes), meaningful, strict=True):
        blocks = dict(zip(arch.block_names, arch.blocks, strict=True))
        for feature, has in zip(space.feature_columns, row, strict=True):
            if feature.kind in ("ratio", "se", "expansion"):
                assert has == (feature.part in blocks)
            elif feature.kind == "cheap_kernel":
                assert has == (feature.part in blocks and blocks[feature.part].ratio > 1)
            elif feature.kind in ("width", "depth", "resolution"):
                assert has


def test_features_mean_what_their_names_say():
    space = named_space("imagenet-plus")
    arch = space.uniform(1.3)
    values = dict(zip((f.name for f in space.feature_columns), space.features(space.encode(arch))[0], strict=True))
    assert values["resolution"] == 224 and values["stem.width"] == 1.3 and values["stages.6.depth"] == 5
    assert (values["blocks.3.0.ratio"], values["blocks.3.0.cheap_kernel"], values["blocks.3.0.kernel"]) == (2, 3, 5)
    assert (values["blocks.3.0.se"], values["blocks.2.0.se"], values["blocks.3.0.expansion"]) == (1, 0, 1)
    assert values["blocks.2.0.kernel"] == 0  # an identity shortcut, no stride
    assert {value for name, value in values.items() if name.startswith("blocks.6.5.")} == {0}  # dropped
