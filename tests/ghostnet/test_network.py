"""The network against the paper's figures, timm's GhostNet, and a second implementation of the Ghost module."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ghostnet import GhostModule, GhostNet, cost, published
from ghostnet.network import unit_module
from ghostnet.units import units
from spaces import named_space
from tests.helpers import randomise, small_arch


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("ghostnet-0.5", 2_587_292, 42_328_152),
        ("ghostnet-1.0", 5_182_508, 141_150_512),
        ("ghostnet-1.3", 7_358_820, 227_003_256),
    ],
)
def test_published_networks_cost_what_the_paper_says(name, params, macs):
    total = cost(published(name))
    assert (total.params, total.macs) == (params, macs)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("ghostnet-0.5", "ghostnet_050"), ("ghostnet-1.0", "ghostnet_100"), ("ghostnet-1.3", "ghostnet_130")],
)
def test_same_names_and_outputs_as_timm(ours, theirs):
    other = randomise(timm.create_model(theirs)).double()
    net = GhostNet(published(ours)).double()
    net.load_state_dict(other.state_dict())
    images = torch.randn(2, 3, 75, 75, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for mode in (False, True):
        net.train(mode)
        other.train(mode)
        other.drop_rate = 0.0
        torch.testing.assert_close(net(images), other(images), rtol=1e-10, atol=1e-10)


def counted(module: nn.Module, shape: tuple[int, ...]) -> tuple[int, int]:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.eval()(torch.zeros(1, *shape))
    return counter.get_total_flops() // 2, sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["digits", "cifar", "imagenet"])
def test_closed_form_costs_equal_a_counter_over_the_real_network(name, seed):
    import numpy as np

    space = named_space(name)
    arch = space.sample(np.random.default_rng(seed))
    net = GhostNet(arch, space.num_classes, space.in_chs)
    total = cost(arch, space.num_classes, space.in_chs)
    assert counted(net, (space.in_chs, space.resolution, space.resolution)) == (total.macs, total.params)


@pytest.mark.parametrize("align", [1, 4, 8])
def test_closed_form_costs_hold_for_odd_sizes_and_alignment(align):
    arch = small_arch(align=align)
    total = cost(arch, 7, 2)
    assert counted(GhostNet(arch, 7, 2), (2, 15, 15)) == (total.macs, total.params)


def reference_ghost(x, weight, cheap, ratio, out_chs):
    """Section 3.1 the usual way: a grouped convolution over all ghosts, reordered replica by replica, and a slice."""
    primary = F.relu(F.conv2d(x, weight))
    chs = primary.shape[1]
    full = torch.zeros(chs * (ratio - 1), 1, *cheap.shape[2:], dtype=x.dtype)
    full[: len(cheap)] = cheap
    grouped = full.reshape(ratio - 1, chs, *full.shape[1:]).transpose(0, 1).reshape_as(full)
    ghosts = F.relu(F.conv2d(primary, grouped, padding=cheap.shape[2] // 2, groups=chs))
    ghosts = ghosts.reshape(len(x), chs, ratio - 1, *ghosts.shape[2:]).transpose(1, 2).flatten(1, 2)
    return torch.cat([primary, ghosts], 1)[:, :out_chs]


@pytest.mark.parametrize("ratio", [2, 3, 4, 5])
@pytest.mark.parametrize("out_chs", [12, 13, 16])
def test_ghost_module_equals_the_grouped_form(ratio, out_chs):
    module = GhostModule(6, out_chs, ratio, cheap_kernel=3).double().eval()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps = 0.0  # fresh statistics: the identity
    randomise(module.primary_conv[0])
    randomise(module.cheap_operation[0], 1)
    x = torch.randn(2, 6, 7, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = reference_ghost(x, module.primary_conv[0].weight, module.cheap_operation[0].weight, ratio, out_chs)
    torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=1e-12)


def test_units_in_a_row_have_the_networks_cost_and_shape():
    arch = small_arch()
    x = torch.zeros(2, 3, 15, 15)
    for unit in units(arch, 7):
        x = unit_module(unit).eval()(x)
    assert x.shape == (2, 7)


def test_same_generator_same_weights():
    nets = [GhostNet(small_arch(), 5, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(a, b)
