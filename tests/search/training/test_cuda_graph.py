"""Training by CUDA graphs: what they compute is what the calls one by one do. Wants a GPU."""

import copy

import pytest
import torch
import torch.nn.functional as F

from ghostnet import GhostNet
from search.recipes.schema import Training
from search.training.cuda_graph import GraphedPasses, is_graphed
from spaces.presets import DIGITS

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
CUDA = torch.device("cuda")


def batches(count: int, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    shape = (16, DIGITS.in_chs, DIGITS.resolution, DIGITS.resolution)
    drawn = [
        (torch.randn(shape, generator=generator), torch.randint(10, (16,), generator=generator)) for _ in range(count)
    ]
    return [
        (images.to(CUDA).contiguous(memory_format=torch.channels_last), labels.to(CUDA)) for images, labels in drawn
    ]


def network(**rates: float) -> GhostNet:
    net = GhostNet(DIGITS.uniform(1.0), 10, DIGITS.in_chs, generator=torch.Generator().manual_seed(1), **rates)
    return net.to(CUDA).to(memory_format=torch.channels_last).train()


@gpu
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_losses_gradients_and_norms_are_those_of_calls_one_by_one(precision):
    one = network()
    other = copy.deepcopy(one)
    graphed = GraphedPasses(other, lambda images, labels: F.cross_entropy(other(images), labels))
    for images, labels in batches(4):
        one.zero_grad(set_to_none=True)
        other.zero_grad(set_to_none=True)
        with torch.autocast("cuda", precision or torch.bfloat16, enabled=precision is not None):
            loss = F.cross_entropy(one(images), labels)
            captured = graphed(images, labels)
        loss.backward()
        assert captured == pytest.approx(float(loss), rel=1e-2 if precision else 1e-4)
        for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
            scale = float(p.grad.abs().max())
            assert float((p.grad - q.grad).abs().max()) <= (0.1 if precision else 1e-2) * scale + 1e-6, name
        with torch.no_grad():  # a graph reads the weights as they are at each replay
            for p, q in zip(one.parameters(), other.parameters(), strict=True):
                p -= 0.01 * p.grad
                q.copy_(p)
    for (name, p), q in zip(one.named_buffers(), other.buffers(), strict=True):
        assert torch.allclose(p.double(), q.double(), rtol=2e-2, atol=1e-2), name


@gpu
def test_random_numbers_are_those_of_their_seed_whether_the_graph_is_new_or_old():
    net = network(drop_rate=0.5, drop_path=0.2)
    frozen = copy.deepcopy(net.state_dict())
    (images, labels), *_ = batches(1)
    graphed = GraphedPasses(net, lambda images, labels: F.cross_entropy(net(images), labels))
    losses = []
    for seed in (5, 6, 5):
        net.load_state_dict(frozen)
        torch.manual_seed(seed)
        losses.append(graphed(images, labels))
    assert losses[0] == losses[2] != losses[1]


@pytest.mark.parametrize(
    ("device", "changed", "graphed"),
    [
        ("cuda", {}, True),
        ("cpu", {}, False),
        ("cuda", {"compile": True}, False),
        ("cuda", {"accumulate": 2}, False),
        ("cuda", {"amp": "fp16"}, False),
    ],
)
def test_passes_are_captured_where_gradients_are_neither_added_up_nor_scaled(device, changed, graphed):
    assert is_graphed(Training(epochs=1, **changed), torch.device(device)) is graphed
