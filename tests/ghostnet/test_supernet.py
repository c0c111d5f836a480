"""One definition, three views: the supernet's slice, the extracted network and the ONNX graph give the same outputs."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from ghostnet import Supernet, published
from ghostnet.arch import ArchError
from ghostnet.supernet import leading_slice, scale
from search.graphs.onnx_graph import to_onnx
from spaces import named_space
from tests.helpers import plus_space, randomise, spaces

# Three kinds of kernels, so that block kernels are cropped; more blocks and hidden channels than the family has.
SMALL_PLUS = plus_space(ratios=(1, 2, 3), cheap_kernels=(3, 5), dw_kernels=(3, 5, 7), expansions=(0.75, 1.0, 1.5))


@pytest.fixture(scope="module", params=[named_space("digits"), named_space("cifar"), SMALL_PLUS], ids=lambda s: s.name)
def case(request):
    space = request.param
    supernet = randomise(Supernet(space.bounds, space.num_classes, space.in_chs)).double()
    images = torch.randn(4, space.in_chs, space.resolution, space.resolution, dtype=torch.float64)
    rng = np.random.default_rng(5)
    archs = [space.largest, space.smallest, space.uniform(0.5), *(space.sample(rng) for _ in range(5))]
    return space, supernet, images, archs


@pytest.mark.parametrize("training", [False, True])
def test_slice_equals_extracted_network(case, training):
    _, supernet, images, archs = case
    supernet.train(training)
    before = {name: buffer.clone() for name, buffer in supernet.named_buffers()}
    for arch in archs:
        torch.testing.assert_close(supernet(images, arch), supernet.extract(arch)(images), rtol=1e-10, atol=1e-10)
    for name, buffer in supernet.named_buffers():
        assert torch.equal(buffer, before[name]), "training moved the supernet's statistics"


def test_an_extracted_network_shares_no_memory(case):
    _, supernet, _, archs = case
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    for arch in archs:
        net = supernet.extract(arch)
        assert all(parameter.requires_grad for parameter in net.parameters())
        with torch.no_grad():
            for tensor in net.state_dict().values():
                tensor.fill_(7)
    assert all(torch.equal(tensor, before[name]) for name, tensor in supernet.state_dict().items())


def test_gradients_equal_the_extracted_networks(case):
    _, supernet, images, archs = case
    supernet.train()
    for arch in archs[:4]:
        net = supernet.extract(arch)
        for network, out in ((supernet, supernet(images, arch)), (net, net(images))):
            network.zero_grad()
            out.square().mean().backward()
        shared = dict(supernet.named_parameters())
        for name, parameter in net.named_parameters():
            got = leading_slice(shared[name].grad, parameter.shape)
            times = scale(name, shared[name], parameter.shape)
            torch.testing.assert_close(got, times * parameter.grad, rtol=1e-9, atol=1e-9)
            # nothing outside the slice was touched
            assert torch.isclose(shared[name].grad.abs().sum(), got.abs().sum(), rtol=1e-9)


def test_a_narrow_tail_answers_as_a_wide_one_where_all_channels_and_weights_are_alike():
    space = named_space("digits")
    supernet = Supernet(space.bounds, 10, 1)
    nn.init.constant_(supernet.get_parameter("conv_head.weight"), 0.1)
    wide, narrow = space.largest, replace(space.largest, tail_chs=space.smallest.tail_chs)
    one, other = (supernet.slice(arch)["conv_head.weight"] for arch in (wide, narrow))
    assert one.shape[1] > other.shape[1]
    torch.testing.assert_close(one.sum(1), other.sum(1))


def test_onnx_equals_extracted_network(case):
    space, supernet, _, archs = case
    supernet.eval()
    images = torch.randn(3, space.in_chs, space.resolution, space.resolution)
    for arch in archs:
        net = supernet.extract(arch)
        expected = net(images.double()).detach().numpy()
        model = to_onnx(net.float(), tuple(images.shape[1:])).SerializeToString()
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        got = session.run(None, {"input": images.numpy()})[0]
        torch_error = np.abs(net(images).detach().numpy() - expected).max()
        assert np.abs(got - expected).max() <= 1e-5 * max(1, np.abs(expected).max()) + 4 * torch_error


def test_onnx_graph_has_no_dead_slice_norm_or_grouped_cheap_op():
    space = named_space("cifar")
    supernet = Supernet(space.bounds, 10)
    stock = to_onnx(supernet.extract(space.uniform(1.0)), (3, 32, 32))
    assert {"Slice", "BatchNormalization"}.isdisjoint(node.op_type for node in stock.graph.node)
    weights = {w.name: w.dims for w in stock.graph.initializer}
    for rng_seed in range(3):
        net = supernet.extract(space.sample(np.random.default_rng(rng_seed)))
        model = to_onnx(net, (3, 32, 32), lowering="split")
        weights = {w.name: w.dims for w in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Conv":
                group = next(a.i for a in node.attribute if a.name == "group")
                assert group in (1, weights[node.input[1]][0])


def test_onnx_refuses_what_it_does_not_know():
    with pytest.raises(NotImplementedError, match="gelu"):
        to_onnx(nn.Sequential(nn.Conv2d(3, 4, 1), nn.GELU()), (3, 8, 8))


def test_an_architecture_beyond_the_bounds_is_refused():
    space = named_space("digits")
    supernet = Supernet(space.bounds, 10, 1)
    with pytest.raises(ArchError, match="outside the supernet's bounds"):
        supernet(torch.zeros(1, 1, 16, 16), published("ghostnet-1.0"))


@pytest.mark.parametrize("name", ["digits", "cifar", "imagenet", "digits-plus", "cifar-plus", "imagenet-plus"])
def test_every_network_of_a_space_fits_its_bounds(name):
    fits_bounds(named_space(name), 15)


@settings(max_examples=12, deadline=None)
@given(spaces())
def test_every_network_of_any_space_fits_its_bounds(space):
    fits_bounds(space, 30)


def fits_bounds(space, networks):
    with torch.device("meta"):
        supernet = Supernet(space.bounds, 10, space.in_chs)
    rng = np.random.default_rng(0)
    for arch in (space.smallest, space.largest, *(space.sample(rng) for _ in range(networks))):
        supernet.slice(arch)


def test_state_and_device_moves_reach_the_slices():
    space = named_space("digits")
    supernet = Supernet(space.bounds, 10, 1, generator=torch.Generator().manual_seed(0)).eval()
    images = torch.randn(2, 1, 16, 16)
    before = supernet(images, space.smallest)
    other = Supernet(space.bounds, 10, 1, generator=torch.Generator().manual_seed(1)).eval()
    assert not torch.allclose(other(images, space.smallest), before)
    other.load_state_dict(supernet.state_dict())
    assert torch.equal(other(images, space.smallest), before)
    assert supernet.double()(images.double(), space.smallest).dtype == torch.float64


def test_tensors_that_are_assigned_or_copied_reach_the_slices():
    space = named_space("digits")
    one, other = (Supernet(space.bounds, 10, 1, generator=torch.Generator().manual_seed(k)).eval() for k in (0, 1))
    arch, x = space.smallest, torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        one(x, arch)
        one.load_state_dict(other.state_dict(), assign=True)
        assert torch.equal(one(x, arch), other(x, arch))
        for again in (copy.deepcopy(other), pickle.loads(pickle.dumps(other))):
            for parameter in again.parameters():
                parameter.zero_()
            assert not again(x, arch).any()
