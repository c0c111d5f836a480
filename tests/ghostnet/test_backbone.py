"""The trunk as detectors use it: strides, channels, sizes, and the network's own values."""

import pytest
import timm
import torch

from ghostnet import ArchError, Backbone, GhostNet, published, weights
from ghostnet.units import feature_maps
from tests.helpers import randomise, small_arch


@pytest.mark.parametrize("size", [(224, 224), (97, 161)])
def test_maps_at_four_strides_with_their_channels(size):
    backbone = Backbone(GhostNet(published("ghostnet-1.0"))).eval()
    assert backbone.chs == [24, 40, 112, 160]
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, *size))
    for result, chs, stride in zip(maps, backbone.chs, (4, 8, 16, 32), strict=True):
        assert result.shape == (1, chs, -(-size[0] // stride), -(-size[1] // stride))


def test_maps_are_the_values_inside_timms_network():
    other = randomise(timm.create_model("ghostnet_100")).eval()
    net = GhostNet(published("ghostnet-1.0")).eval()
    net.load_state_dict(weights.fit_state(net, other.state_dict()))
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    inside = {}
    for stage in (2, 4, 6, 8):  # the last stage at each stride, table 1
        other.blocks[stage].register_forward_hook(lambda *args, stage=stage: inside.update({stage: args[2]}))
    with torch.no_grad():
        other(x)
        maps = Backbone(net)(x)
    for result, expected in zip(maps, inside.values(), strict=True):
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


def test_a_backbone_has_no_parameter_that_its_maps_do_not_use():
    net = GhostNet(small_arch(), 0)
    for strides in ((1,), (2,), (1, 2), (2, 1)):
        backbone = Backbone(net, strides)
        maps = backbone(torch.randn(2, 3, 15, 15))
        assert [result.shape[1] for result in maps] == backbone.chs
        backbone.zero_grad()
        sum(result.sum() for result in maps).backward()
        assert all(parameter.grad is not None for parameter in backbone.parameters())
        assert backbone.state_dict().keys() <= net.state_dict().keys()


def test_a_stride_that_is_not_there_is_refused():
    assert [result.stride for result in feature_maps(small_arch())] == [1, 2]
    with pytest.raises(ArchError, match=r"one of \[1, 2\], but got 8"):
        Backbone(GhostNet(small_arch()), (2, 8))


def test_no_classes_gives_pooled_features_at_any_size_and_depth():
    net = GhostNet(small_arch(), 0, in_chs=6).eval()
    for size in (1, 7, 40):
        assert net(torch.zeros(2, 6, size, size + 3)).shape == (2, small_arch().head_chs)
