"""The ways a network is run: dropout, compiled, channels last, exported, half precision."""

import copy
import shutil

import pytest
import torch
import torch.nn.functional as F

from ghostnet import Block, GhostNet, published
from tests.helpers import randomise, small_arch


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def step(net, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Outputs and every gradient of a training step."""
    y = net(x)
    F.cross_entropy(y.float(), torch.arange(len(x)) % y.shape[1]).backward()
    return y.detach(), [parameter.grad for parameter in net.parameters()]


def test_dropout_acts_in_training_alone_and_on_average_not_at_all():
    net = randomise(GhostNet(small_arch(), 5, drop_rate=0.2))
    plain = copy.deepcopy(net)
    plain.drop_rate = 0.0
    x = images(2, 3, 15, 15)
    assert torch.equal(net.eval()(x), plain.eval()(x))
    features = torch.rand(1, small_arch().tail_chs, 1, 1)
    torch.manual_seed(0)
    with torch.no_grad():
        many = net.train().forward_head(features.expand(20_000, -1, -1, -1))
        once = plain.train().forward_head(features)
    assert many.std(0).min() > 0
    # 20,000 draws: a mean strays from its value by six standard errors once in 5e8 times.
    assert ((many.mean(0) - once[0]).abs() < 6 * many.std(0) / 20_000**0.5).all()


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled(backend):
    if backend == "inductor" and not shutil.which("g++"):
        pytest.skip("inductor needs a C++ compiler")
    stages = ((Block(mid_chs=11, out_chs=8, ratio=3, cheap_kernel=5, se_ratio=0.25),),)  # compiling more takes minutes
    net = randomise(GhostNet(small_arch(stages=stages, stem_chs=4), 5))
    other = copy.deepcopy(net)
    x = images(4, 3, 15, 15)
    expected, gradients = step(net, x)
    result, others = step(torch.compile(other, backend=backend, fullgraph=True), x)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)
    for a, b in zip(others, gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_channels_last():
    net = randomise(GhostNet(small_arch(), 5)).double()
    other = copy.deepcopy(net).to(memory_format=torch.channels_last)
    x = images(4, 3, 15, 15).double()
    expected, gradients = step(net, x)
    result, others = step(other, x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(result, expected, rtol=1e-10, atol=1e-10)
    for a, b in zip(others, gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    inside = other.blocks[0](torch.zeros(2, 8, 15, 15).double().contiguous(memory_format=torch.channels_last))
    assert inside.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("train", [False, True])
def test_exported(train):
    net = randomise(GhostNet(small_arch(), 5)).train(train)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(copy.deepcopy(net), (images(2, 3, 15, 15),), dynamic_shapes=({0: batch},))
    x = images(5, 3, 15, 15, seed=1)
    torch.testing.assert_close(program.module()(x), net(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", ["autocast", "cast"])
def test_bfloat16_on_the_cpu(how):
    """bfloat16 has 8 bits of mantissa; through some twenty layers a few per cent of the outputs' spread are left."""
    net = randomise(GhostNet(published("ghostnet-0.5"), 10))
    other, x = copy.deepcopy(net), images(8, 3, 64, 64)
    expected, gradients = step(net, x)
    if how == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            result, others = step(other, x)
    else:
        result, others = step(other.bfloat16(), x.bfloat16())
    assert result.dtype == torch.bfloat16
    assert relative(result, expected) < 0.1
    flat = [torch.cat([g.float().flatten() for g in all_]) for all_ in (others, gradients)]
    assert torch.isfinite(flat[0]).all() and torch.cosine_similarity(*flat, dim=0) > 0.8  # unrelated ones: about 0


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.float() - expected).norm() / expected.norm())
