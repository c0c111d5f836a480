"""Memory in closed form against a walk over the exported ONNX graph, for any architecture."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from ghostnet import GhostNet, published
from ghostnet.arch import Arch, ArchError
from ghostnet.memory import memory, unit_peak, unit_weight_bytes, value_bytes
from ghostnet.network import unit_module
from ghostnet.units import units
from search.graphs.onnx_graph import to_onnx
from spaces.tables import memory_table, weights_table
from tests.helpers import archs, plus_space, spaces

IN_PLACE = {"Relu", "HardSigmoid", "Flatten", "Identity"}


def walk(model: onnx.ModelProto) -> tuple[int, int]:
    """Bytes that are alive at a time at the most, node by node, and bytes of the float weights."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    weights = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    sizes = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        sizes[value.name] = 4 * int(np.prod([d.dim_value for d in value.type.tensor_type.shape.dim]))
    place: dict[str, str] = {graph.input[0].name: graph.input[0].name}  # which tensor's bytes each name stands for
    reads = []
    for node in graph.node:
        read = [place[name] for name in node.input if name not in weights]
        (out,) = node.output
        place[out] = read[0] if node.op_type in IN_PLACE else out
        reads.append((read, place[out]))
    last = {name: k for k, (read, out) in enumerate(reads) for name in (*read, out)}
    alive, peak = {graph.input[0].name}, 0
    for k, (_, out) in enumerate(reads):
        alive.add(out)
        peak = max(peak, sum(sizes[name] for name in alive))
        alive = {name for name in alive if last[name] > k}
    return peak, sum(w.nbytes for w in weights.values() if w.dtype == np.float32)


@given(arch=archs(), classes=st.integers(0, 12), in_chs=st.sampled_from((1, 3)), batch=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("lowering", ["split", "mixed"])
def test_memory_is_what_a_walk_over_the_graph_counts(lowering, arch, classes, in_chs, batch):
    net = GhostNet(arch, classes, in_chs).eval()
    model = to_onnx(net, (in_chs, arch.resolution, arch.resolution), batch, lowering)
    result = memory(arch, classes, in_chs, batch)
    assert (result.activations, result.weights) == walk(model)


def test_a_unit_alone_has_its_own_peak():
    for unit in set(units(published("ghostnet-1.0"))):
        chs = getattr(unit, "in_chs", 0)
        peak, weights = walk(to_onnx(unit_module(unit).eval(), (chs, unit.size, unit.size), 1))
        assert (4 * unit_peak(unit), unit_weight_bytes(unit)) == (peak, weights)


def test_data_types_and_batches_scale():
    arch = published("ghostnet-0.5")
    one, eight = memory(arch), memory(arch, dtype="int8")
    assert one.activations == 4 * eight.activations == memory(arch, batch=3).activations / 3
    assert memory(arch, dtype="float16").weights * 2 == one.weights
    assert one.weights / 4 < eight.weights < one.weights / 3.5  # biases keep 32 bits
    assert value_bytes(2, "float16") == 4
    with pytest.raises(ArchError, match="`batch` must be a whole number from 1 to 65536, but got 0"):
        memory(arch, batch=0)
    with pytest.raises(ArchError, match="a data type is one of float32, float16, int8, not 'int4'"):
        memory(arch, dtype="int4")


@given(space=spaces(), each=st.sampled_from((1, 4, 8)))
@settings(max_examples=15, deadline=None)
def test_tables_give_whole_populations_and_the_extremes(space, each):
    codes = np.stack(np.unravel_index(np.arange(space.choices.prod()), space.choices), axis=1)
    peaks, weights = memory_table(space, each).total(codes), weights_table(space).total(codes)
    for k in range(0, len(codes), max(1, len(codes) // 20)):
        arch: Arch = space.decode(codes[k])
        result = memory(arch, space.num_classes, space.in_chs)
        assert (peaks[k] * 4, weights[k]) == (result.activations * each, result.weights)
    for largest, wanted in ((False, peaks.min()), (True, peaks.max())):
        assert memory_table(space, each).total(memory_table(space, each).extreme(largest))[0] == wanted


def test_a_dropped_block_and_a_smaller_input_take_less():
    space = plus_space()
    least = memory_table(space).extreme()
    assert space.decode(least).resolution == 7
