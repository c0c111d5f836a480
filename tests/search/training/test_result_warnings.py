"""What makes a training's result doubtful is said; norms are settled after a training too short for them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import binom

from ghostnet.resize import resized
from ghostnet.weights import load_network
from search.data.datasets import load_data
from search.errors import UserError
from search.recipes.schema import SupernetTraining, Training
from search.training.elastic import train_supernet
from search.training.loop import fit
from search.training.metadata import space_for
from search.training.records import Outcome
from search.training.result_warnings import chance_warnings, schedule_warnings, tuning_warnings
from search.training.retrain import NORM_WARM_UP, retrain
from search.training.time_box import TimeBox

CPU = torch.device("cpu")
SPACE = space_for("digits", 10, 1)
QUICK = Training(epochs=1, batch_size=32)


@pytest.fixture(scope="module")
def data():
    return load_data("digits", 16, limit=160)


def outcome(steps: int, planned: int, **more) -> Outcome:
    return Outcome(
        epochs=steps / 10,
        planned_epochs=planned / 10,
        steps=steps,
        planned_steps=planned,
        skipped_steps=0,
        seconds=1.0,
        loss=1.0,
        **more,
    )


def test_a_schedule_of_under_a_tenth_is_doubtful():
    doubt = "a time box left 9 of the schedule's 100 steps, which trains next to nothing"
    assert schedule_warnings(outcome(9, 100)) == [doubt]
    assert schedule_warnings(outcome(10, 100)) == schedule_warnings(outcome(1, 1)) == []
    assert schedule_warnings(outcome(99, 3000)) and not schedule_warnings(outcome(100, 3000))


def test_what_ended_a_training_is_recorded_and_in_files_of_earlier_versions_a_time_box_where_it_was_short():
    assert outcome(9, 100).ended == "time box"
    assert outcome(100, 100).ended == "schedule"
    assert outcome(9, 100, ended="schedule").ended == "schedule"


@pytest.mark.parametrize("per_epoch", [1, 7, 157, 999])
def test_the_epochs_that_repeat_a_training_have_its_steps(per_epoch):
    for steps in (1, 78, 100, 1001, 54_321):
        known = outcome(steps, steps).model_copy(update={"epochs": round(steps / per_epoch, 3)})
        again = Training(epochs=max(known.repeated_epochs, 1e-9), batch_size=32)
        assert again.steps(per_epoch) == steps or known.epochs < 0.1


def test_a_network_that_got_worse_by_more_than_a_standard_error_is_doubtful():
    assert tuning_warnings(0.8, 0.77, 100) == tuning_warnings(0.8, 0.9, 100) == []  # one standard error is .04
    (doubt,) = tuning_warnings(0.8, 0.75, 10_000)
    assert "from 80.00% to 75.00% of 10000 held-out images" in doubt


@pytest.mark.parametrize("counts", [(100, 100, 100), (250, 30, 20)])
def test_an_accuracy_is_held_against_guessing_the_most_frequent_class(counts):
    """Of results that guessing gives, about 97.7 % are doubtful: within two standard errors, or below."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    images, guess = sum(counts), max(counts) / sum(counts)
    doubtful = [bool(chance_warnings(right / images, labels, "accuracy")) for right in range(images + 1)]
    assert doubtful == sorted(doubtful, reverse=True) and doubtful[max(counts)] and not doubtful[-1]
    mass = binom.pmf(np.arange(images + 1), images, guess)[doubtful].sum()
    assert 0.96 < mass < 0.99


def test_networks_that_learned_nothing_say_so_in_their_files(data, tmp_path):
    nothing = replace(data, train=replace(data.train, labels=data.train.labels.flip(0)[torch.randperm(160)]))
    metadata = retrain(SPACE.smallest, nothing, QUICK.model_copy(update={"lr": 1e-6}), tmp_path / "net", device=CPU)
    assert metadata.warnings == json.loads((tmp_path / "net/trained.json").read_text())["warnings"]
    assert [message.split(",")[0] for message in metadata.warnings] == ["test accuracy"]
    config = SupernetTraining(epochs=1, batch_size=32, random=0, lr=1e-6)
    metadata = train_supernet(SPACE, nothing, config, tmp_path / "supernet", device=CPU)
    assert [message.split(",")[0] for message in metadata.warnings] == ["the largest network's accuracy"]


def test_a_time_box_that_trains_nothing_says_so(data, tmp_path):
    config = QUICK.model_copy(update={"epochs": 1000.0})
    metadata = retrain(SPACE.smallest, data, config, tmp_path / "net", device=CPU, box=TimeBox(0.001))
    steps = metadata.training.steps
    assert metadata.warnings[0] == f"a time box left {steps} of the schedule's 5000 steps, which trains next to nothing"


@pytest.mark.parametrize(("every", "refused"), [(5, True), (20, False)])
def test_over_a_tenth_of_steps_without_a_finite_loss_is_an_error(every, refused, data, tmp_path):
    model, seen = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 10)), []

    def step(images, labels, rng):
        seen.append(1)
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        return loss * float("nan") if len(seen) % every == 0 else loss

    def train():
        config = Training(epochs=8, batch_size=32)  # 40 steps
        return fit(model, data, config, step, checkpoint=tmp_path / "c.pt", identity="a", seed=0, device=CPU, title="a")

    if refused:
        with pytest.raises(UserError, match="not finite in 8 of 40 steps, at most 10% are passed over; a lower `lr`"):
            train()
    else:
        assert train().skipped_steps == 2


def test_a_short_training_leaves_norms_that_fit_what_they_see(data, tmp_path):
    """Of the first norm, by hand: the mean and the variance of what the calibration images make in front of it."""
    plain = QUICK.model_copy(update={"crop": "none", "flip": False})  # what is trained on is what is calibrated on
    retrain(SPACE.smallest, data, plain, tmp_path / "net", device=CPU)
    net = load_network(SPACE.smallest, tmp_path / "net/weights.safetensors").eval()
    steps = 160 // 32
    assert steps < NORM_WARM_UP
    norm = next(module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d))
    inputs = []
    norm.register_forward_hook(lambda _, given, __: inputs.append(given[0]))
    with torch.no_grad():
        net(resized(data.normalise(data.calibration.images), SPACE.smallest.resolution))
    seen = inputs[0].transpose(0, 1).flatten(1)
    torch.testing.assert_close(norm.running_mean, seen.mean(1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(norm.running_var, seen.var(1), rtol=1e-3, atol=1e-4)
