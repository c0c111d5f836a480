"""Recalibrated norms have the statistics of all images together, whatever batches they come in."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from ghostnet import GhostNet
from search.data.datasets import load_data
from search.data.splits import Split
from search.recipes.schema import Training
from search.training.evaluate import accuracy, estimate_norms, recalibrate
from search.training.metadata import space_for

SPACE = space_for("digits", 10, 1)


@pytest.fixture(scope="module")
def data():
    return load_data("digits", 16)


@pytest.mark.parametrize("sizes", [(64,), (60, 4), (63, 1), (21, 22, 21), (1, 2, 61)])
def test_norms_are_estimated_over_all_images_whatever_the_batches(sizes):
    """Against PyTorch's own statistics of one batch that holds all; the images drift, so that batches differ."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 3, 6, 6, generator=generator) * torch.linspace(0.5, 3, 64)[:, None, None, None]
    images += torch.linspace(-5, 5, 64)[:, None, None, None]
    nets = [nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Dropout(0.5)) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    whole, net = nets
    whole[1].momentum = 1.0
    whole(images)
    net[1].running_mean.fill_(float("nan"))  # what was there before leaves no trace
    estimate_norms(net.eval(), images.split(sizes))
    torch.testing.assert_close(net[1].running_mean, whole[1].running_mean)
    torch.testing.assert_close(net[1].running_var, whole[1].running_var)
    assert net[1].momentum == 0.1 and not any(module.training for module in net.modules())


def test_a_failure_leaves_the_network_as_it_was_set():
    net = nn.Sequential(nn.BatchNorm2d(3))
    with pytest.raises(RuntimeError):
        estimate_norms(net, [torch.zeros(2, 5, 4, 4)])
    assert net.training and net[0].momentum == 0.1 and not net[0]._forward_hooks


class Picky(nn.Module):
    """Fails in its second batch; its norm is frozen while the rest trains."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.head, self.batches = nn.BatchNorm2d(1), nn.LazyLinear(10), 0
        self.norm.eval()

    def forward(self, x):
        self.batches += 1
        if self.batches > 1:
            raise RuntimeError("enough")
        return self.head(self.norm(x).flatten(1))


def test_a_frozen_norm_stays_frozen_when_the_norms_are_estimated():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2).eval())
    estimate_norms(net, [torch.randn(4, 1, 5, 5)])
    assert net.training and net[0].training and not net[1].training


def test_an_evaluation_leaves_every_module_in_its_mode_also_where_it_fails(data):
    net = Picky()
    with torch.no_grad():
        net(data.train.images[:2].float())
    net.batches = -1000
    accuracy(net, data, data.search)
    assert net.training and net.head.training and not net.norm.training
    net.batches = 0
    twice = replace(data, search=Split(data.train.images[:600], data.train.labels[:600]))
    with pytest.raises(RuntimeError, match="enough"):
        accuracy(net, twice, twice.search)
    assert net.training and net.head.training and not net.norm.training


def test_one_image_more_hardly_moves_any_norm(data):
    """251 images are two batches of like size, not 250 and one that counts as much."""
    stats = {}
    for count in (250, 251):
        some = replace(data, calibration=Split(data.train.images[:count], data.train.labels[:count]))
        net = GhostNet(SPACE.uniform(0.5), 10, 1, generator=torch.Generator().manual_seed(0))
        estimate_norms(net, (images for images, _ in some.batches(some.calibration)))
        stats[count] = [(m.running_mean, m.running_var) for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for (mean, variance), (more_mean, more_variance) in zip(stats[250], stats[251], strict=True):
        assert ((more_mean - mean).abs() < 0.02 * variance.sqrt()).all()
        assert ((more_variance / variance).log().abs() < 0.05).all()


@pytest.mark.parametrize("count", [1, 8, 9, 11, 16, 251])
def test_batches_are_as_equal_as_can_be_and_lose_nothing(count, data):
    some = Split(data.train.images[:count], data.train.labels[:count])
    images, labels = zip(*data.batches(some, 8), strict=True)
    sizes = [len(batch) for batch in labels]
    assert max(sizes) <= 8 and max(sizes) - min(sizes) <= 1
    assert torch.equal(torch.cat(labels), some.labels)
    torch.testing.assert_close(torch.cat(images), data.normalise(some.images))


@pytest.mark.parametrize("change", [{}, {"crop": "resized", "crop_scale": 0.5}, {"crop": "none", "erasing": 0.99}])
def test_recalibration_shows_what_training_shows_the_same_each_time(change, data):
    """By a seed of its own: no global generator has a say."""
    config = Training(epochs=1, **change)
    net = nn.Sequential(nn.BatchNorm2d(1))
    shown = []
    net.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0].clone()))
    for seed in (1, 2):
        torch.manual_seed(seed)
        recalibrate(net, data, config)
    first, again = torch.cat(shown).split(len(data.calibration))
    assert torch.equal(first, again)
    clean = data.normalise(data.calibration.images)
    assert (first != clean).flatten(1).any(1).float().mean() > 0.9  # one shift in 25 is none
    if change:
        return
    empty = data.normalise(torch.zeros(1, 1, 16, 16, dtype=torch.uint8))[0, 0, 0, 0]
    ink = [(images - empty).flatten(1).sum(1) for images in (first, clean)]
    assert (ink[0] / ink[1]).median() > 0.9  # an image is moved, hardly cut
    shown.clear()
    recalibrate(net, data, Training(epochs=1, crop="none"))
    torch.testing.assert_close(torch.cat(shown), clean)
