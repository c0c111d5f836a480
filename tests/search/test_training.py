"""Training: a resumed one equals an unbroken one to the bit, time boxes end on a learning rate of zero, bad losses are
survived or told."""

import numpy as np
import pytest
import torch

from ghostnet.weights import WeightsError, network
from search.data import load
from search.errors import UserError
from search.evaluate import InheritedAccuracy, accuracy, recalibrate
from search.recipe import SupernetTraining, Training
from search.training import loop
from search.training.retrain import retrain
from search.training.sandwich import load_supernet, read_card, space_for, train_supernet

CPU = torch.device("cpu")
SPACE = space_for("digits", 10, 1)
SHORT = SupernetTraining(epochs=1, batch_size=32, random=1, drop_rate=0.2)


@pytest.fixture(scope="module")
def data():
    return load("digits", 16, limit=200)


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, nothing cleans up."""


def killed_after(steps: int, monkeypatch) -> None:
    """Checkpoints after every step, and dies in the middle."""
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    done = []
    original = loop._State.save

    def save(state):
        original(state)
        done.append(1)
        if len(done) == steps:
            raise Killed

    monkeypatch.setattr(loop._State, "save", save)


def test_a_resumed_supernet_equals_an_unbroken_one(data, tmp_path, monkeypatch):
    train_supernet(SPACE, data, SHORT, tmp_path / "whole", device=CPU)
    with monkeypatch.context() as patch:
        killed_after(3, patch)
        with pytest.raises(Killed):
            train_supernet(SPACE, data, SHORT, tmp_path / "killed", device=CPU)
    card = train_supernet(SPACE, data, SHORT, tmp_path / "killed", device=CPU)
    assert card["training"]["steps"] == 6
    whole, killed = load_supernet(tmp_path / "whole").state_dict(), load_supernet(tmp_path / "killed").state_dict()
    assert all(torch.equal(whole[name], killed[name]) for name in whole)


def test_a_resumed_retraining_equals_an_unbroken_one_and_a_finished_one_is_kept(data, tmp_path, monkeypatch):
    config, arch = Training(epochs=1, batch_size=32, drop_rate=0.2), SPACE.smallest
    whole = retrain(arch, data, config, tmp_path / "whole", device=CPU)
    with monkeypatch.context() as patch:
        killed_after(2, patch)
        with pytest.raises(Killed):
            retrain(arch, data, config, tmp_path / "killed", device=CPU)
    with pytest.raises(UserError, match="is of another training"):
        retrain(SPACE.largest, data, config, tmp_path / "killed", device=CPU)
    killed = retrain(arch, data, config, tmp_path / "killed", device=CPU)
    strip = lambda card: card | {"training": card["training"] | {"seconds": 0}}  # noqa: E731
    assert strip(whole) == strip(killed)
    files = [tmp_path / name / "weights.safetensors" for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert retrain(arch, data, config, tmp_path / "whole", device=CPU)["training"] == whole["training"]


def test_training_learns_and_the_saved_network_is_the_one_tested(data, tmp_path):
    card = retrain(SPACE.uniform(0.5), data, Training(epochs=8, batch_size=32), tmp_path / "net", device=CPU)
    assert card["test_accuracy"] > 0.5  # chance is 0.1
    weights = tmp_path / "net" / "weights.safetensors"
    net = network(SPACE.uniform(0.5), weights)
    assert (net.num_classes, net.in_chs) == (10, 1)
    assert accuracy(net, data, data.test) == card["test_accuracy"]
    with pytest.raises(WeightsError, match=f"not weights of architecture {SPACE.smallest.id}"):
        network(SPACE.smallest, weights)


def test_a_time_box_ends_the_training_with_its_schedule(data, tmp_path, monkeypatch):
    rates = []
    from timm.scheduler import CosineLRScheduler

    original = CosineLRScheduler.step_update

    def spy(self, *args, **kwargs):
        original(self, *args, **kwargs)
        rates.append(self.optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(CosineLRScheduler, "step_update", spy)
    config = Training(epochs=100_000, batch_size=32, lr=0.1)
    card = retrain(SPACE.smallest, data, config, tmp_path / "net", device=CPU, seconds=4)
    assert card["training"]["epochs"] < 1000 and card["training"]["seconds"] < 30
    assert max(rates) > 0.05 and rates[-1] < 0.02


def test_a_loss_that_stays_infinite_ends_with_a_word_and_one_that_passes_is_skipped(data, tmp_path):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 10))
    config = Training(epochs=10, batch_size=20)
    calls = []

    def step(images, labels, rng, bad):
        calls.append(1)
        loss = torch.nn.functional.cross_entropy(net(images), labels)
        loss = loss * (float("nan") if bad(len(calls)) else 1)
        loss.backward()
        return loss.item()

    arguments = {"of": "a linear layer", "seed": 0, "device": CPU, "title": "test"}
    done = loop.fit(
        net, data, config, lambda *a: step(*a, lambda k: k % 5 == 0), checkpoint=tmp_path / "a", **arguments
    )
    assert done.skipped_steps == 20 and all(torch.isfinite(p).all() for p in net.parameters())
    with pytest.raises(UserError, match="no finite loss in 20 steps"):
        loop.fit(net, data, config, lambda *a: step(*a, lambda k: True), checkpoint=tmp_path / "b", **arguments)


def test_recalibration_gives_the_statistics_of_the_calibration_split(data, tmp_path):
    train_supernet(SPACE, data, SHORT, tmp_path / "net", device=CPU)
    evaluate = InheritedAccuracy(load_supernet(tmp_path / "net"), data)
    arch = SPACE.sample(np.random.default_rng(0))
    net = evaluate.network(arch)
    images = data.normalise(data.calibration.images)
    with torch.no_grad():
        stem = net.conv_stem(images)
    torch.testing.assert_close(net.bn1.running_mean, stem.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(net.bn1.running_var, stem.var((0, 2, 3)), rtol=1e-3, atol=1e-4)
    assert evaluate(arch) == evaluate(arch)  # nothing is left behind in the supernet
    before = net.bn1.momentum
    recalibrate(net, data)
    assert net.bn1.momentum == before


def test_cards_of_other_things_are_refused(tmp_path):
    with pytest.raises(UserError, match="no finished supernet"):
        read_card(tmp_path)
    (tmp_path / "supernet.json").write_text('{"space": 3}')
    with pytest.raises(UserError, match="no supernet's card"):
        read_card(tmp_path)
