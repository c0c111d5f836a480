"""Ghost modules for any network: what is replaced, what is kept, and how close trained weights come."""

import copy
import itertools

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from ghostnet import ArchError, ghostify
from ghostnet.approximate import solve, white_moments
from ghostnet.classic import resnet, vgg16
from ghostnet.conversion import GhostConv2d
from ghostnet.count import count
from ghostnet.least_squares import choose_primaries, seen_moments

NETWORKS = {
    "torchvision resnet18": lambda: torchvision.models.resnet18(num_classes=5),
    "torchvision mobilenet_v3": lambda: torchvision.models.mobilenet_v3_small(num_classes=5),
    "torchvision fcn": lambda: torchvision.models.segmentation.fcn_resnet50(weights_backbone=None, num_classes=5),
    "timm resnetv2 with standardised weights": lambda: timm.create_model("resnetv2_50x1_bit", num_classes=5),
    "timm convolutions padded by size": lambda: timm.create_model("tf_efficientnet_lite0", num_classes=5),
    "timm regnet, grouped": lambda: timm.create_model("regnety_002", num_classes=5),
    "vgg16": lambda: vgg16(5),
    "resnet20": lambda: resnet(20, 5),
}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_ordinary_convolutions_of_real_networks_are_replaced_and_nothing_else(name):
    torch.manual_seed(0)
    model = NETWORKS[name]().eval()
    x = torch.randn(1, 3, 32, 32)
    before = model(x)
    convs = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    others = [n for n, conv in convs.items() if conv.groups > 1]
    swapped = ghostify(model, ratio=2, cheap_kernel=3)
    assert [r.name for r in swapped] == [n for n, conv in convs.items() if conv.groups == 1]
    for r in swapped:
        assert r.conv is convs[r.name] and model.get_submodule(r.name) is r.ghost
    assert all(model.get_submodule(n) is convs[n] for n in others)
    after = model(x)
    shapes = lambda y: {k: v.shape for k, v in y.items()} if isinstance(y, dict) else y.shape  # noqa: E731
    assert shapes(after) == shapes(before)
    (after["out"] if isinstance(after, dict) else after).sum().backward()
    run = used(model, x)
    assert run and all(p.grad is not None for r in swapped if r.name in run for p in r.ghost.parameters())


def used(model: nn.Module, x: torch.Tensor) -> set[str]:
    """Names of the Ghost convolutions that an evaluation runs."""
    seen: set[str] = set()
    hooks = [
        m.register_forward_hook(lambda *_, n=n: seen.add(n))
        for n, m in model.named_modules()
        if isinstance(m, GhostConv2d)
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return seen


CONVS = [
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": (5, 3), "padding": (2, 1), "stride": (1, 2), "bias": False},
    {"kernel_size": 3, "padding": 2, "dilation": 2},
    {"kernel_size": 3, "padding": "same", "padding_mode": "reflect"},
    {"kernel_size": 3, "padding": "valid"},
    {"kernel_size": 2, "stride": 2},
    {"kernel_size": 3, "padding": 1, "groups": 3},
]


@pytest.mark.parametrize("ratio", [2, 3, 4])
@pytest.mark.parametrize("options", CONVS, ids=str)
def test_a_module_is_the_convolution_followed_by_cheap_filters(options, ratio):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 12, **options).double()
    holder = nn.Sequential(conv)
    (swapped,) = ghostify(holder, ratio, 5, where=lambda *_: True)
    ghost, m = swapped.ghost, swapped.ghost.primary_conv.out_channels
    assert m == {2: 6, 3: 6 if conv.groups == 3 else 4, 4: 3}[ratio]
    x = torch.randn(2, 6, 9, 11, dtype=torch.float64)
    like = copy.deepcopy(conv)  # an oracle: the whole convolution with the primaries' filters first
    with torch.no_grad():
        if conv.groups == 1:
            like.weight[:m] = ghost.primary_conv.weight
            if conv.bias is not None:
                like.bias[:m] = ghost.primary_conv.bias
            primary = like(x)[:, :m]
        else:
            primary = ghost.primary_conv(x)
        result = holder(x)
    assert result.shape == conv(x).shape and result.dtype == torch.float64
    torch.testing.assert_close(result[:, :m], primary)
    weight, bias = ghost.cheap_operation.weight, ghost.cheap_operation.bias
    assert (bias is None) == (conv.bias is None)
    for k in range(12 - m):
        expected = F.conv2d(primary[:, k % m : k % m + 1], weight[k : k + 1], padding=2)
        if bias is not None:
            expected = expected + bias[k]
        torch.testing.assert_close(result[:, m + k : m + k + 1], expected)


def test_a_convolution_in_two_places_becomes_one_module_in_both():
    conv = nn.Conv2d(4, 4, 1)
    model = nn.ModuleDict({"a": nn.Sequential(conv), "b": conv})
    assert len(ghostify(model)) == 1
    assert model["a"][0] is model["b"] and isinstance(model["b"], GhostConv2d)


def test_a_convolution_that_stands_twice_in_one_parent_stays_shared():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    model = nn.Sequential(conv, nn.ReLU(), conv)
    (swapped,) = ghostify(model)
    assert model[0] is model[2] is swapped.ghost


def test_what_stands_between_and_what_is_kept():
    model = nn.Sequential(nn.Conv2d(3, 8, 3)).bfloat16().eval()
    model[0].weight.requires_grad_(False)
    (swapped,) = ghostify(model, between=lambda chs: nn.Sequential(nn.BatchNorm2d(chs), nn.ReLU()))
    assert isinstance(swapped.ghost.between[1], nn.ReLU) and not swapped.ghost.training
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not swapped.ghost.primary_conv.weight.requires_grad
    assert (model(torch.randn(1, 3, 8, 8).bfloat16())[:, :4] >= 0).all()


def test_same_generator_same_weights_and_ratio_one_replaces_nothing():
    nets = [vgg16() for _ in range(2)]
    for net in nets:
        ghostify(net, generator=torch.Generator().manual_seed(3))
    convs = [m for net in nets for m in net.modules() if isinstance(m, GhostConv2d)]
    pairs = zip(convs[:13], convs[13:], strict=True)
    assert all(torch.equal(a.primary_conv.weight, b.primary_conv.weight) for a, b in pairs)
    plain = vgg16()
    assert ghostify(plain, ratio=1) == [] and count(plain, (3, 32, 32)) == count(vgg16(), (3, 32, 32))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.Conv2d(3, 8, 3), {}, "put it into an nn.Sequential"),
        (nn.Sequential(nn.Conv2d(8, 8, 3, groups=8)), {"where": lambda *_: True}, "0: no ghosts at ratio 2 in 8"),
        (nn.Sequential(nn.Conv2d(3, 8, 3)), {"ratio": 0}, "`ratio` must be"),
        (nn.Sequential(nn.Conv2d(3, 8, 3)), {"cheap_kernel": 4}, "`cheap_kernel` must be odd"),
        (nn.Sequential(nn.Conv2d(3, 8, 3)), {"init": "warm"}, "`init` must be"),
        (nn.Sequential(nn.Conv2d(3, 8, 3)), {"images": torch.zeros(1, 3, 9, 9)}, "`images` are for"),
        (nn.Sequential(nn.Conv2d(3, 8, 3)), {"init": "trained", "between": nn.BatchNorm2d}, "`between` must be None"),
        (
            nn.Sequential(nn.Conv2d(3, 8, 3)),
            {"init": "trained", "images": torch.zeros(0, 3, 9, 9)},
            "one image or more",
        ),
        (
            nn.Sequential(nn.Conv2d(3, 8, 3)),
            {"init": "trained", "images": torch.full((2, 3, 9, 9), float("nan"))},
            "`images` must be finite",
        ),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3))), {}, "0: its weight is not a plain"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_replaced(model, options, message):
    with pytest.raises(ArchError, match=message):
        ghostify(model, **options)
    assert not any(isinstance(m, GhostConv2d) for m in model.modules())


def redundant(kernel: int, inner: int, d: int, shuffle: list[int], **options) -> nn.Conv2d:
    """A convolution of which half the filters are d x d combinations of the other half, in a shuffled order."""
    torch.manual_seed(1)
    n = len(shuffle)
    conv = nn.Conv2d(5, n, kernel, **options).double()
    primary = torch.zeros(n // 2, 5, kernel, kernel, dtype=torch.float64)
    edge = (kernel - inner) // 2
    primary[:, :, edge : edge + inner, edge : edge + inner] = torch.randn(n // 2, 5, inner, inner)
    cheap = torch.randn(n // 2, 1, d, d, dtype=torch.float64)
    ghosts = F.conv2d(primary.transpose(0, 1), cheap.flip(2, 3), padding=d // 2, groups=n // 2).transpose(0, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.cat([primary, ghosts])[shuffle])
    return conv


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("kernel", "inner", "d"), [(1, 1, 1), (3, 3, 1), (3, 1, 3), (5, 3, 3)])
def test_a_convolution_that_is_a_ghost_module_in_disguise_is_found_out(kernel, inner, d, bias, images):
    shuffle = np.random.default_rng(0).permutation(12).tolist()
    model = nn.Sequential(redundant(kernel, inner, d, shuffle, bias=bias))
    x = torch.randn(4, 5, 16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = model(x)
    ghostify(model, 2, d, init="trained", images=x if images else None)
    edge = d // 2  # the convolution sees past the border of its outputs, a cheap operation does not
    inside = (..., slice(edge, expected.shape[-2] - edge), slice(edge, expected.shape[-1] - edge))
    # With images, the border's error is part of what is fitted; exact only where there is none.
    tolerance = 0.5 if images and d > 1 else 1e-4
    error = (model(x) - expected)[inside].norm() / expected[inside].norm()
    assert error < tolerance


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2}, {"dilation": 2}, {"stride": (2, 1), "kernel_size": (3, 5)}, {"groups": 2}], ids=str
)
def test_moments_of_white_inputs_are_what_white_inputs_give(options):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, **({"kernel_size": 3, "bias": False} | options)).double()
    x = torch.randn(16, 4, 200, 200, dtype=torch.float64)
    with torch.no_grad():
        expected, result = seen_moments(conv(x), 3, centred=False), white_moments(conv, 3)
    tolerance = 0.05 * float(conv.weight[0].detach().norm() ** 2)
    for name in ("auto", "cross", "power"):
        # Some 160,000 samples: a moment strays by about 1 / 400 of the power; borders cost up to 1 / 50.
        torch.testing.assert_close(getattr(result, name), getattr(expected, name), rtol=0, atol=tolerance)


@pytest.mark.parametrize("side", [1, 3, 17])  # many images summed at once, some, and one
def test_moments_are_means_over_images_and_positions(side):
    generator = torch.Generator().manual_seed(side)
    x, y = (torch.randn(300, 2, side, side, generator=generator, dtype=torch.float64) for _ in range(2))
    result = seen_moments(y, 3, False, x)
    padded = F.pad(x, (1, 1, 1, 1))
    read = [padded[:, :, v : v + side, u : u + side] for v in range(3) for u in range(3)]
    for (a, first), (b, second) in itertools.product(enumerate(read), repeat=2):
        torch.testing.assert_close(result.auto[:, a, b], (first * second).mean((0, 2, 3)))
    for tap, shifted in enumerate(read):
        for j, i in itertools.product(range(2), repeat=2):
            torch.testing.assert_close(result.cross[j, i, tap], (shifted[:, i] * y[:, j]).mean())
    torch.testing.assert_close(result.power, y.square().mean((0, 2, 3)))


def test_ghosts_are_the_least_squares_solution():
    y = torch.randn(3, 4, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y[:, 2:] += 0.7 * y[:, :2].roll(1, -1)
    result = solve(seen_moments(y, 3, centred=False), 2)
    for k, (ghost, primary) in enumerate(zip(result.ghosts, result.primaries, strict=True)):
        patches = F.unfold(y[:, primary][:, None], 3, padding=1).transpose(1, 2).reshape(-1, 9)
        best = torch.linalg.lstsq(patches, y[:, ghost].reshape(-1, 1)).solution
        torch.testing.assert_close(result.filters[k].reshape(-1, 1), best, rtol=1e-4, atol=1e-5)


def test_greedy_primaries_are_within_the_bound_of_the_best_ones():
    rng = np.random.default_rng(0)
    for _ in range(20):
        gain = rng.random((8, 8)) ** 3
        value = lambda chosen, gain=gain: gain[:, list(chosen)].max(1).sum()  # noqa: E731
        best = max(value(chosen) for chosen in itertools.combinations(range(8), 4))
        assert best >= value(choose_primaries(gain, 4)) >= (1 - np.exp(-1)) * best
        grouped = choose_primaries(gain, 4, 2)
        assert (grouped < 4).sum() == 2


def test_trained_weights_come_closer_than_fresh_ones_on_a_trained_network():
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(images.reshape(-1, 1, 8, 8)).float() / 8 - 1
    y = torch.from_numpy(labels)
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise((1, 32, 32, 32)):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(120):
        batch = torch.arange(64 * step, 64 * (step + 1)) % 1200
        F.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    errors = {}
    ways: dict[str, dict] = {"fresh": {}, "filters": {"init": "trained"}}
    ways["outputs"] = {"init": "trained", "images": x[:64]}
    with torch.no_grad():
        expected = model(x[1200:])
        for how, options in ways.items():
            net = copy.deepcopy(model)
            ghostify(net, 2, 3, generator=torch.Generator().manual_seed(0), **options)
            errors[how] = float((net(x[1200:]) - expected).norm() / expected.norm())
    assert errors["outputs"] < errors["filters"] < errors["fresh"]
    assert errors["outputs"] < 0.8 * min(1.0, errors["fresh"])  # 1: as far as zero is


def test_counting_and_fitting_leave_every_module_in_its_own_mode():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3)).train()
    model[1].eval()  # frozen
    modes = [True, True, False, True]
    count(model, (3, 16, 16))
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(RuntimeError):
        count(model, (5, 16, 16))
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(ArchError, match="must bring a convolution 3 channels, but got 5"):
        ghostify(model, init="trained", images=torch.randn(4, 5, 16, 16))
    ghostify(model, init="trained", images=torch.randn(4, 3, 16, 16))
    assert (model.training, model[1].training) == (True, False)
