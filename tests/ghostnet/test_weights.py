"""Checkpoints: the authors' names and ghost order in, refusals by name, nothing unpickled."""

import argparse
import pickle
import random
import signal
import time
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from timm.models.ghostnet import GhostModule as TheirModule
from torch import nn

from ghostnet import Arch, Block, GhostNet, load_parent, published, weights
from ghostnet.weights import WeightsError
from tests.helpers import randomise, small_arch


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_there_and_back(suffix, tmp_path):
    net = randomise(GhostNet(small_arch(), 5)).eval()
    weights.save_weights(net, tmp_path / f"net{suffix}")
    again = weights.load_network(small_arch(), tmp_path / f"net{suffix}")
    assert all(torch.equal(a, again.state_dict()[name]) for name, a in net.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == [f"net{suffix}"]


def test_timm_reads_what_we_write(tmp_path):
    net = randomise(GhostNet(published("ghostnet-1.0"))).eval()
    weights.save_weights(net, tmp_path / "net.safetensors")
    other = timm.create_model("ghostnet_100", checkpoint_path=str(tmp_path / "net.safetensors")).eval()
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(x), other(x))


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "state_dict_ema"])
def test_training_scripts_wrappers_are_unwrapped(wrapper, tmp_path):
    net = randomise(GhostNet(small_arch(), 5))
    tensors = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"epoch": 3, wrapper: tensors}, tmp_path / "net.pth")
    assert torch.equal(weights.load_network(small_arch(), tmp_path / "net.pth").bn1.bias, net.bn1.bias)


def test_what_does_not_fit_is_told_by_name(tmp_path):
    net = GhostNet(published("ghostnet-0.5"), 10)
    state = net.state_dict()
    del state["conv_stem.weight"]
    state["extra.weight"] = torch.zeros(3)
    state["classifier.weight"] = torch.zeros(7, 1280)
    save_file(state, tmp_path / "net.safetensors")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(WeightsError) as error:
        weights.load_weights(net, tmp_path / "net.safetensors")
    message = str(error.value)
    for part in ("lacks conv_stem.weight", "extra.weight", "classifier.weight is [7, 1280]", "[10, 1280]"):
        assert part in message
    assert "\n" not in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    with pytest.raises(WeightsError, match=r"and [0-9]+ more"):
        weights.save_weights(net, tmp_path / "half.safetensors")
        weights.load_weights(GhostNet(published("ghostnet-1.0"), 10), tmp_path / "half.safetensors")


def test_a_classifier_is_left_where_it_is_not_wanted(tmp_path):
    net = randomise(GhostNet(small_arch(), 5))
    weights.save_weights(net, tmp_path / "net.safetensors")
    features = weights.load_weights(GhostNet(small_arch(), 0), tmp_path / "net.safetensors")
    assert torch.equal(features.conv_head.weight, net.conv_head.weight)
    finer = GhostNet(small_arch(), 7)
    kept = finer.classifier.weight.clone()
    weights.load_weights(finer, tmp_path / "net.safetensors", ignore=["classifier."])
    assert torch.equal(finer.classifier.weight, kept) and torch.equal(finer.conv_head.weight, net.conv_head.weight)


class Trap:
    """Unpickled, it would leave a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_nothing_is_unpickled(tmp_path):
    torch.save({"conv_stem.weight": Trap(tmp_path / "sprung")}, tmp_path / "net.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    for name in ("net.pth", "plain.pth"):
        with pytest.raises(WeightsError, match="not a file of tensors alone"):
            weights.read_weights(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_an_archive_that_unpacks_to_more_than_it_has_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    net = GhostNet(small_arch(), 5)
    weights.save_weights(net, tmp_path / "net.pth")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    with zipfile.ZipFile(tmp_path / "net.pth") as whole, zipfile.ZipFile(tmp_path / "packed.pth", "w") as packed:
        for entry in whole.infolist():
            packed.writestr(entry.filename, whole.read(entry), zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match=r"packed\.pth has entries that are compressed"):
        weights.load_network(small_arch(), tmp_path / "packed.pth")
    content = bytearray((tmp_path / "net.pth").read_bytes())
    size = content.rindex(b"PK\1\2") + 24  # of an entry, in the directory
    content[size : size + 4] = (2**30).to_bytes(4, "little")
    (tmp_path / "nested.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"nested\.pth has entries that lie in each other"):
        weights.load_network(small_arch(), tmp_path / "nested.pth")


@pytest.mark.parametrize(
    "name", ["conv_head.weight", "classifier.weight", "blocks.0.0.ghost1.cheap_operation.0.weight"]
)
@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("torch.sparse_coo", torch.Tensor.to_sparse),
        ("without data", lambda tensor: tensor.to("meta")),
        ("torch.complex64", lambda tensor: tensor.to(torch.complex64)),
        ("torch.int8", lambda tensor: tensor.to(torch.int8)),
        pytest.param(
            "torch.float4_e2m1fn_x2",
            lambda tensor: tensor.to(torch.uint8).view(torch.float4_e2m1fn_x2),
            marks=pytest.mark.skipif(not hasattr(torch, "float4_e2m1fn_x2"), reason="this PyTorch has no such type"),
        ),
    ],
)
def test_tensors_that_can_be_no_weights_are_refused_by_name(kind, make, name, tmp_path):
    state = GhostNet(small_arch(), 5).state_dict()
    torch.save(state | {name: make(state[name])}, tmp_path / "net.pth")
    for load in (lambda path: weights.load_network(small_arch(), path), load_parent):
        with pytest.raises(WeightsError, match=rf"net.pth: '{name}' must be a dense tensor of real .* is {kind}"):
            load(tmp_path / "net.pth")


@pytest.mark.parametrize("order", [None, "grouped"])
def test_a_tensor_without_dimensions_is_refused_wherever_it_stands(order, tmp_path):
    arch = Arch(stages=((Block(mid_chs=24, out_chs=12, ratio=3),),), stem_chs=8, tail_chs=20, head_chs=16)
    state = GhostNet(arch, 5).state_dict()
    for name in state:
        if not name.endswith("num_batches_tracked"):
            torch.save(state | {name: torch.tensor(1.0)}, tmp_path / "net.pth")
            for arguments in ({}, {"arch": arch}):
                with pytest.raises(WeightsError, match=r"net\.pth"):
                    load_parent(tmp_path / "net.pth", order=order, **arguments)
            with pytest.raises(WeightsError, match=r"net\.pth"):
                weights.load_network(arch, tmp_path / "net.pth", order)


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200), st.sampled_from((".pth", ".safetensors")))
def test_any_bytes_are_refused_in_one_line(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("bytes") / f"net{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as error:
        weights.load_network(small_arch(), path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("name", ["none.pth", "none.safetensors", "."])
def test_no_file(name, tmp_path):
    with pytest.raises(WeightsError, match=r"No such file|must be a file, but it is a folder"):
        weights.read_weights(tmp_path / name)


def theirs(arch: Arch, num_classes: int) -> nn.Module:
    """The architecture built of timm's grouped modules, with our stem, shortcuts and head: an independent form."""
    net = GhostNet(arch, num_classes)
    blocks = [block for stage in list(net.blocks)[:-1] for block in stage]
    chs = arch.stem_chs
    for module, block in zip(blocks, arch.blocks, strict=True):
        module.ghost1 = TheirModule(chs, block.mid_chs, ratio=block.ratio, dw_size=block.cheap_kernel)
        sizes = {"ratio": block.ratio, "dw_size": block.cheap_kernel}
        module.ghost2 = TheirModule(block.mid_chs, block.out_chs, act_layer=nn.Identity, **sizes)
        chs = block.out_chs
    return net


def grouped_arch(ratio: int, widths: tuple[int, int, int, int] = (24, 12, 36, 24)) -> Arch:
    """Widths whose slice cuts at most one ghost of a primary at the ratios tested."""
    a, b, c, d = widths
    stages = (
        (Block(mid_chs=a, out_chs=b, ratio=ratio),),  # an identity shortcut from the stem
        (
            Block(mid_chs=c, out_chs=d, ratio=ratio, stride=2, se_ratio=0.25, cheap_kernel=5),
            Block(mid_chs=c, out_chs=d, ratio=ratio, se_ratio=0.25),
        ),
    )
    return Arch(stages=stages, stem_chs=b, tail_chs=20, head_chs=16, resolution=16)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    ("ratio", "widths"), [(2, (25, 13, 37, 23)), (3, (24, 12, 36, 24)), (3, (23, 12, 35, 24)), (4, (24, 12, 35, 24))]
)
def test_grouped_ghosts_become_ours_with_the_same_outputs(ratio, widths, train, tmp_path):
    arch = grouped_arch(ratio, widths)
    other = randomise(theirs(arch, 5)).double().train(train)
    torch.save(other.state_dict(), tmp_path / "theirs.pth")
    net = weights.load_weights(GhostNet(arch, 5).double(), tmp_path / "theirs.pth", order="grouped").train(train)
    x = torch.randn(3, 3, 17, 17, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(net(x), other(x), rtol=1e-10, atol=1e-10)


def test_the_order_is_asked_for_where_shapes_do_not_tell(tmp_path):
    torch.save(theirs(grouped_arch(4), 5).state_dict(), tmp_path / "theirs.pth")
    with pytest.raises(WeightsError, match="order='grouped'"):
        weights.load_network(grouped_arch(4), tmp_path / "theirs.pth")


def test_what_has_no_exact_form_is_refused(tmp_path):
    two_cut = grouped_arch(3, (25, 12, 36, 24))  # 25 = 3 x 9 - 2
    torch.save(theirs(two_cut, 5).state_dict(), tmp_path / "theirs.pth")
    with pytest.raises(WeightsError, match=r"blocks\.0\.0\.ghost1 .* cuts two ghosts"):
        weights.load_network(two_cut, tmp_path / "theirs.pth")
    stages = ((Block(mid_chs=24, out_chs=12, ratio=3), Block(mid_chs=24, out_chs=12, ratio=4)),)
    mixed = Arch(stages=stages, stem_chs=12, tail_chs=20, head_chs=16)
    torch.save(theirs(mixed, 5).state_dict(), tmp_path / "theirs.pth")
    with pytest.raises(WeightsError, match=r"s changes along the shortcut of blocks\.0\.1"):
        weights.load_network(mixed, tmp_path / "theirs.pth", order="grouped")


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."])
def test_names_that_compiling_or_wrapping_put_a_prefix_before(prefix, tmp_path):
    net = GhostNet(published("ghostnet-0.5"), 10)
    torch.save({"state_dict": {f"{prefix}{k}": v for k, v in net.state_dict().items()}}, tmp_path / "w.pth")
    again = weights.load_weights(GhostNet(published("ghostnet-0.5"), 10), tmp_path / "w.pth")
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))
    twice = net.state_dict() | {f"{prefix}{k}": v for k, v in net.state_dict().items()}
    torch.save(twice, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="twice"):
        weights.load_weights(net, tmp_path / "w.pth")


def test_files_of_timms_checkpoint_saver_are_read_and_no_other_class_is(tmp_path):
    """Its files hold the script's options as an `argparse.Namespace`, beside the tensors."""
    from timm.utils import CheckpointSaver

    net = GhostNet(published("ghostnet-0.5"), 10)
    saver = CheckpointSaver(
        net,
        torch.optim.SGD(net.parameters(), lr=0.1),
        args=argparse.Namespace(model="ghostnet_050", lr=0.1, mean=(0.5, 0.5)),
        checkpoint_dir=str(tmp_path),
        recovery_dir=str(tmp_path),
    )
    saver.save_checkpoint(epoch=0, metric=1.0)
    again = weights.load_weights(GhostNet(published("ghostnet-0.5"), 10), tmp_path / "last.pth.tar")
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))
    torch.save({"state_dict": net.state_dict(), "args": Path("x")}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="not a file of tensors alone"):
        weights.load_weights(net, tmp_path / "other.pth")
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


def test_ctrl_c_while_weights_are_read_is_no_fault_of_the_file(tmp_path):
    file = tmp_path / "net.safetensors"
    weights.save_weights(GhostNet(published("ghostnet-1.0"), 10), file)
    rng, interrupted = random.Random(0), 0
    started = time.process_time()
    weights.read_weights(file)
    taken = time.process_time() - started
    before = signal.signal(signal.SIGVTALRM, signal.default_int_handler)
    try:
        while interrupted < 40 and time.process_time() < started + 60:
            try:
                signal.setitimer(signal.ITIMER_VIRTUAL, rng.uniform(1e-5, taken))
                weights.read_weights(file)
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert interrupted == 40
