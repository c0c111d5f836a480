"""The network against the paper's figures, timm's GhostNet, and a second implementation of the Ghost module."""

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from ghostnet import Arch, GhostModule, GhostNet, cost, published, weights
from ghostnet.arch import ArchError
from ghostnet.cost import layers
from ghostnet.count import count, count_layers
from ghostnet.inference import fold_norms
from ghostnet.network import unit_module
from ghostnet.units import units
from spaces import named_space
from spaces.population import sample
from spaces.tables import macs_table, params_table
from tests.helpers import archs, randomise, small_arch


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


PAIRS = [("ghostnet-0.5", "ghostnet_050"), ("ghostnet-1.0", "ghostnet_100"), ("ghostnet-1.3", "ghostnet_130")]


def pair(ours: str, theirs: str, dtype: torch.dtype, tmp_path) -> tuple[GhostNet, nn.Module]:
    """Our network with the weights of a randomised one of timm's, carried over as a checkpoint."""
    other = randomise(timm.create_model(theirs, drop_rate=0.0)).to(dtype)
    torch.save({"state_dict": other.state_dict()}, tmp_path / "theirs.pth")
    return weights.load_weights(GhostNet(published(ours)).to(dtype), tmp_path / "theirs.pth"), other


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_outputs_and_gradients_are_timms_at_any_resolution(ours, theirs, train, tmp_path):
    net, other = pair(ours, theirs, torch.float64, tmp_path)
    net.train(train)
    other.train(train)
    for size in (64, 75, (33, 97)):
        shape = size if isinstance(size, tuple) else (size, size)
        images = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        mine, others = net(images), other(images)
        torch.testing.assert_close(mine, others, rtol=1e-10, atol=1e-10)
    mine.square().sum().backward()
    others.square().sum().backward()
    gradients = dict(other.named_parameters())
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=1e-7, atol=1e-10)
    for name, buffer in net.named_buffers():
        torch.testing.assert_close(buffer, dict(other.named_buffers())[name], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_float32_outputs_macs_and_parameters_are_timms(ours, theirs, tmp_path):
    net, other = pair(ours, theirs, torch.float32, tmp_path)
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mine, others = net.eval()(images), other.eval()(images)
    assert (mine - others).abs().max() <= 1e-5 * max(1.0, float(others.abs().max()))
    assert count(net, (3, 224, 224)) == count(other, (3, 224, 224)) == cost(published(ours))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(archs(), st.integers(0, 12), st.integers(1, 4))
def test_closed_form_costs_equal_a_counter_over_the_real_network(arch, num_classes, in_chs):
    net = GhostNet(arch, num_classes, in_chs)
    shape = (in_chs, arch.resolution, arch.resolution)
    assert count(net, shape) == cost(arch, num_classes, in_chs)
    parts = layers(arch, num_classes, in_chs)
    by_name: dict[str, int] = {}
    for name, macs in count_layers(net, shape).items():
        by_name[name] = macs
    assert by_name == {layer.name: layer.cost.macs for layer in parts}
    for layer in parts:
        own = net.get_submodule(layer.name).parameters()
        assert sum(p.numel() for p in own) == layer.weights + (0 if layer.norm else layer.out_chs)
    assert sum(layer.cost.params for layer in parts) == cost(arch, num_classes, in_chs).params


@pytest.mark.parametrize("name", ["digits", "cifar", "imagenet"])
def test_costs_of_encoded_populations_are_the_networks_own(name):
    space = named_space(name)
    codes = sample(space, np.random.default_rng(0), 20)
    archs = [space.decode(code) for code in codes]
    own = [cost(arch, space.num_classes, space.in_chs) for arch in archs]
    assert macs_table(space).total(codes).tolist() == [c.macs for c in own]
    assert params_table(space).total(codes).tolist() == [c.params for c in own]
    assert count(GhostNet(archs[0], space.num_classes, space.in_chs), (space.in_chs, *[space.resolution] * 2)) == own[0]


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


@pytest.mark.parametrize(
    "bad",
    [
        {"in_chs": 0},
        {"out_chs": True},
        {"ratio": 0},
        {"ratio": 1.5},
        {"ratio": -2},
        {"cheap_kernel": 2},
        {"cheap_kernel": 0},
        {"kernel": 2},
        {"stride": 0},
        {"align": 0},
    ],
)
def test_a_ghost_module_that_cant_be_built_is_refused_by_rule_and_value(bad):
    ((name, value),) = bad.items()
    with pytest.raises(ArchError, match=f"`{name}` must .*{value!r}"):
        GhostModule(**({"in_chs": 6, "out_chs": 8} | bad))


@pytest.mark.parametrize("options", [{"ratio": 64}, {"kernel": 3, "stride": 3}, {"ratio": 1}, {"align": 64}])
def test_a_ghost_module_has_the_channels_and_the_side_that_it_says(options):
    y = GhostModule(1, 7, **options)(torch.zeros(2, 1, 10, 8))
    stride = options.get("stride", 1)
    assert y.shape == (2, 7, -(-10 // stride), -(-8 // stride))


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


@given(archs(), st.sampled_from([1, 3]))
@settings(max_examples=15, deadline=None)
def test_folded_norms_answer_alike_and_leave_the_network_as_it_was(arch: Arch, in_chs: int) -> None:
    net = randomise(GhostNet(arch, 5, in_chs)).double().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    images = torch.randn(2, in_chs, 32, 32, dtype=torch.float64)
    folded = fold_norms(net)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert net.training and all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    torch.testing.assert_close(folded(images), net.eval()(images), rtol=1e-9, atol=1e-9)
