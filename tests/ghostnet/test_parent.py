"""Parents come in from every kind of checkpoint, and are then the network that was trained."""

import argparse
import functools
import json
import subprocess
import sys
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.utils import CheckpointSaver
from torch import nn

from ghostnet import Arch, ArchError, Block, GhostNet, load_parent, published, weights
from ghostnet.parent import infer_arch
from ghostnet.weights import WeightsError, load_network, save_weights
from search.export.timm_config import timm_config
from tests.helpers import randomise, small_arch

WIDTHS = {"ghostnet_050": "ghostnet-0.5", "ghostnet_100": "ghostnet-1.0", "ghostnet_130": "ghostnet-1.3"}


@functools.cache
def theirs(name: str = "ghostnet_050", classes: int = 7) -> nn.Module:
    torch.manual_seed(0)
    return randomise(timm.create_model(name, num_classes=classes)).eval()


def pictures(chs: int = 3) -> torch.Tensor:
    return torch.randn(2, chs, 64, 64, generator=torch.Generator().manual_seed(0)).double()


@torch.no_grad()
def difference(net: nn.Module, other: nn.Module, chs: int = 3) -> float:
    x = pictures(chs)
    return float((net.double()(x) - other.double()(x)).abs().max() / other(x).abs().max())


@pytest.mark.parametrize("name", WIDTHS)
def test_shapes_tell_the_published_architecture(name):
    with torch.device("meta"):
        assert infer_arch(timm.create_model(name).state_dict()) == published(WIDTHS[name])


@pytest.mark.parametrize("kind", ["safetensors", "state dict", "saver", "compiled", "parallel"])
def test_the_network_equals_the_checkpoint(kind, tmp_path):
    model, path = theirs(), tmp_path / "net.pth"
    state = model.state_dict()
    match kind:
        case "safetensors":
            path = tmp_path / "net.safetensors"
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
        case "saver":
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            args = argparse.Namespace(model="ghostnet_050", lr=0.1)
            CheckpointSaver(model, optimizer, args, checkpoint_dir=str(tmp_path)).save_checkpoint(3, 0.5)
            path = tmp_path / "last.pth.tar"
        case "state dict":
            torch.save(state, path)
        case "compiled":
            torch.save({"state_dict": torch.compile(model).state_dict()}, path)
        case "parallel":
            torch.save({f"module._orig_mod.{name}": tensor for name, tensor in state.items()}, path)
    net = load_parent(path)
    assert (net.num_classes, net.in_chs, net.training) == (7, 3, False)
    assert difference(net, model) < 1e-10


def test_a_networks_folder(tmp_path):
    net = randomise(GhostNet(small_arch(), 5, 1)).eval()
    weights.save_weights(net, tmp_path / "weights.safetensors")
    (tmp_path / "arch.json").write_text(net.arch.to_json())
    again = load_parent(tmp_path)
    assert again.arch == net.arch and difference(again, net, 1) < 1e-10
    (tmp_path / "supernet").mkdir()
    (tmp_path / "supernet/parent").symlink_to(tmp_path)
    assert difference(load_parent(tmp_path / "supernet"), net, 1) < 1e-10
    (tmp_path / "arch.json").unlink()
    with pytest.raises(ArchError, match=r"arch\.json: No such file"):
        load_parent(tmp_path)


@pytest.mark.parametrize("order", ["nonsense", "grouped", 3, None])
def test_a_file_that_says_another_order_of_ghosts_is_refused(order, tmp_path):
    net, path = GhostNet(small_arch(), 5), tmp_path / "net.safetensors"
    save_file(net.state_dict(), path, {"ghostnas": json.dumps({"ghost_order": order})})
    for load in (lambda: load_parent(path, arch=small_arch()), lambda: weights.load_network(small_arch(), path)):
        with pytest.raises(weights.WeightsError, match=r"net\.safetensors: its ghost order is .*, not 'replica-major'"):
            load()


def test_a_timm_model_by_name(monkeypatch):
    def create_model(name, pretrained):
        if not (pretrained and name == "a"):
            raise RuntimeError(f"Unknown model ({name})")
        return theirs()

    monkeypatch.setattr(timm, "create_model", create_model)
    assert difference(load_parent("timm:a"), theirs()) < 1e-10
    with pytest.raises(WeightsError, match="timm has no trained 'b'"):
        load_parent("timm:b")


@pytest.fixture
def fine():
    """A network with what shapes don't tell: a stem of stride 1, another resolution."""
    return randomise(GhostNet(replace(small_arch(), stem_stride=1, resolution=20), 5)).eval()


@pytest.fixture
def hub(fine, tmp_path):
    """Its folder for the Hugging Face Hub."""
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(weights.to_bytes(fine))
    (folder / "config.json").write_text(json.dumps(timm_config(fine)))
    (folder / "arch.json").write_text(fine.arch.to_json())
    return folder


@pytest.mark.parametrize("place", ["timm:local-dir:{}", "{}", "{}/model.safetensors"])
def test_a_folder_for_the_hub_is_the_network_that_was_exported(place, fine, hub):
    again = load_parent(place.format(hub))
    assert again.arch == fine.arch and difference(again, fine) < 1e-10


def test_timm_reads_a_folder_for_the_hub_whatever_was_imported_before(hub):
    code = f"from ghostnet import load_parent; print(load_parent('timm:local-dir:{hub}').arch.id)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == Arch.load(hub / "arch.json").id, done.stderr


@pytest.mark.parametrize("name", ["weights.safetensors", "last.pth"])
def test_a_file_beside_an_arch_json_is_of_that_architecture(name, fine, tmp_path):
    weights.save_weights(fine, tmp_path / name)
    (tmp_path / "arch.json").write_text(fine.arch.to_json())
    again = load_parent(tmp_path / name)
    assert again.arch == fine.arch and difference(again, fine) < 1e-10


def test_a_file_whose_architecture_shapes_dont_tell_is_refused(fine, tmp_path):
    path = tmp_path / "net.safetensors"
    weights.save_weights(fine, path)
    refused = rf"net\.safetensors: it is of architecture '{fine.arch.id}', which its shapes alone don't tell"
    for beside in (None, replace(fine.arch, resolution=24)):
        if beside:
            (tmp_path / "arch.json").write_text(beside.to_json())
        with pytest.raises(WeightsError, match=refused):
            load_parent(path)
    assert load_parent(path, arch=fine.arch).arch == fine.arch
    told = replace(fine.arch, stem_stride=2, resolution=224)
    weights.save_weights(GhostNet(told, 5), path)
    assert load_parent(path).arch == told


def test_another_head_is_fresh_and_the_rest_is_as_it_was(tmp_path):
    torch.save(theirs().state_dict(), tmp_path / "net.pth")
    nets = [
        load_parent(tmp_path / "net.pth", num_classes=n, generator=torch.Generator().manual_seed(1)) for n in (3, 0)
    ]
    x = pictures()
    with torch.no_grad():
        features = theirs().double().forward_head(theirs().double().forward_features(x), pre_logits=True)
        torch.testing.assert_close(nets[1].double()(x), features, rtol=1e-10, atol=1e-10)
        wanted = nn.functional.linear(features, nets[0].double().classifier.weight, nets[0].classifier.bias)
        torch.testing.assert_close(nets[0](x), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("chs", [1, 4])
def test_channels_are_adapted_as_timm_does_it(chs, tmp_path):
    model = theirs()
    torch.save(model.float().state_dict(), tmp_path / "net.pth")
    other = timm.create_model("ghostnet_050", num_classes=7, in_chans=chs, checkpoint_path="").eval()
    other.load_state_dict(model.state_dict() | {"conv_stem.weight": other.conv_stem.weight})
    with torch.no_grad():
        other.conv_stem.weight.copy_(timm.models.adapt_input_conv(chs, model.conv_stem.weight.detach().clone()))
    assert difference(load_parent(tmp_path / "net.pth", in_chs=chs), other, chs) < 1e-10


@pytest.mark.parametrize("ratio", [1, 2, 3, 4])
def test_shapes_tell_any_architecture(ratio):
    stages = ((Block(mid_chs=24, out_chs=12, stride=2, dw_kernel=5, se_ratio=0.25, ratio=ratio, cheap_kernel=5),),)
    arch = Arch(stages=stages, stem_chs=8, tail_chs=20, head_chs=30)
    assert infer_arch(GhostNet(arch).state_dict()) == arch


class Evil:
    """What a pickle runs on loading."""

    def __reduce__(self):
        return print, ("unpickled",)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_weights_that_are_not_finite_are_no_parents(value, tmp_path):
    state = {name: tensor.double() for name, tensor in randomise(GhostNet(small_arch(), 5)).state_dict().items()}
    state = {name: tensor for name, tensor in state.items() if "num_batches" not in name}
    state["blocks.0.0.ghost1.primary_conv.1.running_var"][0] = value
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"net.pth: its blocks\.0\.0\.ghost1\.\S+_var is not finite"):
        load_parent(tmp_path / "net.pth", arch=small_arch())


@pytest.mark.parametrize(
    ("name", "factor", "message"),
    [
        ("blocks.0.0.ghost1.primary_conv.1.running_var", -1.0, r"_var must be variances, but one is -"),
        ("classifier.weight", 3e38, "its outputs are not finite"),
    ],
)
def test_a_network_whose_outputs_are_no_numbers_is_no_parent(name, factor, message, tmp_path):
    net = randomise(GhostNet(small_arch(), 5))
    net.state_dict()[name].abs_().clamp_(0.1, 1).mul_(factor)
    save_weights(net, tmp_path / "net.safetensors")
    with pytest.raises(WeightsError, match=message):
        load_parent(tmp_path / "net.safetensors", arch=small_arch())
    if "running_var" in name:
        with pytest.raises(WeightsError, match=message):
            load_network(small_arch(), tmp_path / "net.safetensors")


def test_nothing_is_unpickled_and_what_is_no_ghostnet_is_refused(tmp_path, capsys):
    for content in (argparse.Namespace(a=Evil()), {"state_dict": {}, "args": Evil()}):
        torch.save(content, tmp_path / "evil.pth")
        with pytest.raises(WeightsError, match="nothing else is loaded"):
            load_parent(tmp_path / "evil.pth")
    assert "unpickled" not in capsys.readouterr().out
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "linear.pth")
    with pytest.raises(WeightsError, match=r"linear\.pth: it has no GhostNet's weights: blocks"):
        load_parent(tmp_path / "linear.pth")
    state = theirs().state_dict()
    torch.save({name: t for name, t in state.items() if "conv_head" not in name}, tmp_path / "part.pth")
    with pytest.raises(WeightsError, match=r"conv_head\.weight is not there"):
        load_parent(tmp_path / "part.pth")
    torch.save(state | {"blocks.0.0.short_conv.0.weight": torch.zeros(1)}, tmp_path / "v2.pth")
    with pytest.raises(WeightsError, match="short_conv"):
        load_parent(tmp_path / "v2.pth")
