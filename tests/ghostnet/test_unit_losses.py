"""What a parent loses when one of its units is replaced."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from ghostnet import ArchError
from ghostnet.transplant.unit_losses import UnitLosses
from ghostnet.units import Bottleneck, Stem, Tail, chain
from spaces import named_space
from spaces.custom import space_from_dict
from spaces.tables import space_units
from tests.ghostnet.test_transplant import pictures, trained

SPACE = named_space("digits-plus")
ARCH = SPACE.uniform(0.75)
CHAIN = chain(ARCH, 10, 1).named


@pytest.fixture(scope="module")
def losses():
    return UnitLosses(trained(ARCH), pictures(32))


@pytest.mark.parametrize("name", list(CHAIN))
def test_the_parents_own_units_lose_nothing(losses, name):
    assert abs(losses(name, CHAIN[name])) < 1e-10


@pytest.mark.parametrize("name", list(CHAIN))
def test_smaller_units_lose_something_and_smaller_ones_more(losses, name):
    values = [losses(name, chain(SPACE.uniform(width), 10, 1).named[name]) for width in (0.5, 0.25)]
    assert 1e-6 < values[0] < values[1]


def test_a_stage_of_several_widths_has_a_stream_for_each():
    """As GhostNet's fifth stage, of four blocks with 80 channels and two with 112."""
    space = named_space("cifar")
    parent = space.uniform(0.5)
    widths = [{block.out_chs for block in stage} for stage in parent.stages]
    assert max(map(len, widths)) == 2
    losses = UnitLosses(trained(parent), pictures(24, parent.resolution))
    smaller = chain(space.uniform(0.25), 10, 1).named
    for name, unit in chain(parent, 10, 1).named.items():
        assert abs(losses(name, unit)) < 1e-9
        assert -1e-9 < losses(name, smaller[name]) < float("inf")  # a random network of this depth may answer alike


def changing_space(stem_chs, first):
    """Whose stages of stride 1 change channels, so that at some widths a shortcut is an identity, at others none."""
    rows = [[[3, first, first, 0, 1]], [[3, 48, 16, 0, 1]], [[5, 72, 40, 0.25, 2]]]
    return space_from_dict(
        {
            "base": "digits",
            "stem_chs": stem_chs,
            "rows": rows,
            "widths": [0.5, 1.0],
            "ratios": [2],
            "cheap_kernels": [3],
        }
    )


@pytest.mark.parametrize(("stem_chs", "first"), [(8, 16), (16, 32)])
def test_every_unit_of_stages_that_change_channels_at_stride_1_has_a_loss(stem_chs, first):
    space = changing_space(stem_chs, first)
    losses = UnitLosses(trained(space.uniform(1.0)), pictures(24))
    for position, units in zip(space.layout.positions, space_units(space), strict=True):
        for unit in set(units.flat):
            assert -1e-9 < losses(position.name, unit) < float("inf")


def test_an_identity_in_place_of_a_shortcut_that_only_picks_channels_loses_nothing():
    """Half of what comes in is not read, and the shortcut hands on the other half as it is."""
    space, name = changing_space(16, 32), "blocks.1.0"

    @torch.no_grad()
    def losses_of(read: list[int]) -> UnitLosses:
        parent = trained(space.uniform(1.0))
        block = parent.get_submodule(name)
        block.ghost1.primary_conv[0].weight[:, [k for k in range(32) if k not in read]] = 0
        depthwise, norm, pointwise, last = block.shortcut
        depthwise.weight.zero_()[:, 0, 1, 1] = 1
        pointwise.weight.zero_()[range(16), read, 0, 0] = 1
        for each in (norm, last):
            each.load_state_dict(nn.BatchNorm2d(len(each.weight), each.eps).state_dict())
            each.running_var.fill_(1 - each.eps)
        return UnitLosses(parent, pictures(32))

    with torch.no_grad():
        order = losses_of([*range(1, 16, 2), *range(17, 32, 2)])._channels(1, 16).tolist()  # as a child has them
        assert all(k % 2 for k in order)
        unit = replace(chain(space.uniform(1.0), 10, 1).named[name], in_chs=16)
        assert not unit.has_shortcut and abs(losses_of(order)(name, unit)) < 1e-10


def test_a_block_left_out_is_the_parent_without_it(losses):
    name = next(
        name for name in ARCH.block_names if isinstance(losses.parent.get_submodule(name).shortcut, torch.nn.Identity)
    )
    shorter = trained(ARCH)
    block = shorter.get_submodule(name)
    block.forward = lambda x: x
    images = losses.targets.images
    with torch.no_grad():
        whole, without = (torch.log_softmax(net(images), 1) for net in (losses.parent, shorter))
    divergence = (whole.exp() * (whole - without)).sum(1).mean()
    assert losses(name, None) == pytest.approx(float(divergence), rel=1e-6)


def test_places_that_a_parent_lacks_are_refused(losses):
    strided = next(name for name, unit in CHAIN.items() if isinstance(unit, Bottleneck) and unit.block.stride > 1)
    plain = replace(CHAIN[strided], block=replace(CHAIN[strided].block, stride=1))
    outer = [("stem", replace(CHAIN["stem"], stride=2)), ("tail", replace(CHAIN["tail"], head_chs=12))]
    for name, unit in ((strided, None), ("blocks.9.0", CHAIN[strided]), ("blocks.9.0", None), (strided, plain), *outer):
        with pytest.raises(ArchError, match=f"has no unit {name} to replace"):
            losses(name, unit)


def test_the_same_parent_and_images_lose_the_same(losses):
    again = UnitLosses(trained(ARCH), pictures(32))
    for name, unit in CHAIN.items():
        other = replace(unit, block=replace(unit.block, ratio=3)) if isinstance(unit, Bottleneck) else unit
        assert again(name, other) == losses(name, other)
        wider = chain(SPACE.uniform(1.0), 10, 1).named[name]  # channels that the parent has none for
        assert again(name, wider) == losses(name, wider)
    assert isinstance(CHAIN["stem"], Stem) and isinstance(CHAIN["tail"], Tail)
