"""Checkpoints: one that can't be gone on from is damaged, whatever is wrong with it, and the one before it is taken."""

import errno
import io
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from search.errors import UserError
from search.recipes.schema import Training
from search.training.loop import _State
from search.training.optimizer import create_optimizer, create_schedule

STEPS = 100


def state(path, optimizer="sgd", of="x", seed=0) -> _State:
    """A training of a tiny network, on from what is there."""
    torch.manual_seed(seed)
    config, net = Training(epochs=2, optimizer=optimizer), nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    created = create_optimizer(net, config)
    create_schedule(created, config, STEPS, 50)
    return _State(net, created, torch.amp.GradScaler("cpu", enabled=False), None, path, {"what": of}, STEPS)


def trained(path, optimizer="sgd") -> _State:
    """After two steps, each saved."""
    training = state(path, optimizer)
    for _ in range(2):
        training.parts["model"](torch.randn(2, 1, 5, 5)).square().sum().backward()
        training.parts["optimizer"].step()
        training.step, training.at, training.loss = training.step + 1, training.at + 1, 0.5
        training.save()
    return training


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsproptf", "lamb"])
def test_a_whole_one_is_gone_on_from_exactly(optimizer, tmp_path):
    before, after = trained(tmp_path / "c.pt", optimizer), state(tmp_path / "c.pt", optimizer, seed=1)
    assert after.step == 2
    for training in (before, after):
        training.parts["optimizer"].zero_grad()
        training.parts["model"](torch.ones(2, 1, 5, 5)).square().sum().backward()
        training.parts["optimizer"].step()
    for one, other in zip(before.parts["model"].parameters(), after.parts["model"].parameters(), strict=True):
        assert torch.equal(one, other)


def reshaped(values):
    values["model"]["0.weight"] = values["model"]["0.weight"].flatten()


DAMAGE = {
    "no model": lambda values: values.pop("model"),
    "no step": lambda values: values.pop("step"),
    "another key": lambda values: values.update(more=1),
    "a step beyond the training's": lambda values: values.update(step=10**9),
    "a schedule beyond its end": lambda values: values.update(at=101.0),
    "more steps than a time box may have": lambda values: values.update(step=10, skipped=0),
    "a step before the first": lambda values: values.update(step=-1),
    "a step that is none": lambda values: values.update(step="2"),
    "more skipped than made": lambda values: values.update(skipped=3),
    "a loss that is no number": lambda values: values.update(loss=float("nan")),
    "a weight that is missing": lambda values: values["model"].pop("0.weight"),
    "a weight of another shape": reshaped,
    "a weight of another type": lambda values: values["model"].update({"0.weight": 1.0}),
    "no momentum": lambda values: values["optimizer"]["state"][0].pop("momentum_buffer"),
    "a momentum of another shape": lambda values: values["optimizer"]["state"][0].update(momentum_buffer=torch.ones(3)),
    "a parameter too many": lambda values: values["optimizer"]["state"].update({99: {}}),
    "a group too few": lambda values: values["optimizer"]["param_groups"].pop(),
    "an option of another value": lambda values: values["optimizer"]["param_groups"][0].update(weight_decay=0.7),
    "a switch that is on": lambda values: values["optimizer"]["param_groups"][0].update(foreach=True),
    "a rate that is no number": lambda values: values["optimizer"]["param_groups"][0].update(lr=float("inf")),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_the_one_before_a_damaged_one_is_taken(what, tmp_path):
    path = tmp_path / "c.pt"
    trained(path)
    values = torch.load(path, weights_only=True)
    DAMAGE[what](values)
    torch.save(values, path)
    assert state(path, seed=1).step == 1
    torch.save(values, tmp_path / "previous-c.pt")
    fresh, begun = state(tmp_path / "none.pt", seed=1), state(path, seed=1)
    assert begun.step == 0
    for one, other in zip(fresh.parts["model"].parameters(), begun.parts["model"].parameters(), strict=True):
        assert torch.equal(one, other)  # nothing of what was damaged is in it


def test_a_damaged_one_never_takes_the_place_of_the_one_before(tmp_path, monkeypatch):
    """Not even where the disk is full when the next is written."""
    path = tmp_path / "c.pt"
    trained(path)
    path.write_bytes(path.read_bytes()[:100])
    resumed = state(path)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr("search.training.checkpoint.write_bytes", full)
        resumed.save()
    assert resumed.step == state(path).step == 1
    for step in (2, 3):
        resumed.step, resumed.at = step, float(step)
        resumed.save()
    assert state(path).step == 3
    path.write_bytes(b"")
    assert state(path).step == 2


def test_one_that_unpacks_to_more_than_it_is_is_damaged_and_stays_packed(tmp_path, monkeypatch):
    path, loads = tmp_path / "c.pt", list[int]()
    trained(path)
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as whole, zipfile.ZipFile(path, "w", 8) as packed:
        for entry in whole.infolist():
            packed.writestr(entry.filename, whole.read(entry))
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: loads.append(1) or load(*a, **k))
    assert state(path).step == 1 and len(loads) == 1  # the one before


def test_one_with_a_flipped_bit_is_damaged(tmp_path):
    path = tmp_path / "c.pt"
    trained(path)
    with zipfile.ZipFile(path) as archive:
        tensor = next(entry for entry in archive.infolist() if "/data/" in entry.filename)
        value = archive.read(tensor)
    content = bytearray(path.read_bytes())
    content[content.index(value)] ^= 1
    path.write_bytes(content)
    assert state(path).step == 1


def reader_fails(monkeypatch, error: BaseException) -> None:
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(Path, "read_bytes", fail)


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), PermissionError, r"Permission denied: '.*c\.pt'"),
        (OSError(errno.EIO, "Input/output error"), OSError, r"Input/output error: '.*c\.pt'"),
        (MemoryError(), UserError, r"c\.pt can't be read: there is not enough memory"),
    ],
)
def test_one_that_cannot_be_read_is_not_damaged(error, expected, message, tmp_path, monkeypatch):
    path = tmp_path / "c.pt"
    trained(path)
    with monkeypatch.context() as patch, pytest.raises(expected, match=message):
        reader_fails(patch, error)
        state(path)
    assert state(path).step == 2


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_memory_that_is_short_damages_none(error, tmp_path, monkeypatch):
    path = tmp_path / "c.pt"
    trained(path)

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"c\.pt can't be read: there is not enough"):
        patch.setattr(torch, "load", fail)
        state(path)
    assert state(path).step == 2


def test_one_of_another_training_is_refused_not_passed_over(tmp_path):
    trained(tmp_path / "c.pt")
    with pytest.raises(UserError, match="is of another training: what is x, not y"):
        state(tmp_path / "c.pt", of="y")


class TwoLayers(nn.Module):
    """Whose second layer is not in every network."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x, both):
        return self.second(self.first(x)) if both else self.first(x)


def two_layers(path, optimizer) -> _State:
    torch.manual_seed(0)
    config, net = Training(epochs=2, optimizer=optimizer), TwoLayers()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return _State(net, create_optimizer(net, config), scaler, None, path, {"what": "x"}, STEPS)


def train_layers(training: _State, steps: str) -> None:
    """One step for each letter: on `1` layer or on `2`."""
    for k, letter in enumerate(steps):
        training.parts["optimizer"].zero_grad(set_to_none=True)
        training.parts["model"](torch.full((2, 4), 1.0 + k), letter == "2").square().sum().backward()
        training.parts["optimizer"].step()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsproptf", "lamb"])
def test_a_layer_may_have_its_first_gradient_late_and_after_a_resumption(optimizer, tmp_path):
    whole, killed = two_layers(tmp_path / "whole.pt", optimizer), two_layers(tmp_path / "killed.pt", optimizer)
    before = killed.parts["model"].second.weight.clone()
    train_layers(whole, "11")
    train_layers(killed, "11")
    killed.save()
    values = torch.load(tmp_path / "killed.pt", weights_only=True)
    for number, state in list(values["optimizer"]["state"].items()):  # as earlier versions saved it
        if not any(value.count_nonzero() for value in state.values()):
            del values["optimizer"]["state"][number]
    torch.save(values, tmp_path / "earlier.pt")
    resumed = [two_layers(tmp_path / name, optimizer) for name in ("killed.pt", "earlier.pt")]
    for training in (whole, *resumed):
        train_layers(training, "2122")
    weights = whole.parts["model"].state_dict()
    assert not torch.equal(weights["second.weight"], before) and all(
        bool(weight.isfinite().all()) for weight in weights.values()
    )
    for training in resumed:
        for name, weight in training.parts["model"].state_dict().items():
            assert torch.equal(weight, weights[name]), name


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_pytorchs_plain_loop(momentum):
    """With Nesterov momentum where there is any, and with a layer that has its first gradient in the third step."""
    torch.manual_seed(0)
    ours, theirs = TwoLayers(), TwoLayers()
    theirs.load_state_dict(ours.state_dict())
    config = Training(epochs=1, lr=0.01, momentum=momentum, weight_decay=0.0)
    plain = torch.optim.SGD(theirs.parameters(), 0.01, momentum, nesterov=momentum > 0, foreach=False)
    for net, optimizer in ((ours, create_optimizer(ours, config)), (theirs, plain)):
        for both in (False, False, True, False, True):
            optimizer.zero_grad(set_to_none=True)
            net(torch.ones(2, 4), both).square().sum().backward()
            optimizer.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)
