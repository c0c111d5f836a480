"""What every runtime must do. A new one inherits this by standing in `RUNTIMES`; what isn't installed is skipped."""

import os
import subprocess
import sys
import time
from functools import cache

import numpy as np
import pytest
import torch

from ghostnet import GhostNet
from ghostnet.network import unit_module
from ghostnet.units import units
from search.errors import UserError
from search.graphs.lowering import LOWERINGS
from search.latency.runtimes import RUNTIMES, runtime
from tests.helpers import randomise, small_arch

SHAPE = (3, 15, 15)
TWO = min(2, os.cpu_count() or 1)


@cache
def network():
    """A network with every kind of block, and nothing in it at its default."""
    return randomise(GhostNet(small_arch(), 5)).eval()


@cache
def compiled(name, dtype, batch):
    return runtime(name, 1, dtype).compile(network(), SHAPE, batch)


def images(batch, seed=0):
    return np.random.default_rng(seed).standard_normal((batch, *SHAPE), dtype=np.float32)


def expected(given):
    with torch.no_grad():
        return network()(torch.from_numpy(given)).numpy()


TARGETS = [(name, dtype) for name, adapter in RUNTIMES.items() for dtype in adapter.lowerings]


@pytest.fixture(params=TARGETS, ids=map("-".join, TARGETS))
def target(request):
    name, dtype = request.param
    if (why := RUNTIMES[name].missing()) is not None:
        pytest.skip(why)
    return name, dtype


FLOAT32 = 1e-4  # largest difference
INT8 = 0.99  # correlation with the float32 network's outputs, at least


def agree(found, wanted, dtype):
    assert found.dtype == np.float32 and found.shape == wanted.shape
    if dtype == "float32":
        np.testing.assert_allclose(found, wanted, rtol=FLOAT32, atol=FLOAT32)
    else:
        assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > INT8


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("threads", sorted({1, TWO}))
def test_its_outputs_are_pytorchs(target, batch, threads):
    name, dtype = target
    given = images(batch)
    session = runtime(name, threads, dtype).load(compiled(name, dtype, batch))
    agree(session(given), expected(given), dtype)


def test_it_tells_what_it_is(target):
    name, dtype = target
    run = runtime(name, TWO, dtype)
    assert (run.name, run.threads, run.dtype) == (name, TWO, dtype)
    assert run.lowering in LOWERINGS
    assert run.version() == runtime(name, 1, dtype).version() != ""


def test_timing_and_another_session_leave_the_outputs_alone(target):
    name, dtype = target
    run = runtime(name, 1, dtype)
    one, other = (run.load(compiled(name, dtype, batch)) for batch in (1, 4))
    first = one(images(1))
    before = first.copy()
    timers = one.timer(images(1, seed=1)), other.timer(images(4, seed=2))
    times = [once() for _ in range(3) for once in timers]
    assert all(isinstance(t, int) and t > 0 for t in times)
    np.testing.assert_array_equal(first, before)  # outputs are the caller's, not overwritten by the next run
    np.testing.assert_array_equal(one(images(1)), before)
    agree(other(images(4)), expected(images(4)), dtype)


@pytest.mark.parametrize("name", ["openvino", "litert"])
def test_placing_the_images_is_not_timed(name, monkeypatch):
    """In Python it takes as long as a small network."""
    if (why := RUNTIMES[name].missing()) is not None:
        pytest.skip(why)
    session = runtime(name, 1, "float32").load(compiled(name, "float32", 1))
    place = session._place
    monkeypatch.setattr(session, "_place", lambda images: (time.sleep(0.2), place(images)))
    once = session.timer(images(1))
    assert min(once() for _ in range(3)) < 0.1e9
    agree(session(images(1)), expected(images(1)), "float32")


@pytest.mark.parametrize("lowering", LOWERINGS)
def test_no_lowering_changes_the_outputs(target, lowering):
    name, dtype = target
    if name == "executorch":
        pytest.skip("ten seconds each, and what it is given is PyTorch's own: test_lowering.py")
    run = runtime(name, 1, dtype, lowering)
    assert run.lowering == lowering
    agree(run.load(run.compile(network(), SHAPE))(images(1)), expected(images(1)), dtype)


def test_images_need_not_be_square(target):
    name, dtype = target
    if name == "executorch":
        pytest.skip("ten seconds")
    run = runtime(name, 1, dtype)
    given = np.random.default_rng(0).standard_normal((2, 3, 12, 19), dtype=np.float32)
    agree(run.load(run.compile(network(), given.shape[1:], 2))(given), expected(given), dtype)


def test_every_unit_alone_gives_maps_or_outputs_as_pytorch_does(target):
    name, dtype = target
    run = runtime(name, 1, dtype)
    for unit in units(small_arch(), 5)[1 if name != "executorch" else -1 :]:
        module, shape = randomise(unit_module(unit)).eval(), (unit.in_chs, unit.size, unit.size)
        given = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
        with torch.no_grad():
            wanted = module(torch.from_numpy(given)).numpy()
        agree(run.load(run.compile(module, shape))(given), wanted, dtype)


def test_compiling_leaves_the_network_alone(target):
    name, dtype = target
    state = {key: value.clone() for key, value in network().state_dict().items()}
    compiled(name, dtype, 1)
    assert all(torch.equal(value, state[key]) for key, value in network().state_dict().items())
    assert all(value.device.type == "cpu" for value in network().state_dict().values())


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system doesn't say which cores are ours")
def test_unknown_runtimes_threads_and_data_types_are_refused(monkeypatch):
    with pytest.raises(UserError, match=r"one of onnxruntime.*not 'abacus'"):
        runtime("abacus", 1)
    for threads in (0, 4096):
        with pytest.raises(UserError, match=f"threads .* but got {threads}"):
            runtime("onnxruntime", threads)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {1})  # as under taskset
    runtime("onnxruntime", 1)
    with pytest.raises(UserError, match="from 1 to the 1 cores that this process may use, but got 2"):
        runtime("onnxruntime", 2)
    with pytest.raises(UserError, match=r"data type of onnxruntime is one of float32.*'int3'"):
        runtime("onnxruntime", 1, "int3")


@pytest.mark.parametrize("adapter", RUNTIMES.values(), ids=RUNTIMES)
def test_a_missing_package_is_told_with_the_extra_that_installs_it(adapter, monkeypatch):
    monkeypatch.setattr(adapter, "package", "no_such_package")
    needs = rf"an extra: pip install 'ghostnas\[{adapter.extra}\]'" if adapter.extra else "the package no_such_package"
    with pytest.raises(UserError, match=f"{adapter.name} needs {needs}"):
        runtime(adapter.name, 1)


@pytest.mark.parametrize(
    "ours",
    [
        "from search.latency.timing.onnx_session import open_onnx as f",
        "from search.export.standalone import run_onnx as f",
    ],
)
def test_onnx_runtime_is_told_to_tell_nobody_before_it_is_loaded(ours):
    """From 1.29 on it sends its makers what it is used for, unless the variable is there when it begins."""
    code = f"""
import os, sys
class Watch:
    def find_spec(name, *_):
        if name == "onnxruntime":
            print(os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.meta_path.insert(0, Watch)
{ours}
assert "onnxruntime" not in sys.modules
try:
    f(b"", 1)
except Exception:
    pass
assert "onnxruntime" in sys.modules
"""
    env = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    for given, expected in ((None, "1"), ("0", "0")):  # whoever wants it may
        env |= {"ORT_DISABLE_TELEMETRY": given} if given else {}
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [expected]
