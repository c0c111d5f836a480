"""Transplants: what holds for every fit, whatever the parent."""

import copy
import itertools
import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from ghostnet import Arch, ArchError, Block, GhostNet, Supernet, Transplants, WeightSource
from ghostnet.least_squares import choose_columns
from ghostnet.transplant.beginnings import Beginnings
from ghostnet.transplant.layers import fit_affine
from ghostnet.transplant.settings import FitSettings
from spaces import named_space

PLUS = named_space("digits-plus")


def trained(arch: Arch, seed: int = 0) -> GhostNet:
    """A network in double precision whose norms, biases and gates are all of some size, as training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    net = GhostNet(arch, 10, 1, generator=generator).double().eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor, low in ((module.weight, 0.5), (module.bias, -0.5), (module.running_mean, -0.5)):
                    tensor.copy_(torch.rand(len(tensor), generator=generator) + low)
                module.running_var.copy_(torch.rand(len(module.weight), generator=generator) + 0.5)
    return net


def pictures(count: int = 48, side: int = 16, seed: int = 1) -> torch.Tensor:
    """Smooth noise, [count, 1, side, side]."""
    noise = torch.randn(count, 1, side // 2, side // 2, generator=torch.Generator().manual_seed(seed)).double()
    return torch.nn.functional.interpolate(noise, (side, side), mode="bilinear")


@pytest.fixture(scope="module")
def parent() -> GhostNet:
    return trained(PLUS.uniform(0.75))


@pytest.fixture(scope="module")
def transplants(parent) -> Transplants:
    return Transplants(parent, pictures(), FitSettings(body=32, positions=2048))


def largest_difference(a: nn.Module, b: nn.Module, side: int = 16) -> float:
    x = pictures(20, side, seed=2)
    with torch.no_grad():
        return float((a(x) - b(x)).abs().max() / b(x).abs().max())


def scaled(arch: Arch, change: Callable[[Block], Block]) -> Arch:
    """The architecture with every block changed."""
    stages = tuple(tuple(change(b) for b in stage) for stage in arch.stages)
    return replace(arch, stages=stages)


def test_the_parents_own_architecture_comes_out(parent, transplants):
    assert largest_difference(transplants.extract(parent.arch), parent) < 1e-10


@pytest.mark.parametrize("ratio", [1, 3, 4])
def test_so_it_does_at_other_ratios_and_kernels(ratio):
    arch = scaled(PLUS.uniform(0.5), lambda b: replace(b, ratio=ratio, cheap_kernel=5, se_ratio=0.25))
    parent = trained(arch)
    assert largest_difference(Transplants(parent, pictures()).extract(arch), parent) < 1e-10


def test_wider_children_begin_as_the_parent(parent, transplants):
    arch = replace(parent.arch, stem_chs=20, tail_chs=300)
    arch = scaled(arch, lambda b: replace(b, mid_chs=2 * b.mid_chs, out_chs=b.out_chs + 8, cheap_kernel=5))
    assert largest_difference(transplants.extract(arch), parent) < 1e-10


def test_deeper_children_begin_as_the_parent(parent, transplants):
    arch = replace(parent.arch, stages=tuple((*s, replace(s[-1], stride=1, se_ratio=0.25)) for s in parent.arch.stages))
    child = transplants.extract(arch)
    assert len(child.arch.blocks) == len(parent.arch.blocks) + 3
    assert largest_difference(child, parent) < 1e-10


def test_gates_that_the_parent_lacks_begin_without_effect(parent, transplants):
    with_gates = scaled(parent.arch, lambda b: replace(b, se_ratio=0.25))
    child = transplants.extract(with_gates)
    new = [
        m.se
        for s, o in zip(child.blocks[:-1], parent.blocks[:-1], strict=True)
        for m, n in zip(s, o, strict=True)
        if n.se is None
    ]
    assert new and all(se is not None for se in new)
    assert largest_difference(child, parent) < 1e-10


def test_a_wider_gate_begins_as_the_parents(parent, transplants):
    arch = scaled(parent.arch, lambda b: replace(b, se_ratio=0.5 if b.se_ratio else 0.0))
    assert largest_difference(transplants.extract(arch), parent) < 1e-10


def test_channels_without_effect_can_go():
    """Every other primary between Ghost modules, its ghost, and half of the tail's channels are read by nothing."""
    parent = trained(scaled(PLUS.uniform(0.75), lambda block: replace(block, se_ratio=0.0)))
    with torch.no_grad():
        for stage in parent.blocks[:-1]:
            for block in stage:
                weight, m = block.ghost2.primary_conv[0].weight, block.ghost1.primary_conv[0].out_channels
                weight[:, [c for c in range(weight.shape[1]) if c % m % 2]] = 0
        parent.conv_head.weight[:, ::2] = 0
    arch = scaled(parent.arch, lambda block: replace(block, mid_chs=2 * -(-block.mid_chs // 4)))
    arch = replace(arch, tail_chs=arch.tail_chs // 2)
    assert arch.blocks[1].mid_chs < parent.arch.blocks[1].mid_chs
    assert largest_difference(Transplants(parent, pictures()).extract(arch), parent) < 1e-10


def test_every_gene_runs(parent, transplants):
    rng = np.random.default_rng(0)
    for arch in (PLUS.smallest, PLUS.largest, *(PLUS.sample(rng) for _ in range(12))):
        child = transplants.extract(arch)
        assert child.arch == arch and not child.training
        assert torch.isfinite(child(pictures(4, arch.resolution))).all()
        assert all(torch.isfinite(tensor).all() for tensor in child.state_dict().values())


def test_a_smaller_picture_is_made_up_for(parent, transplants):
    """Fitted at 8 pixels, the parent's architecture is closer to the parent's outputs at 16 than the parent at 8 is."""
    from ghostnet.resize import resized

    x = pictures(200, seed=3)
    with torch.no_grad():
        wanted, small = parent(x), resized(x, 8)
        fitted = transplants.extract(replace(parent.arch, resolution=8))(small)
        assert (fitted - wanted).square().mean() < (parent(small) - wanted).square().mean()


def test_a_layers_solution_is_that_of_another_solver():
    """Ridge drawn to a prior, as ordinary least squares with rows added for the penalty (numpy)."""
    rng = np.random.default_rng(0)
    x, y, prior = rng.normal(size=(7, 200)) + 1, rng.normal(size=(4, 200)), rng.normal(size=(4, 7))
    fit = fit_affine(*map(torch.from_numpy, (x, y, prior)), 0.3)
    power = x.var(1).mean()
    rows = np.concatenate(
        [np.r_[x, np.ones((1, 200))].T / 200**0.5, np.c_[(0.3 * power) ** 0.5 * np.eye(7), np.zeros(7)]]
    )
    wanted = np.concatenate([y.T / 200**0.5, (0.3 * power) ** 0.5 * prior.T])
    solution = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    assert np.allclose(fit.weight, solution[:7].T) and np.allclose(fit.bias, solution[7])
    out = fit.weight.numpy() @ x
    assert np.allclose(fit.mean, out.mean(1)) and np.allclose(fit.variance, out.var(1))


def test_before_a_relu_negative_targets_cost_nothing_where_they_are_met():
    """Every step's error is at most the one before's, and the limit is another solver's optimum (scipy)."""
    rng = np.random.default_rng(1)
    x, prior = rng.normal(size=(5, 120)) + 0.5, rng.normal(size=(1, 5))
    y = np.abs(rng.normal(size=(1, 5))) @ x + rng.normal(size=(1, 120)) - 2
    strength = 0.1 * x.var(1).mean()

    def error(weight_and_bias):
        weight, bias = weight_and_bias[:5], weight_and_bias[5]
        given = weight @ x + bias
        missed = np.where(y[0] > 0, given - y[0], np.maximum(given, 0))
        return np.mean(missed**2) + strength * np.sum((weight - prior[0]) ** 2)

    errors = []
    for steps in (0, 1, 2, 4, 500):
        fit = fit_affine(*map(torch.from_numpy, (x, y, prior)), 0.1, relu_steps=steps)
        errors.append(error(np.append(fit.weight, fit.bias)))
    assert all(a >= b for a, b in itertools.pairwise(errors)) and errors[2] < 0.9 * errors[0]
    assert errors[-1] == pytest.approx(minimize(error, np.zeros(6), tol=1e-12).fun, rel=1e-5)


def test_more_channels_never_fit_worse():
    rng = np.random.default_rng(0)
    x, y = (torch.from_numpy(rng.normal(size=(n, 300))) for n in (12, 3))
    errors = []
    for n in range(1, 13):
        fit = fit_affine(x[:n], y, torch.zeros(3, n).double(), 0.0)
        errors.append(float((fit.weight @ x[:n] + fit.bias[:, None] - y).square().sum()))
    assert all(a >= b for a, b in itertools.pairwise(errors)) and errors[0] > errors[-1]


def test_a_child_in_training_puts_out_what_it_does_in_evaluation(parent):
    """Norms know the statistics of the images, so training goes on from what was fitted."""
    images = pictures()
    transplants = Transplants(parent, images, FitSettings(body=48, positions=1 << 20))
    child = transplants.extract(PLUS.uniform(0.5))
    with torch.no_grad():
        wanted, result = child(images), copy.deepcopy(child).train()(images)
    assert torch.corrcoef(torch.stack([wanted.flatten(), result.flatten()]))[0, 1] > 0.99


def test_children_are_the_same_each_time_and_after_pickling(parent, transplants):
    arch = PLUS.sample(np.random.default_rng(5))
    first = transplants.extract(arch)
    for again in (
        transplants,
        pickle.loads(pickle.dumps(transplants)),
        Transplants(parent, pictures(), FitSettings(body=32, positions=2048)),
    ):
        assert largest_difference(again.extract(arch), first) == 0


def test_children_do_not_depend_on_those_fitted_before(parent):
    """Neighbours, of which many begin alike, in one order with all beginnings kept, in another with few, with none."""
    rng = np.random.default_rng(7)
    archs = [PLUS.sample(rng) for _ in range(2)]
    for arch in archs[:]:
        code = PLUS.encode(arch)
        for gene in (len(code) // 2, len(code) - 1):
            changed = code.copy()
            changed[gene] = (changed[gene] + 1) % PLUS.choices[gene]
            archs.append(PLUS.decode(changed))
    none, all_kept, few = (
        Transplants(parent, pictures(64), FitSettings(body=32, positions=2048), memory=memory)
        for memory in (0, 1 << 28, 1 << 22)
    )
    alone = [none.extract(arch) for arch in archs]
    for source, order in ((all_kept, range(len(archs))), (few, reversed(range(len(archs)))), (all_kept, (3, 0, 0))):
        for k in order:
            assert largest_difference(source.extract(archs[k]), alone[k], archs[k].resolution) == 0
            assert source.beginnings.bytes <= source.beginnings.memory
    assert none.beginnings.bytes == 0 < few.beginnings.bytes < all_kept.beginnings.bytes


@torch.no_grad()
def test_a_beginning_that_memory_cannot_hold_leaves_the_others():
    unit, kept = nn.Sequential(nn.Linear(1, 1)), Beginnings[str](memory=10)
    kept.keep(unit, ("0",), ("a",), "a", 6)
    kept.keep(unit, ("0",), ("b",), "b", 11)
    assert kept.restore(unit, [("0",)], ("a",)) == ("a", 1) and kept.restore(unit, [("0",)], ("b",)) == (None, 0)
    for _ in range(3):  # what follows it can never be restored: it takes no room
        kept.keep(unit, ("0",), ("b", "c"), "c", 5)
    assert kept.bytes == 6 and kept.restore(unit, [("0",)], ("a",)) == ("a", 1)


def test_channels_come_in_the_order_in_which_they_serve_their_readers():
    """Against a regression for every candidate; one varies little and is read strongly, another is a sum of others."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((400, 6)) * (1, 1, 1, 1e-3, 2, 1)
    values[:, 5] = values[:, 0] + values[:, 1]
    values -= values.mean(0)
    readers = rng.standard_normal((4, 6)) * (1, 1, 1, 5e3, 1, 1)
    read, order = values @ readers.T, []
    for _ in range(5):
        left = {}
        for i in set(range(6)) - set(order):
            x = values[:, [*order, i]]
            left[i] = np.square(read - x @ np.linalg.lstsq(x, read, rcond=None)[0]).sum()
        order.append(min(left, key=left.__getitem__))
    assert order[0] == 3
    assert choose_columns(values.T @ values / 400, readers)[:5].tolist() == order


def test_a_child_keeps_its_weights_to_itself(parent, transplants):
    arch = PLUS.uniform(0.5)
    first, wanted = transplants.extract(arch), transplants.extract(arch)
    with torch.no_grad():
        for tensor in first.parameters():
            tensor.zero_()
    assert largest_difference(transplants.extract(arch), wanted) == 0


def test_what_cannot_be_is_refused_in_one_line(parent, transplants):
    with pytest.raises(ArchError, match="stages or strides"):
        transplants.extract(replace(parent.arch, stem_stride=2))
    with pytest.raises(ArchError, match="stages or strides"):
        transplants.extract(replace(parent.arch, stages=parent.arch.stages[:2]))
    with pytest.raises(ArchError, match=r"`images` must be \[N, 1, H, W\]"):
        Transplants(parent, torch.zeros(4, 3, 16, 16))
    with pytest.raises(ArchError, match="`head_chs` must be the parent's, 128, but got 12"):
        transplants.extract(replace(parent.arch, head_chs=12))


def test_a_stage_that_ends_before_the_parents_changes_its_channels_is_refused():
    first, one = (Block(mid_chs=8, out_chs=8),), Block(mid_chs=16, out_chs=12, stride=2)
    twelve, sixteen = (Block(mid_chs=24, out_chs=n) for n in (12, 16))
    arch = Arch(stages=(first, (one, twelve, sixteen, sixteen)), stem_stride=1, tail_chs=24, head_chs=16, resolution=16)
    both = Transplants(trained(arch), pictures(), FitSettings(body=32, positions=2048))
    for refused in ((one,), (replace(one, out_chs=16),), (replace(one, out_chs=8),), (one, sixteen)):
        with pytest.raises(ArchError, match=r"ends a stage with blocks\.1\.\d, which changes the channels, where"):
            both.extract(replace(arch, stages=(first, refused)))
    for taken in ((one, twelve), (one, twelve, sixteen), (replace(one, out_chs=16), sixteen)):
        child = both.extract(replace(arch, stages=(first, taken)))
        assert all(tensor.isfinite().all() for tensor in child.state_dict().values())


def test_parents_and_images_that_no_fit_can_give_back_are_refused(parent):
    first, second, *rest = parent.arch.stages
    strided = replace(parent.arch, stages=(first, (*second, replace(second[-1], stride=2)), *rest))
    with pytest.raises(ArchError, match=f"strides in first blocks of stages alone, but {strided.id} has others"):
        Transplants(trained(strided), pictures())
    with pytest.raises(ArchError, match=r"float32 or float64, but \w+ is torch.bfloat16"):
        Transplants(copy.deepcopy(parent).bfloat16(), pictures())
    for value in (torch.nan, -torch.inf):
        images = pictures()
        images[3, 0, 5, 5] = value
        with pytest.raises(ArchError, match="`images` must be finite"):
            Transplants(parent, images)


def test_both_kinds_of_supernet_give_weights_by_one_interface(transplants):
    sources: list[WeightSource] = [transplants, Supernet(PLUS.bounds, 10, 1)]
    for source in sources:
        assert source.extract(PLUS.smallest).num_classes == source.num_classes == 10
