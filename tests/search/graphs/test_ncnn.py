"""ncnn's files, written directly: the layers and outputs of what ncnn's converter, pnnx, makes of our ONNX graph."""

import subprocess
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from ghostnet import GhostModule, GhostNet
from ghostnet.network import unit_module
from ghostnet.units import units
from search.graphs.ncnn_builder import NcnnBuilder
from search.graphs.onnx_builder import INPUT
from search.graphs.onnx_graph import to_ncnn, to_onnx
from search.latency.timing.ncnn_session import NCNN_FILES, NcnnSession, pack_ncnn
from tests.helpers import randomise, small_arch

pytest.importorskip("ncnn")
DEFAULTS = {11: 1, 12: 2, 13: 3, 14: 4, 15: 4}  # height from width, the right side's padding from the left's
DILATION = 2


def module(name):
    net = GhostNet(small_arch(), 5)
    made = {"network": (net, (3, 15, 15))}
    made |= {f"unit {k}": (unit_module(u), (u.in_chs, u.size, u.size)) for k, u in enumerate(units(small_arch(), 5))}
    made["torn replica"] = GhostModule(6, 11, 3, 5), (6, 9, 7)
    return randomise(made[name][0]).eval(), made[name][1]


MODULES = ["network", *(f"unit {k}" for k in range(len(units(small_arch(), 5)))), "torn replica"]


def run(param, weights, image):
    return NcnnSession(pack_ncnn(param, weights), 1)(image[None])[0]


def layers(param):
    """How many there are of each kind with the same parameters."""
    result = Counter()
    for line in param.decode().splitlines()[2:]:
        kind, _, inputs, outputs, *rest = line.split()
        pairs = [value.split("=") for value in rest[int(inputs) + int(outputs) :]]
        values = {int(key): tuple(map(np.float32, value.split(","))) for key, value in pairs}
        values = {key: value for key, value in values.items() if value != values.get(DEFAULTS.get(key, -1))}
        if kind.startswith("Convolution") and values.get(DILATION) == (1,):
            del values[DILATION]
            assert values.pop(12, (1,)) == (1,)
        result[kind, inputs, outputs, tuple(sorted(values.items()))] += 1
    return result


@pytest.mark.parametrize("lowering", ["split", "repeated"])
@pytest.mark.parametrize("name", MODULES)
def test_outputs_and_layers_are_those_of_what_pnnx_converts(name, lowering, tmp_path):
    pnnx = pytest.importorskip("pnnx")
    net, shape = module(name)
    (tmp_path / "model.onnx").write_bytes(to_onnx(net, shape, 1, lowering).SerializeToString())
    command = [pnnx.EXEC_PATH, "model.onnx", "fp16=0", f"inputshape=[1,{','.join(map(str, shape))}]"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    theirs = [(tmp_path / name).read_bytes() for name in NCNN_FILES]
    ours = to_ncnn(net, shape, lowering)
    assert layers(ours.param.encode()) == layers(theirs[0])
    numbers = [np.sort(np.frombuffer(each, np.uint32)) for each in (ours.weights, theirs[1])]
    np.testing.assert_array_equal(*numbers)  # in another order where two layers don't wait for each other
    image = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    found, wanted = run(ours.param.encode(), ours.weights, image), run(*theirs, image)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


class Odd(nn.Module):
    """A map that is read by two layers and is the output as well, and one whose ReLU can't go into its convolution."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.ReLU()

    def forward(self, x):
        first = self.first(x)
        return torch.cat([self.relu(first), first, self.second(first) + first], 1)


def test_a_map_with_several_readers_keeps_its_values_where_one_is_a_relu():
    net = randomise(Odd()).eval()
    image = np.random.default_rng(0).standard_normal((3, 6, 5), dtype=np.float32)
    param, weights = to_ncnn(net, image.shape)
    with torch.no_grad():
        wanted = net(torch.from_numpy(image[None]))[0].numpy()
    np.testing.assert_allclose(run(param.encode(), weights, image), wanted, rtol=1e-5, atol=1e-5)


def test_an_output_that_a_layer_reads_too_is_whole():
    build = NcnnBuilder((2, 3, 3))
    doubled = build.add("Add", [INPUT, INPUT])
    build.add("Relu", [doubled])  # leads nowhere
    image = np.random.default_rng(0).standard_normal((2, 3, 3), dtype=np.float32)
    param, weights = build.model(doubled)
    np.testing.assert_array_equal(run(param.encode(), weights, image), 2 * image)


@pytest.mark.parametrize(("chs", "keep"), [([0, 3, 1, 4, 2, 5], 6), ([0, 3, 1, 4], 6), ([0, 1, 2], 3)])
def test_channels_are_put_in_a_shuffles_order(chs, keep):
    build = NcnnBuilder((keep, 4, 5))
    image = np.random.default_rng(0).standard_normal((keep, 4, 5), dtype=np.float32)
    param, weights = build.model(build.permuted(INPUT, np.array(chs)))
    np.testing.assert_array_equal(run(param.encode(), weights, image), image[chs])


@pytest.mark.parametrize("chs", [[1, 0, 2, 3, 4, 5], [0, 4, 1, 5, 2, 3], [0, 3, 2, 1]])
def test_another_order_is_refused(chs):
    build = NcnnBuilder((6, 4, 5))
    with pytest.raises(NotImplementedError, match="no ncnn form is known for the channels"):
        build.permuted(INPUT, np.array(chs))
