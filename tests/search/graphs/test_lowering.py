"""The cheap op's lowerings: the same outputs in the same order, and the graphs that each is for."""

import numpy as np
import onnxruntime
import pytest
import torch
from timm.models.ghostnet import GhostModule as TheirModule
from torch import nn

from ghostnet import GhostModule, GhostNet
from ghostnet.modules import CheapConv
from search.graphs.lowering import LOWERINGS, SplitConv, by_primary, lower_module
from search.graphs.onnx_builder import INPUT
from search.graphs.onnx_graph import to_onnx
from tests.helpers import randomise, small_arch

# primaries and ghosts: fewer ghosts than primaries, as many, two and three whole replicas, and torn last ones
SHAPES = [(5, 3), (4, 4), (4, 8), (3, 9), (5, 7), (4, 11), (1, 3)]


def run(model, images):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {INPUT: images.numpy()})[0]


def kinds(model):
    """How many nodes of each kind, and the groups, inputs and outputs of the convolutions."""
    weights = {w.name: w.dims for w in model.graph.initializer}
    result = [node.op_type for node in model.graph.node]
    groups = [
        (next(a.i for a in node.attribute if a.name == "group"), weights[node.input[1]][0])
        for node in model.graph.node
        if node.op_type == "Conv"
    ]
    return result, groups


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chs", SHAPES)
def test_a_lowered_cheap_op_has_equal_outputs(chs, bias, lowering):
    conv = randomise(CheapConv(*chs, kernel=3, bias=bias).double())
    x = torch.randn(2, chs[0], 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kept = conv.weight.clone()
    other = lower_module(nn.Sequential(conv), lowering)
    torch.testing.assert_close(other(x), conv(x), rtol=1e-12, atol=1e-12)
    assert torch.equal(conv.weight, kept)
    assert not {id(w) for w in other.parameters()} & {id(w) for w in conv.parameters()}  # a copy
    torch.testing.assert_close(lower_module(conv, lowering)(x), conv(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("lowering", LOWERINGS)
@pytest.mark.parametrize("ratio", [2, 3, 4])
@pytest.mark.parametrize("out_chs", [11, 12])
def test_lowered_graphs_of_a_module_have_equal_outputs(out_chs, ratio, lowering):
    module = randomise(GhostModule(6, out_chs, ratio, 5)).eval()
    images = torch.randn(2, 6, 7, 9, generator=torch.Generator().manual_seed(0))
    expected = module.double()(images.double()).detach().numpy()
    model = to_onnx(module.float(), (6, 7, 9), lowering=lowering)
    assert np.abs(run(model, images) - expected).max() <= 1e-6 * np.abs(expected).max()
    again = lower_module(module, lowering)(images).detach().numpy()
    assert np.abs(again - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_lowered_networks_have_equal_outputs(lowering):
    net = randomise(GhostNet(small_arch(), 5)).eval()
    images = torch.randn(3, 3, 15, 15, generator=torch.Generator().manual_seed(0))
    expected = net.double()(images.double()).detach().numpy()
    graph = to_onnx(net.float(), (3, 15, 15), lowering=lowering)
    for result in (run(graph, images), lower_module(net, lowering)(images).detach().numpy()):
        assert np.abs(result - expected).max() <= 1e-5 * np.abs(expected).max()


def test_each_lowering_is_what_it_says():
    module = randomise(GhostModule(6, 12, 4, 3)).eval()  # 3 primaries, 9 ghosts: three whole replicas
    ops, groups = kinds(to_onnx(module, (6, 8, 8), lowering="split"))
    assert groups == [(1, 3), (3, 3), (3, 3), (3, 3)] and ops.count("Concat") == 1 and "Gather" not in ops
    ops, groups = kinds(to_onnx(module, (6, 8, 8), lowering="repeated"))
    assert groups == [(1, 3), (9, 9)] and ops.count("Concat") == 2 and "Gather" not in ops
    ops, groups = kinds(to_onnx(module, (6, 8, 8), lowering="grouped"))
    assert groups == [(1, 3), (3, 9)] and ops.count("Gather") == 1
    ops, groups = kinds(to_onnx(module, (6, 8, 8), lowering="mixed"))  # 3 is no multiple of 4
    assert groups == [(1, 3), (3, 9)]
    four = randomise(GhostModule(6, 12, 3, 3)).eval()
    assert kinds(to_onnx(four, (6, 8, 8), lowering="mixed"))[1] == [(1, 4), (4, 4), (4, 4)]
    two = randomise(GhostModule(6, 12, 2, 3)).eval()
    assert len({to_onnx(two, (6, 8, 8), lowering=each).SerializeToString() for each in LOWERINGS}) == 1


def test_places_by_primary_undo_each_other():
    for chs in SHAPES:
        place, ghost = by_primary(*chs)
        np.testing.assert_array_equal(ghost[place], np.arange(chs[1]))
        assert (ghost == -1).sum() == len(ghost) - chs[1]
    # replicas by primaries: ghosts 0 1 2 | 3 4 of primaries 0 1 2
    assert by_primary(3, 5)[1].tolist() == [0, 3, 1, 4, 2, -1]


def test_the_usual_ghost_module_is_known_with_its_closing_slice():
    images = torch.randn(2, 6, 7, 9, generator=torch.Generator().manual_seed(0))
    for out_chs in (11, 12):
        theirs = randomise(TheirModule(6, out_chs, ratio=3, dw_size=3)).eval()
        model = to_onnx(theirs, (6, 7, 9))
        np.testing.assert_allclose(run(model, images), theirs(images).detach().numpy(), rtol=1e-5, atol=1e-5)
        assert kinds(model)[0].count("Slice") == 1

    class Odd(nn.Module):
        def forward(self, x):
            return x[:, 1:]

    with pytest.raises(NotImplementedError, match="leading channels"):
        to_onnx(Odd(), (3, 4, 4))


def test_a_cheap_op_that_stands_twice_in_one_parent_is_lowered_in_both_places():
    cheap = randomise(CheapConv(4, 4, 3))
    lowered = lower_module(nn.Sequential(cheap, nn.ReLU(), cheap), "split")
    assert isinstance(lowered[0], SplitConv) and isinstance(lowered[2], SplitConv)
